"""The table of everybody else: refresh tokens in clear, one row a grant."""

from __future__ import annotations

from array import array
from typing import Final

import psycopg

from tests.bench.tokens import read_refresh_token, refresh_token

_COPY: Final = b"COPY baseline_grants (id, refresh_token) FROM STDIN"


def fill(connection: psycopg.Connection, grants: int) -> None:
    """Put that many grants of generation 0 into an empty table."""
    connection.execute("TRUNCATE baseline_grants")
    with connection.cursor() as cursor, cursor.copy(_COPY) as copy:
        for number in range(grants):
            copy.write_row((number, refresh_token(number, 0)))
    connection.execute("VACUUM ANALYZE baseline_grants")


def lost_tokens(connection: psycopg.Connection, newest: array[int]) -> int:
    """Count the grants whose stored refresh token is not the endpoint's newest."""
    rows = connection.execute("SELECT refresh_token FROM baseline_grants").fetchall()
    read = [read_refresh_token(str(token).encode()) for (token,) in rows]
    return sum(1 for found in read if found is None or newest[found[0]] != found[1])
