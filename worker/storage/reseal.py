"""Re-sealing: what was sealed under an older key is sealed under the one that seals now, while everything goes on.

A batch is a window of a table by its primary key, so that each statement reads a bounded number of rows however many
there are. It never waits for a row that somebody has locked, so it can be in nobody's way for longer than its own few
milliseconds and in no deadlock; and it compares the former ciphertext, so that nothing newer is overwritten. What was
locked or has changed is looked at again by the next pass.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import Row, TextClause, text
from sqlalchemy.ext.asyncio import AsyncEngine

from worker.domain.errors import BrokenSealError, UnknownKeyError
from worker.storage.arrays import array_literal
from worker.storage.sealed_tables import SealedTable
from worker.storage.sealing import KeyRing, header_of, key_id_of

#: Rows of one batch: a transaction of some ten milliseconds.
WINDOW: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """What became of one batch."""

    looked_at: int
    found: int  #: rows that are not sealed under the key that seals now
    resealed: int
    last: Any  #: the last row's primary key; None where there are no more rows
    lacking: Mapping[str, int] = field(default_factory=dict)  #: rows by the id of the key that the ring lacks
    broken: int = 0  #: rows that do not open with the key that they name


async def reseal_window(engine: AsyncEngine, table: SealedTable, keys: KeyRing, after: Any) -> Window:  # noqa: ANN401
    """Seal the rows after a primary key anew where they need it.

    Args:
        engine: the process's connections.
        table: which table.
        keys: open, and seal.
        after: the primary key of the window before, or the table's `lowest`.

    """
    rows = await _read(engine, table, keys, after)
    stale = [row for row in rows if any(getattr(row, column.column) is not None for column in table.columns)]
    lacking: dict[str, int] = {}
    broken = 0
    changes: list[dict[str, Any]] = []
    for row in stale:
        try:
            changes.append(_change(table, keys, row))
        except UnknownKeyError:
            for key_id in {key_id_of(held) for held in _held(table, row)} - set(keys.key_ids):
                lacking[key_id] = lacking.get(key_id, 0) + 1
        except BrokenSealError:
            broken += 1
    return Window(
        looked_at=len(rows),
        found=len(stale),
        resealed=await _write(engine, table, changes) if changes else 0,
        last=rows[-1].key if rows else None,
        lacking=lacking,
        broken=broken,
    )


async def count_sealed_under(engine: AsyncEngine, table: SealedTable, keys: KeyRing) -> Mapping[str, int]:
    """Return how many rows of a table hold something sealed under each key other than the one that seals now."""
    found: dict[str, int] = {}
    after = table.lowest
    while rows := await _read(engine, table, keys, after):
        after = rows[-1].key
        for row in rows:
            for key_id in {key_id_of(held) for held in _held(table, row)}:
                found[key_id] = found.get(key_id, 0) + 1
    return found


async def _read(engine: AsyncEngine, table: SealedTable, keys: KeyRing, after: Any) -> list[Row[Any]]:  # noqa: ANN401
    header = header_of(keys.sealing_id)
    which = {"after": after, "limit": WINDOW, "header": header, "length": len(header)}
    async with engine.connect() as connection:
        return list((await connection.execute(_reading(table), which)).all())


async def _write(engine: AsyncEngine, table: SealedTable, changes: list[dict[str, Any]]) -> int:
    arrays = {
        name: array_literal(sql_type, [change[name] for change in changes])
        for name, sql_type in _array_types(table).items()
    }
    async with engine.begin() as connection:
        return len((await connection.execute(_writing(table), arrays)).all())


def _held(table: SealedTable, row: Row[Any]) -> list[bytes]:
    found = (getattr(row, column.column) for column in table.columns)
    return [held for held in found if held is not None]


def _change(table: SealedTable, keys: KeyRing, row: Row[Any]) -> dict[str, Any]:
    change = {"key": row.key}
    for column in table.columns:
        old = getattr(row, column.column)
        change[f"old_{column.column}"] = old
        change[f"new_{column.column}"] = keys.reseal(old, column, row.bound_to) if old is not None else None
    return change


def _reading(table: SealedTable) -> TextClause:
    # A value that is sealed as it should be, or was erased, comes back as null: only its row's key is of interest.
    columns = ", ".join(
        f"CASE WHEN length({one.column}) > 0 AND substring({one.column} FROM 1 FOR :length) <> :header"
        f" THEN {one.column} END AS {one.column}"
        for one in table.columns
    )
    return text(f"""
        SELECT {table.key} AS key, {table.row} AS bound_to, {columns} FROM {table.name}
         WHERE {table.key} > :after ORDER BY {table.key} LIMIT :limit
    """)  # noqa: S608 -- every inserted part is a constant of `sealed_tables`


def _array_types(table: SealedTable) -> Mapping[str, str]:
    values = {f"{age}_{one.column}": "bytea" for one in table.columns for age in ("old", "new")}
    return {"key": table.key_type, **values}


def _writing(table: SealedTable) -> TextClause:
    types = _array_types(table)
    unnested = ", ".join(f"CAST(:{name} AS {sql_type}[])" for name, sql_type in types.items())
    unchanged = " AND ".join(
        f"(s.old_{one.column} IS NULL OR t.{one.column} = s.old_{one.column})" for one in table.columns
    )
    sets = ", ".join(f"{one.column} = coalesce(s.new_{one.column}, t.{one.column})" for one in table.columns)
    return text(f"""
        WITH s AS (SELECT * FROM unnest({unnested}) AS s ({", ".join(types)})),
        free AS MATERIALIZED (
            SELECT t.{table.key} AS key FROM {table.name} AS t JOIN s ON t.{table.key} = s.key
             WHERE {unchanged} FOR UPDATE OF t SKIP LOCKED)
        UPDATE {table.name} AS t SET {sets}
          FROM s JOIN free ON free.key = s.key
         WHERE t.{table.key} = s.key AND {unchanged}
        RETURNING t.{table.key}
    """)  # noqa: S608 -- every inserted part is a constant of `sealed_tables`
