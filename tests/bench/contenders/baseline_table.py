"""The tables of everybody else: one row a grant and nothing but what is needed, with tokens in clear or sealed."""

from __future__ import annotations

from array import array
from enum import StrEnum
from typing import Final

import psycopg

from tests.bench.tokens import read_refresh_token, refresh_token
from worker.domain.secret import Secret
from worker.storage.sealing import Column, KeyRing

REFRESH_TOKEN: Final = Column("sealed_grants", "refresh_token")
ACCESS_TOKEN: Final = Column("sealed_grants", "access_token")


class BaselineTable(StrEnum):
    """Which of the two tables."""

    CLEAR = "clear_grants"
    SEALED = "sealed_grants"


def create(connection: psycopg.Connection) -> None:
    """Make both tables."""
    for table, kind in ((BaselineTable.CLEAR, "text"), (BaselineTable.SEALED, "bytea")):
        connection.execute(
            f"CREATE TABLE {table} (id bigint PRIMARY KEY, refresh_token {kind} NOT NULL, access_token {kind},"
            " expires_at timestamptz, rotated_at timestamptz)".encode()
        )


def fill(connection: psycopg.Connection, table: BaselineTable, grants: int, keys: KeyRing) -> None:
    """Put that many grants of generation 0 into an empty table."""
    connection.execute(f"TRUNCATE {table}".encode())
    kind = "bytea" if table is BaselineTable.SEALED else "text"
    statement = f"COPY {table} (id, refresh_token) FROM STDIN (FORMAT BINARY)"
    with connection.cursor() as cursor, cursor.copy(statement.encode()) as copy:
        copy.set_types(("bigint", kind))
        for number in range(grants):
            token = refresh_token(number, 0)
            sealed = keys.seal(Secret(token), REFRESH_TOKEN, str(number)) if kind == "bytea" else token
            copy.write_row((number, sealed))
    connection.execute(f"VACUUM ANALYZE {table}".encode())


def lost_tokens(connection: psycopg.Connection, table: BaselineTable, newest: array[int], keys: KeyRing) -> int:
    """Count the grants whose stored refresh token is not the endpoint's newest."""
    lost = 0
    for number, stored in connection.execute(f"SELECT id, refresh_token FROM {table}".encode()).fetchall():
        sealed = table is BaselineTable.SEALED
        token = keys.open(stored, REFRESH_TOKEN, str(number)).reveal() if sealed else str(stored)
        read = read_refresh_token(token.encode())
        lost += read is None or newest[read[0]] != read[1]
    return lost
