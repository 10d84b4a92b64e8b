"""Grants in Evergrant's database, as if they had been adopted, and whether each still holds its newest token."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID, uuid5

import psycopg
from psycopg.abc import Query

from tests.bench.tokens import access_token, read_refresh_token, refresh_token
from tests.bench.world import CLIENT
from worker.domain.secret import Secret
from worker.storage.sealing import ACCESS_TOKEN, REFRESH_TOKEN, KeyRing

ACCESS_LIFE: Final = timedelta(hours=1)
_NAMESPACE: Final = UUID("6ba7b811-9dad-11d1-80b4-00c04fd430c8")  # RFC 9562 appendix: names that are URLs
_COLUMNS: Final = (
    "id", "client", "subject", "state", "access_token", "refresh_token", "issued_at", "access_expires_at", "rotate_at",
    "consented_at",
)  # fmt: skip
_TYPES: Final = ("uuid", "text", "text", "text", "bytea", "bytea", *["timestamptz"] * 4)
_COPY: Final = f"COPY grants ({', '.join(_COLUMNS)}) FROM STDIN (FORMAT BINARY)"


def grant_id(number: int) -> UUID:
    """Return the id of a grant by its number: spread over the whole range, as random ones are."""
    return uuid5(_NAMESPACE, f"grant {number}")


def seed(connection: psycopg.Connection, keys: KeyRing, due: Iterable[tuple[int, datetime]]) -> None:
    """Insert grants with sealed tokens of generation 0.

    Args:
        connection: to Evergrant's database.
        keys: seal the tokens.
        due: number and due time of each.

    """
    with connection.cursor() as cursor, cursor.copy(_COPY.encode()) as copy:
        copy.set_types(_TYPES)
        for number, rotate_at in due:
            copy.write_row(_row(number, rotate_at, keys))


def _row(number: int, rotate_at: datetime, keys: KeyRing) -> tuple[object, ...]:
    row, issued_at = grant_id(number), rotate_at - 0.7 * ACCESS_LIFE
    return (
        row,
        CLIENT,
        f"owner-{number}",
        "active",
        keys.seal(Secret(access_token(number, 0)), ACCESS_TOKEN, row),
        keys.seal(Secret(refresh_token(number, 0)), REFRESH_TOKEN, row),
        issued_at,
        issued_at + ACCESS_LIFE,
        rotate_at,
        issued_at,
    )


def clear(connection: psycopg.Connection) -> None:
    """Remove all grants and what was told of them."""
    connection.execute("TRUNCATE grants, rotations, events, client_status")


def pause(connection: psycopg.Connection) -> None:
    """Hold the client back, as an operator does; `resume` is the start of a run."""
    connection.execute(
        "INSERT INTO client_status (client, paused_by_operator) VALUES (%s, true)"
        " ON CONFLICT (client) DO UPDATE SET paused_by_operator = true",
        [CLIENT],
    )


def resume(connection: psycopg.Connection) -> None:
    """Let the client be refreshed."""
    connection.execute("UPDATE client_status SET paused_by_operator = false WHERE client = %s", [CLIENT])


def count(connection: psycopg.Connection, query: Query) -> int:
    """Return the one number that a query finds."""
    row = connection.execute(query).fetchone()
    assert row is not None
    return int(row[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """Grants whose stored refresh token is not the endpoint's newest."""

    lost: int  #: and no doubt says so
    in_doubt: int  #: answers that nobody read: known of, and the owner's or the provider's to mend


def lost_tokens(connection: psycopg.Connection, keys: KeyRing, newest: array[int]) -> Lost:
    """Compare each stored refresh token with what the endpoint issued last.

    Args:
        connection: to Evergrant's database, with nothing in flight any more.
        keys: open the tokens.
        newest: the endpoint's newest generation of each grant, by number.

    """
    lost = in_doubt = 0
    with connection.transaction(), connection.cursor("tokens") as cursor:
        cursor.itersize = 10_000
        for row, state, sealed in cursor.execute("SELECT id, state, refresh_token FROM grants"):
            read = read_refresh_token(keys.open(sealed, REFRESH_TOKEN, row).reveal().encode())
            if read is not None and newest[read[0]] == read[1]:
                continue
            if state == "in_doubt":
                in_doubt += 1
            else:
                lost += 1
    return Lost(lost=lost, in_doubt=in_doubt)
