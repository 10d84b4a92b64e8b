"""A client's breaker and throttle: each change is one guarded UPDATE that says whether it changed anything."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from worker.domain.brake import RELEASED_BY, WINDOW
from worker.domain.client_health import CANARY_WAIT, canary_wait
from worker.domain.outcome import Cause

_OPEN: Final = text("""
    WITH opened AS (
        UPDATE client_status
           SET breaker_opened_at = now(), breaker_reason = :reason, breaker_code = :code, failed_canaries = 0,
               canary_at = now() + :wait
         WHERE client = :client AND breaker_opened_at IS NULL
        RETURNING client)
    INSERT INTO events (type, client, data)
    SELECT 'client.paused', client, jsonb_build_object('reason', CAST(:reason AS text), 'code', CAST(:code AS text))
      FROM opened
    RETURNING client
""")
_FAIL_CANARY: Final = text("""
    UPDATE client_status
       SET failed_canaries = failed_canaries + 1, canary_at = now() + :wait, breaker_reason = :reason,
           breaker_code = :code
     WHERE client = :client AND breaker_opened_at IS NOT NULL AND failed_canaries = :failed
    RETURNING client
""")
_CLOSE: Final = text("""
    WITH closed AS (
        UPDATE client_status
           SET breaker_opened_at = NULL, breaker_reason = NULL, breaker_code = NULL, failed_canaries = 0,
               canary_at = NULL, resumed_at = now()
         WHERE client = :client AND breaker_opened_at IS NOT NULL
        RETURNING client)
    INSERT INTO events (type, client, data)
    SELECT 'client.resumed', client, '{"reason": "breaker_closed"}'::jsonb FROM closed
    RETURNING client
""")
_THROTTLE: Final = text("""
    UPDATE client_status SET throttled_until = greatest(throttled_until, now() + :wait)
     WHERE client = :client
    RETURNING client
""")
_SUSPECT_REFRESHED: Final = text("""
    WITH counted AS (
        UPDATE client_status
           SET suspects_refreshed = suspects_refreshed + 1,
               braked_at = CASE WHEN suspects_refreshed + 1 >= :enough THEN NULL ELSE braked_at END,
               resumed_at = CASE WHEN suspects_refreshed + 1 >= :enough THEN now() ELSE resumed_at END
         WHERE client = :client AND braked_at IS NOT NULL
        RETURNING client, braked_at)
    INSERT INTO events (type, client, data)
    SELECT 'client.resumed', client, '{"reason": "brake_released"}'::jsonb FROM counted WHERE braked_at IS NULL
    RETURNING client
""")
#: Every suspect was refreshed, has died or was ended by an operator, and the deaths that put it on are long past.
_RELEASE_OUTWORN: Final = text("""
    WITH released AS (
        UPDATE client_status AS c SET braked_at = NULL, suspects_refreshed = 0, resumed_at = now()
         WHERE braked_at < now() - CAST(:window AS interval)
           AND NOT EXISTS (SELECT FROM grants AS g WHERE g.state = 'suspect' AND g.client = c.client)
        RETURNING client)
    INSERT INTO events (type, client, data)
    SELECT 'client.resumed', client, '{"reason": "brake_released"}'::jsonb FROM released
    RETURNING client
""")
_PAUSE: Final = text("""
    WITH paused AS (
        INSERT INTO client_status (client, paused_by_operator) VALUES (:client, true)
        ON CONFLICT (client) DO UPDATE SET paused_by_operator = true WHERE NOT client_status.paused_by_operator
        RETURNING client)
    INSERT INTO events (type, client, data)
    SELECT 'client.paused', client, '{"reason": "operator"}'::jsonb FROM paused
    RETURNING client
""")
_RESUME: Final = text("""
    WITH resumed AS (
        UPDATE client_status
           SET paused_by_operator = false, throttled_until = NULL, breaker_opened_at = NULL, breaker_reason = NULL,
               breaker_code = NULL, failed_canaries = 0, canary_at = NULL, braked_at = NULL, suspects_refreshed = 0,
               resumed_at = now(),
               brake_overruled_at = CASE WHEN :deaths_are_real THEN now() ELSE brake_overruled_at END
         WHERE client = :client
           AND (paused_by_operator OR breaker_opened_at IS NOT NULL OR braked_at IS NOT NULL
                OR throttled_until > now() OR :deaths_are_real)
        RETURNING client)
    INSERT INTO events (type, client, data)
    SELECT 'client.resumed', client, '{"reason": "operator"}'::jsonb FROM resumed
    RETURNING client
