"""Making databases, looking into them, and changing them behind the workers' back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg import sql
from sqlalchemy import Row, text

from worker.bootstrap import Container


def create_database(server: str, name: str, *, template: str = "template1") -> str:
    """Make a database on the server of a URL, as a copy of another, and return its URL."""
    statement = sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template))
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(statement)
    return f"{server.rsplit('/', 1)[0]}/{name}"


async def execute(container: Container, statement: str, **parameters: object) -> None:
    """Run one statement and commit it."""
    async with container.engine.begin() as connection:
        await connection.execute(text(statement), parameters)


async def rows(container: Container, query: str, **parameters: object) -> Sequence[Row[Any]]:
    """Return what a query finds."""
    async with container.engine.connect() as connection:
        return (await connection.execute(text(query), parameters)).all()


async def value(container: Container, query: str, **parameters: object) -> Any:
    """Return the one value that a query finds."""
    [[found]] = await rows(container, query, **parameters)
    return found


async def everything_in(container: Container, table: str) -> str:
    """Return all rows of a table as text, bytes in hexadecimal, to search it for what must not be there."""
    found = await rows(container, f"SELECT CAST({table} AS text) FROM {table}")
    return "\n".join(row[0] for row in found)


async def end_other_sessions(container: Container) -> None:
    """End every session of its database but this one, as a failover does; autovacuum's are not ours to end."""
    await execute(
        container,
        """
        SELECT pg_terminate_backend(pid) FROM pg_stat_activity
         WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()
        """,
    )
