"""From an outcome to what is stored: one pure decision, one value for each guarded UPDATE.

Rotated ───────► StoreTokens
Dead ──────────► AddStrike │ RequireReconsent (strikes reached, or a doubt that explains it)
                 │ Postpone      (within the interval of the strike before: it is none)
                 │ MarkSuspect (made of RequireReconsent while too many die at once)
Misconfigured ─► HandBack        (the client's breaker opens instead; the second time the grant waits as well)
                 │ Postpone      (it may be this grant's own: another one is tried first)
Throttled ─────► HandBack        (the client pauses instead)
Unavailable ───► Postpone
InDoubt ───────► EnterDoubt │ RequireReconsent (nothing can be learned any more)
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from worker.domain import schedule
from worker.domain.brake import suspect_wait
from worker.domain.doubt import GiveUp, PresentAgain, plan_doubt
from worker.domain.drift import NO_DRIFT, Drift
from worker.domain.drift import drift as drift_of
from worker.domain.facts import Keep, TokenFacts
from worker.domain.grant import ClaimedGrant
from worker.domain.outcome import (
    Cause,
    Dead,
    InDoubt,
    Misconfigured,
    Outcome,
    Reason,
    Rotated,
    Throttled,
    Tokens,
    Unavailable,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreTokens:
    """The new tokens replace the old ones; strikes, failures and doubt are cleared."""

    tokens: Tokens
    issued_at: datetime
    access_expires_at: datetime
    refresh_expires_at: datetime | None
    rotate_at: datetime
    drift: Drift = NO_DRIFT


@dataclass(frozen=True, slots=True, kw_only=True)
class AddStrike:
    """One more `invalid_grant`; the next attempt comes later, in case the provider erred."""

    cause: Cause
    rotate_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class RequireReconsent:
    """Only the owner can bring this grant back.

    `if_braked` is when it is tried again should too many of its client's grants die at once; None where the brake has
    no say, for the grant's own doubt explains its end, and presenting its token once more would be spending it twice.
    """

    cause: Cause
    if_braked: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkSuspect:
    """It would be dead, but abnormally many of its client's grants are; it is tried again. Made by the brake alone."""

    cause: Cause
    rotate_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Postpone:
    """Nothing was spent; try again later."""

    cause: Cause
    rotate_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class EnterDoubt:
    """The token may have been spent; present it again at `rotate_at`, by the provider's facts."""

    cause: Cause
    rotate_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class HandBack:
    """The grant is as it was before the claim; what was wrong concerns the whole client.

    Unless the same was wrong with this grant before, and another one closed the breaker since: then it may be its own,
    and due first as it is, it would open the breaker again each time.
    """

    cause: Cause
    if_again: datetime | None = None  #: not due before this where the same was wrong with it before; None: as it was


Settlement = StoreTokens | AddStrike | RequireReconsent | MarkSuspect | Postpone | EnterDoubt | HandBack


#: Faults of a request that one grant alone may have, such as a scope of its own: were it due again at once, it would
#: stop its whole client each time.
_MAY_BE_ITS_OWN: Final = (Reason.INVALID_REQUEST, Reason.INVALID_SCOPE)
#: What a grant that may have opened its client's breaker waits at least: a canary closes it in ten seconds, and the
#: ramp after it lets the others pass in less than a minute.
_OTHERS_FIRST: Final = timedelta(minutes=1)


def decide(
    outcome: Outcome,
    *,
    grant: ClaimedGrant,
    facts: TokenFacts,
    keep: Keep,
    issued_at: datetime,
    now: datetime,
    draw: float,
) -> Settlement:
    """Decide what is stored for a claimed grant after its refresh.

    Args:
        outcome: what the token endpoint's answer meant.
        grant: the row as claimed.
        facts: how this provider's refresh tokens behave.
        keep: what the client wants kept alive.
        issued_at: when the request left, on the database's clock: lifetimes count from here.
        now: the database's clock.
        draw: chance in [0, 1), drawn once for this settle.

    """
    match outcome:
        case Rotated(tokens=tokens):
            return store_tokens(
                tokens,
                facts=facts,
                keep=keep,
                issued_at=issued_at,
                consented_at=grant.consented_at,
                draw=draw,
                drift=drift_of(grant, tokens, facts),
            )
        case Dead(cause=cause):
            return _strike(cause, grant=grant, facts=facts, now=now, draw=draw)
        case Throttled(cause=cause):
            return HandBack(cause=cause)
        case Misconfigured(cause=cause) if cause.reason not in _MAY_BE_ITS_OWN:
            again = now + _OTHERS_FIRST + schedule.backoff(grant.failures + 1, draw)
            # What a canary meets while the breaker is open says nothing of the grant that was chosen for it.
            return HandBack(cause=cause, if_again=None if grant.is_canary else again)
        case Unavailable(cause=cause) | Misconfigured(cause=cause):
            again = now + schedule.backoff(grant.failures + 1, draw)
            return Postpone(cause=cause, rotate_at=max(again, _interval_ends(grant) or again))
        case InDoubt(cause=cause):
            return _doubt(cause, grant=grant, facts=facts, issued_at=issued_at, now=now, draw=draw)