""")
_HOLD: Final = text("""
    SELECT paused_by_operator, throttled_until, breaker_opened_at, breaker_reason, canary_at, now() AS now
      FROM client_status WHERE client = :client
""")
_FAILED: Final = text("SELECT failed_canaries FROM client_status WHERE client = :client")


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """What keeps a client from being refreshed, as of `now` on the database's clock."""

    now: datetime
    paused_by_operator: bool
    throttled_until: datetime | None
    breaker_opened_at: datetime | None
    breaker_reason: str | None
    canary_at: datetime | None


class ClientStatuses:
    """Changes what holds a client back. The row exists: the claim that led here made it."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def open_breaker(self, client: str, cause: Cause, wait: timedelta = CANARY_WAIT) -> bool:
        """Stop refreshing for a client, with a first canary after `wait`; tell whether it was closed until now."""
        parameters = {"client": client, "reason": cause.reason.value, "code": cause.code, "wait": wait}
        async with self._engine.begin() as connection:
            return (await connection.execute(_OPEN, parameters)).first() is not None

    async def canary_failed(self, client: str, cause: Cause) -> bool:
        """Put off the next canary of a client whose breaker is open; tell whether it still was."""
        parameters = {"client": client, "reason": cause.reason.value, "code": cause.code}
        async with self._engine.begin() as connection:
            failed = (await connection.execute(_FAILED, {"client": client})).scalar_one()
            put_off = {**parameters, "failed": failed, "wait": canary_wait(failed + 1)}
            return (await connection.execute(_FAIL_CANARY, put_off)).first() is not None

    async def close_breaker(self, client: str) -> bool:
        """Let a client be refreshed again; tell whether its breaker was open."""
        async with self._engine.begin() as connection:
            return (await connection.execute(_CLOSE, {"client": client})).first() is not None

    async def suspect_refreshed(self, client: str) -> bool:
        """Count a suspect that was refreshed after all; tell whether that released the client's brake."""
        async with self._engine.begin() as connection:
            found = await connection.execute(_SUSPECT_REFRESHED, {"client": client, "enough": RELEASED_BY})
            return found.first() is not None

    async def release_outworn_brakes(self) -> tuple[str, ...]:
        """Take off the brakes that hold no grant any more; returns the clients."""
        async with self._engine.begin() as connection:
            released = await connection.execute(_RELEASE_OUTWORN, {"window": WINDOW})
            return tuple(released.scalars())

    async def pause(self, client: str) -> bool:
        """Stop refreshing for a client by an operator's will; tell whether that changed anything."""
        async with self._engine.begin() as connection:
            return (await connection.execute(_PAUSE, {"client": client})).first() is not None

    async def resume(self, client: str, *, deaths_are_real: bool = False) -> bool:
        """Take away whatever holds a client back, by an operator's will; tell whether anything did.

        Args:
            client: the client.
            deaths_are_real: for `OVERRULED_FOR` the brake does not go on, whatever number of grants dies.

        """
        wanted = {"client": client, "deaths_are_real": deaths_are_real}
        async with self._engine.begin() as connection:
            return (await connection.execute(_RESUME, wanted)).first() is not None

    async def hold(self, client: str) -> Hold | None:
        """Return what holds a client back; None where nothing ever has."""
        async with self._engine.connect() as connection:
            row = (await connection.execute(_HOLD, {"client": client})).one_or_none()
            return Hold(**row._mapping) if row is not None else None  # noqa: SLF001 -- SQLAlchemy's public name

    async def throttle(self, client: str, wait: timedelta) -> bool:
        """Pause a client for a while; a pause that lasts longer already is kept."""
        async with self._engine.begin() as connection:
            return (await connection.execute(_THROTTLE, {"client": client, "wait": wait})).first() is not None
