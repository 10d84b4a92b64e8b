"""Why there is no access token, as a problem that says what to do next."""

from __future__ import annotations

import math
from http import HTTPStatus
from typing import Final
from uuid import UUID

from worker.bootstrap import Container
from worker.domain.grant import GrantState
from worker.domain.outcome import (
    Dead,
    Failure,
    InDoubt,
    Misconfigured,
    Reason,
    Rotated,
    Throttled,
    Unavailable,
    label,
    reason,
)
from worker.storage.client_status import Hold
from worker.usecases.access_token import (
    AccessTokenResult,
    FreshToken,
    HeldBack,
    NoSuchGrant,
    NotKeptAlive,
    RefreshFailed,
    RefusedLately,
    TooEarly,
)
from worker.web.api.access import no_such_grant
from worker.web.api.problems import Kind, Problem

#: Seconds after which asking again is worth it, where nothing tells when.
_SOON: Final = 1
_LATER: Final = 60
#: Nobody waits for longer without looking again, seconds.
_LONGEST: Final = 3600


async def granted(container: Container, grant_id: UUID, result: AccessTokenResult) -> FreshToken:
    """Return the token that was found.

    Raises:
        Problem: where there is none.

    """
    match result:
        case FreshToken():
            return result
        case NoSuchGrant():
            raise no_such_grant(grant_id)
        case NotKeptAlive(state=state, reason=why):
            raise not_kept_alive(grant_id, state, why)
        case HeldBack(client=client):
            raise _held_back(client, await container.statuses.hold(client))
        case TooEarly(at=at, now=now):
            wait = min(math.ceil((at - now).total_seconds()), _LONGEST)
            detail = "Its provider lets it be refreshed shortly before its access token ends. The stored token is good."
            raise Problem(
                HTTPStatus.CONFLICT, Kind.REFRESH_TOO_EARLY, detail, retry_after=wait, about={"grant": str(grant_id)}
            )
        case RefusedLately(until=until, now=now):
            raise Problem(
                HTTPStatus.SERVICE_UNAVAILABLE,
                Kind.REFRESH_FAILED,
                "The provider has refused the refresh token. It is asked again then, in case that was an error.",
                retry_after=min(math.ceil((until - now).total_seconds()), _LONGEST),
                about={"grant": str(grant_id), "reason": Reason.INVALID_GRANT.value},
            )
        case RefreshFailed(outcome=outcome):
            if isinstance(outcome, Rotated):  # its tokens were stored, and are gone again by now
                raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, Kind.REFRESH_FAILED, "Ask again.", retry_after=_SOON)
            view = await container.grants.show(grant_id)
            if view is not None and view.state is GrantState.RECONSENT_REQUIRED:
                raise not_kept_alive(grant_id, view.state, view.state_reason)
            raise _failed(grant_id, outcome)


def not_kept_alive(grant_id: UUID, state: GrantState, why: str | None) -> Problem:
    """Return the problem of a grant whose state allows no refresh."""
    about = {"grant": str(grant_id), "state": state.value, "reason": why}
    match state:
        case GrantState.RECONSENT_REQUIRED:
            detail = "Ask its owner to authorize again; the same grant then comes back to life."
            return Problem(HTTPStatus.CONFLICT, Kind.GRANT_NEEDS_OWNER, detail, about=about)
        case GrantState.PAUSED:
            detail = "An operator has paused it. It gives tokens again once it is resumed."
            return Problem(HTTPStatus.CONFLICT, Kind.GRANT_PAUSED, detail, about=about)
        case GrantState.REVOKED:
            detail = "It was ended on purpose. Its owner may authorize again."
            return Problem(HTTPStatus.CONFLICT, Kind.GRANT_REVOKED, detail, about=about)
        case GrantState.ACTIVE | GrantState.IN_DOUBT | GrantState.SUSPECT:
            detail = "A refresh was sent and its answer not read. It is found out in time what became of it."
            return Problem(HTTPStatus.SERVICE_UNAVAILABLE, Kind.GRANT_IN_DOUBT, detail, retry_after=_LATER, about=about)


def _held_back(client: str, hold: Hold | None) -> Problem:
    unavailable, about = HTTPStatus.SERVICE_UNAVAILABLE, {"client": client}
    if hold is not None and hold.paused_by_operator:
        detail = "An operator has paused it. Tokens that are stored and fresh are given out meanwhile."
        return Problem(unavailable, Kind.CLIENT_PAUSED, detail, retry_after=_LATER, about=about)
    kind = Kind.CLIENT_HELD_BACK
    if hold is not None and hold.throttled_until is not None and hold.throttled_until > hold.now:
        wait = math.ceil((hold.throttled_until - hold.now).total_seconds())
        detail = "Its provider has asked us to slow down."
        return Problem(unavailable, kind, detail, retry_after=min(wait, _LONGEST), about=about)
    if hold is not None and hold.breaker_opened_at is not None:
        detail = "Its breaker is open: the fault is ours or the provider's. It closes by itself once that is mended."
        return Problem(unavailable, kind, detail, retry_after=_LATER, about={**about, "reason": hold.breaker_reason})
    detail = "It has as many requests under way as it may, or another process has not finished in time."
    return Problem(unavailable, kind, detail, retry_after=_SOON, about=about)


def _failed(grant_id: UUID, failure: Failure) -> Problem:
    about = {"grant": str(grant_id), "reason": reason(failure).value}
    wait, why = _LATER, ""
    match failure:
        case Dead():
            why = "The provider refused the refresh token. It is asked again, in case that was an error."
        case Misconfigured():
            why = "The provider does not accept our registration. No grant is harmed; an operator has to look."
        case Throttled(retry_after=retry_after):
            why = "The provider has asked us to slow down."
            wait = math.ceil(retry_after.total_seconds()) if retry_after is not None else _LATER
        case Unavailable():
            why = "The provider is not available. Nothing was spent, and it is tried again."
        case InDoubt():
            why = "The provider's answer was not read. It is found out in time what became of it."
    detail = f"{why} Outcome: {label(failure)}."
    return Problem(
        HTTPStatus.SERVICE_UNAVAILABLE,
        Kind.REFRESH_FAILED,
        detail,
        retry_after=min(max(wait, 1), _LONGEST),
        about=about,
    )