def store_tokens(
    tokens: Tokens,
    *,
    facts: TokenFacts,
    keep: Keep,
    issued_at: datetime,
    consented_at: datetime | None,
    draw: float,
    drift: Drift = NO_DRIFT,
) -> StoreTokens:
    """Work out the instants that go with freshly issued tokens, from a refresh or a consent alike.

    Args:
        tokens: what came.
        facts: how the provider's refresh tokens behave.
        keep: what the client wants kept alive.
        issued_at: when the request left, on the database's clock.
        consented_at: when the owner consented, where that is known.
        draw: chance in [0, 1).
        drift: how the answer differs from what the grant had.

    """
    access = schedule.access_lifetime(tokens.access_lifetime, facts)
    refresh_expires_at = issued_at + _bounded(tokens.refresh_lifetime) if tokens.refresh_lifetime else None
    if facts.refresh_lifetime is not None and consented_at is not None:
        end = consented_at + _bounded(facts.refresh_lifetime)
        refresh_expires_at = min(end, refresh_expires_at) if refresh_expires_at else end
    return StoreTokens(
        tokens=tokens,
        issued_at=issued_at,
        access_expires_at=issued_at + access,
        refresh_expires_at=refresh_expires_at,
        rotate_at=schedule.rotate_at(
            issued_at=issued_at, keep=keep, facts=facts, access=access, refresh=tokens.refresh_lifetime, draw=draw
        ),
        drift=drift,
    )


def _bounded(lifetime: timedelta) -> timedelta:
    # A refresh token may outlive an access token by years; ten of them are beyond any provider's limit.
    return min(lifetime, timedelta(days=3650))


def _strike(
    cause: Cause, *, grant: ClaimedGrant, facts: TokenFacts, now: datetime, draw: float
) -> AddStrike | Postpone | RequireReconsent:
    if grant.is_doubtful and not facts.is_resend_safe:
        # The doubt explains the refusal: the token was spent and its successor never reached us.
        return RequireReconsent(cause=_lost(cause))
    interval_ends = _interval_ends(grant)
    if interval_ends is not None and now < interval_ends:
        # Somebody asked for a token meanwhile: both refusals may be one moment's error.
        return Postpone(cause=cause, rotate_at=interval_ends)
    if grant.strikes + 1 >= facts.strikes:
        return RequireReconsent(cause=cause, if_braked=now + suspect_wait(grant.strikes, draw))
    return AddStrike(cause=cause, rotate_at=now + facts.strike_interval)


def _interval_ends(grant: ClaimedGrant) -> datetime | None:
    """Return before when a further refusal is no further strike; None: it is one."""
    return grant.rotate_at if grant.strikes else None


def _doubt(
    cause: Cause, *, grant: ClaimedGrant, facts: TokenFacts, issued_at: datetime, now: datetime, draw: float
) -> EnterDoubt | RequireReconsent:
    plan = plan_doubt(
        facts=facts,
        now=now,
        # From when it left: the server may have rotated at once, and its reuse grace runs from there.
        doubt_since=grant.doubt_since or issued_at,
        presentations=grant.presentations + 1,
        access_expires_at=grant.access_expires_at,
        draw=draw,
        strike_waits=_interval_ends(grant),
    )
    match plan:
        case PresentAgain(at=at):
            return EnterDoubt(cause=cause, rotate_at=at)
        case GiveUp():
            return RequireReconsent(cause=_lost(cause))


def _lost(cause: Cause) -> Cause:
    return replace(cause, reason=Reason.ROTATION_REPLY_LOST)
