"""Many grants at little cost, to make a table large: written by the database itself, with sealed values of true length.

What stands in their token columns opens with no key. They are due later than any measurement lasts, so nobody tries.
"""

from __future__ import annotations

from typing import Final

import psycopg

from tests.bench import population
from tests.bench.tokens import access_token, refresh_token
from tests.bench.world import CLIENT, Say
from worker.domain.secret import Secret
from worker.storage.sealing import ACCESS_TOKEN, REFRESH_TOKEN, KeyRing

#: Rows of one statement: so many take some seconds.
_CHUNK: Final = 250_000
_SECONDARY: Final = """
    SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid) FROM pg_index
     WHERE indrelid = 'grants'::regclass AND NOT indisprimary
"""
# A repeated digest is as good as random bytes here: rows of this size are not compressed.
_BYTES: Final = "substr(decode(repeat(md5(n::text), %s), 'hex'), 1, %s)"
_INSERT: Final = f"""
    INSERT INTO grants (id, client, subject, state, access_token, refresh_token, issued_at, access_expires_at,
                        rotate_at, consented_at)
    SELECT gen_random_uuid(), %s, 'filling-' || n, 'active', {_BYTES}, {_BYTES}, due - interval '42 minutes',
           due + interval '18 minutes', due, due - interval '42 minutes'
      FROM generate_series(%s::bigint, %s::bigint) AS n,
           LATERAL (SELECT now() + interval '1 hour' + (n %% 3600) * interval '1 second' AS due) AS when_due
"""


def grow(connection: psycopg.Connection, keys: KeyRing, before: int, size: int, say: Say) -> None:
    """Add rows to a table that has `before` of them, until it has `size`.

    Args:
        connection: to a database of Evergrant's, whose statements are committed one by one.
        keys: tell how long a sealed token is.
        before: rows that were put there by earlier calls.
        size: rows that there are to be.
        say: shows one line of progress.

    """
    row = population.grant_id(0)
    lengths = (
        len(keys.seal(Secret(access_token(before, 0)), ACCESS_TOKEN, row)),
        len(keys.seal(Secret(refresh_token(before, 0)), REFRESH_TOKEN, row)),
    )
    sealed = [part for length in lengths for part in (length // 16 + 1, length)]
    indexes = connection.execute(_SECONDARY.encode()).fetchall() if size - before >= _CHUNK else []
    connection.execute("SET synchronous_commit = off")
    connection.execute("SET maintenance_work_mem = '512MB'")
    for name, _definition in indexes:
        connection.execute(f"DROP INDEX {name}".encode())
    for first in range(before, size, _CHUNK):
        last = min(first + _CHUNK, size) - 1
        connection.execute(_INSERT.encode(), [CLIENT, *sealed, first, last])
        if last + 1 < size:
            say(f"  {last + 1:,} of {size:,} grants are in the table")
    for _name, definition in indexes:  # made at once is many times faster than kept up row by row
        connection.execute(definition.encode())
    connection.execute("RESET synchronous_commit")
    connection.execute("VACUUM (ANALYZE) grants")
