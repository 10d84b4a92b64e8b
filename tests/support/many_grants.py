"""Tables as they are after a long time of work, filled behind the workers' back in seconds."""

from __future__ import annotations

from typing import Final

import psycopg

#: Enough that PostgreSQL would not read all of it where an index will do.
MANY: Final = 200_000

_GRANTS: Final = """
    INSERT INTO grants (id, client, subject, state, refresh_token, access_expires_at, rotate_at, leased_until,
                        lease_id, spend_started_at, failures, strikes)
    SELECT gen_random_uuid(), CASE WHEN n %% 2 = 0 THEN %(client)s ELSE 'another' END, 'subject-' || n,
           CASE WHEN n %% 1000 = 7 THEN 'reconsent_required' ELSE 'active' END, '\\x00',
           now() + CASE WHEN n %% 500 IN (0, 1) THEN interval '-1 minute' ELSE interval '1 hour' END,
           CASE WHEN n %% 1000 = 7 THEN NULL WHEN n %% 500 = 2 THEN now() - n * interval '1 ms'
                ELSE now() + interval '1 hour' + n * interval '10 ms' END,
           CASE WHEN n %% 1000 = 4 THEN now() + interval '1 minute' END,
           CASE WHEN n %% 1000 = 4 THEN gen_random_uuid() END, CASE WHEN n %% 1000 = 4 THEN now() END,
           CASE WHEN n %% 500 IN (0, 1) THEN 1 ELSE 0 END, CASE WHEN n %% 1000 = 7 THEN 2 ELSE 0 END
      FROM generate_series(1, %(many)s) AS n
"""
# The oldest two hundred are past a day.
_ROTATIONS: Final = """
    INSERT INTO rotations (at, grant_id, client, subject, generation)
    SELECT now() - CASE WHEN n <= 200 THEN interval '25 hours' ELSE interval '23 hours' * (%(many)s - n) / %(many)s END,
           gen_random_uuid(), %(client)s, 'subject-' || n, 1
      FROM generate_series(1, %(many)s) AS n
"""
# As after an import: nearly all of them are about grants that are new. The others are so many that walking them all
# costs more than looking deaths up: of twenty in 200,000 a sample of the statistics may hold none.
_EVENTS: Final = """
    INSERT INTO events (at, type, client)
    SELECT now() - interval '80 days' + n * interval '1 second',
           CASE WHEN n %% 10000 = 3 THEN 'grant.reconsent_required'
                WHEN n %% 50 = 4 THEN 'grant.revived' ELSE 'grant.created' END, %(client)s
      FROM generate_series(1, %(many)s) AS n
"""


def fill(database_url: str, *, client: str) -> None:
    """Put 200,000 grants, rotations and events into a migrated database, half of the grants of one client."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("INSERT INTO client_status (client) VALUES (%s)", [client])
        for statement in (_GRANTS, _ROTATIONS, _EVENTS):
            connection.execute(statement, {"client": client, "many": MANY})
        connection.execute("VACUUM ANALYZE")
