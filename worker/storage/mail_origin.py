"""Where mails come from: grants that have died, and consents that are about to end.

Both are found by looking, not told by whoever ended the grant: a look that was missed is made up for by the next one,
the settle of a death is not slowed, and a grant that died by whichever way is found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncEngine

from worker.domain.reconsent import AHEAD_SHARE, LOOKS_BACK

#: Mails noted in one statement: some ten milliseconds.
_AT_ONCE: Final = 1_000

#: Whether a mail `m` is still to the point, of its grant `g`. A death lies before its mails, the end of a consent
#: behind them; a consent that was given anew has another end.
WANTED: Final = """(
    (m.death <= m.created_at AND g.state = 'reconsent_required' AND g.state_since = m.death)
    OR (m.death > m.created_at AND g.state IN ('active', 'in_doubt', 'suspect')
        AND coalesce(g.consented_at, g.created_at) < m.created_at))
"""
#: To whom a mail about the grant `g` goes, with the fallback recipients of its client `c`.
RECIPIENT: Final = "coalesce(nullif(btrim(g.email), ''), c.fallback)"
#: The clients of this deployment that may be mailed about, as `c`.
CLIENTS: Final = "unnest(CAST(:clients AS text[]), CAST(:fallbacks AS text[])) AS c (client, fallback)"


@dataclass(frozen=True, slots=True, kw_only=True)
class MailedClient:
    """A client as far as its mails are concerned."""

    client: str
    fallback: str | None  #: addresses with commas between them
    due_at: datetime | None = None  #: when its digest goes out; None: each mail when it comes up


_NOTE_DEATHS: Final = text(f"""
    INSERT INTO reconsent_mails (id, grant_id, client, subject, death, kind, recipient, due_at)
    SELECT gen_random_uuid(), g.id, g.client, g.subject, g.state_since, 'death', {RECIPIENT},
           coalesce(c.due_at, g.state_since + CAST(:delay AS interval))
      FROM grants AS g
      JOIN unnest(CAST(:clients AS text[]), CAST(:fallbacks AS text[]), CAST(:due_ats AS timestamptz[]))
           AS c (client, fallback, due_at) ON c.client = g.client
     WHERE g.state = 'reconsent_required' AND g.state_since > now() - CAST(:looks_back AS interval)
       AND {RECIPIENT} IS NOT NULL
       AND NOT EXISTS (SELECT FROM reconsent_mails AS m
                        WHERE m.grant_id = g.id AND m.death = g.state_since AND m.kind = 'death')
     ORDER BY g.state_since LIMIT {_AT_ONCE}
    ON CONFLICT (grant_id, death, kind, number) DO NOTHING
    RETURNING client
""")  # noqa: S608 -- every inserted part is a constant

# One for each consent: answers that count the seconds down put its end a little elsewhere each time.
_NOTE_ENDS: Final = text(f"""
    WITH noted AS (
        INSERT INTO reconsent_mails (id, grant_id, client, subject, death, kind, recipient, state)
        SELECT gen_random_uuid(), g.id, g.client, g.subject, g.refresh_expires_at, 'expiring',
               coalesce({RECIPIENT}, ''), CASE WHEN c.mailed AND {RECIPIENT} IS NOT NULL THEN 'waiting' ELSE 'noted' END
          FROM grants AS g
          JOIN unnest(CAST(:clients AS text[]), CAST(:fallbacks AS text[]), CAST(:mailed AS boolean[]))
               AS c (client, fallback, mailed) ON c.client = g.client
         WHERE g.state IN ('active', 'in_doubt', 'suspect') AND g.refresh_expires_at > now()
           AND g.refresh_expires_at - least(
                   CAST(:ahead AS interval),
                   (g.refresh_expires_at - coalesce(g.consented_at, g.created_at)) * :share) <= now()
           AND NOT EXISTS (SELECT FROM reconsent_mails AS m
                            WHERE m.grant_id = g.id AND m.kind = 'expiring'
                              AND m.created_at > coalesce(g.consented_at, g.created_at))
         ORDER BY g.refresh_expires_at LIMIT {_AT_ONCE}
        ON CONFLICT (grant_id, death, kind, number) DO NOTHING
        RETURNING grant_id, client, subject, death)
    INSERT INTO events (type, client, grant_id, subject, data)
    SELECT 'grant.expiring', client, grant_id, subject, jsonb_build_object(
               'generation', (SELECT generation FROM grants AS g WHERE g.id = grant_id), 'ends_at', death)
      FROM noted
    RETURNING client
""")  # noqa: S608 -- every inserted part is a constant

_CANCEL: Final = text(f"""
    UPDATE reconsent_mails SET state = 'cancelled', last_error = 'the grant needs no mail any more'
     WHERE id IN (SELECT m.id FROM reconsent_mails AS m LEFT JOIN grants AS g ON g.id = m.grant_id
                   WHERE m.state = 'waiting' AND {WANTED} IS NOT TRUE LIMIT {_AT_ONCE})
       AND state = 'waiting'
    RETURNING client
""")  # noqa: S608 -- every inserted part is a constant


async def note_deaths(engine: AsyncEngine, clients: Sequence[MailedClient], delay: timedelta) -> int:
    """Note a mail for each grant of these clients that has died lately and has none; returns how many."""
    parameters = {
        "clients": [client.client for client in clients],
        "fallbacks": [client.fallback for client in clients],
        "due_ats": [client.due_at for client in clients],
        "delay": delay,
        "looks_back": LOOKS_BACK,
    }
    return await _count(engine, _NOTE_DEATHS, parameters)


async def note_ends(
    engine: AsyncEngine, clients: Sequence[MailedClient], *, mailed: frozenset[str], ahead: timedelta
) -> int:
    """Note each consent that is about to end, with an event; returns how many.

    Args:
        engine: the process's connections.
        clients: those whose consents have an end that no refresh moves.
        mailed: those of them whose owners are mailed about it.
        ahead: how long before the end.

    """
    parameters = {
        "clients": [client.client for client in clients],
        "fallbacks": [client.fallback for client in clients],
        "mailed": [client.client in mailed for client in clients],
        "ahead": ahead,
        "share": AHEAD_SHARE,
    }
    return await _count(engine, _NOTE_ENDS, parameters)


async def cancel_outdated(engine: AsyncEngine) -> int:
    """Cancel the mails, reminders above all, whose grants are active again, revoked or gone; returns how many."""
    return await _count(engine, _CANCEL, {})


async def _count(engine: AsyncEngine, statement: TextClause, parameters: dict[str, object]) -> int:
    async with engine.begin() as connection:
        return len((await connection.execute(statement, parameters)).all())
