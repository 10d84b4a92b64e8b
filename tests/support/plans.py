"""Which tables the statements of a piece of work read as a whole, by PostgreSQL's own plans."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Engine, event


@dataclass(frozen=True, slots=True, kw_only=True)
class RanStatement:
    """A statement as the driver was given it."""

    sql: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Plans:
    """The statements that an engine has run, to be explained."""

    statements: list[RanStatement] = field(default_factory=list)

    def read_as_a_whole(self, engine: Engine) -> dict[str, set[str]]:
        """Ask the database for the plans; return the tables that one reads all of, each with the statements."""
        found: dict[str, set[str]] = {}
        with engine.connect() as connection:
            for ran in self.statements:
                explain = f"EXPLAIN (FORMAT JSON) {ran.sql}"
                [plan] = connection.exec_driver_sql(explain, dict(ran.parameters)).scalar_one()
                for table in _whole(plan["Plan"]):
                    found.setdefault(table, set()).add(ran.sql)
        return found


@contextmanager
def plans_of(engine: Engine) -> Iterator[Plans]:
    """Take down what an engine runs meanwhile; `sync_engine` is that of an asynchronous one."""
    plans = Plans()

    def take_down(_connection: object, _cursor: object, sql: str, parameters: Any, *_rest: object) -> None:
        if sql.lstrip().upper().startswith(("SELECT", "WITH", "INSERT", "UPDATE", "DELETE")):
            plans.statements.append(RanStatement(sql=sql, parameters=parameters))

    event.listen(engine, "before_cursor_execute", take_down)
    try:
        yield plans
    finally:
        event.remove(engine, "before_cursor_execute", take_down)


def _whole(node: Mapping[str, Any], *, is_limited: bool = False) -> Iterator[str]:
    kind = node["Node Type"]
    # An index that is walked from its one end to the other is as long as its table.
    walks = kind in {"Index Scan", "Index Only Scan"} and "Index Cond" not in node and not is_limited
    if kind == "Seq Scan" or walks:
        yield node["Relation Name"]
    children: Sequence[Mapping[str, Any]] = node.get("Plans", ())
    for child in children:
        yield from _whole(child, is_limited=is_limited or kind == "Limit")
