"""What the API answers: grants, access tokens, clients and events, as JSON."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from worker.domain.grant import GrantState
from worker.storage.client_figures import ClientFigures
from worker.storage.event_log import LoggedEvent
from worker.storage.grants import GrantView
from worker.usecases.access_token import FreshToken
from worker.usecases.operate import AtProvider


class Answer(BaseModel):
    """Base of all answers: nothing in them but what is declared."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class LastError(Answer):
    """Why the last refresh brought no tokens."""

    reason: str
    code: Annotated[str | None, Field(description="The provider's own error code.")]
    status: Annotated[int | None, Field(description="The status of its answer.")]
    at: datetime | None


#: What an answer has in another form than a view.
_MADE_HERE: Final = frozenset({"last_error", "scopes", "lost_scopes"})


class GrantAnswer(Answer):
    """A grant, without its tokens."""

    id: UUID
    client: str
    subject: str
    state: GrantState
    state_reason: str | None
    state_since: datetime
    generation: Annotated[int, Field(description="How often its refresh token has been replaced.")]
    email: str | None
    account: str | None
    scopes: list[str] | None
    lost_scopes: Annotated[list[str], Field(description="Those that the provider gave before, and gives no more.")]
    rotate_at: Annotated[datetime | None, Field(description="When it is refreshed next.")]
    access_expires_at: datetime | None
    refresh_expires_at: datetime | None
    rotated_at: datetime | None
    consented_at: datetime | None
    created_at: datetime
    strikes: int
    failures: int
    last_error: LastError | None

    @classmethod
    def of(cls, view: GrantView) -> GrantAnswer:
        """Return a grant as it is answered."""
        last_error = view.last_error and LastError(
            reason=view.last_error, code=view.last_error_code, status=view.last_error_status, at=view.last_error_at
        )
        same = {name: getattr(view, name) for name in cls.model_fields if name not in _MADE_HERE}
        scopes = list(view.scopes) if view.scopes is not None else None
        lost_scopes = list(view.lost_scopes or ())
        return cls(**same, scopes=scopes, lost_scopes=lost_scopes, last_error=last_error or None)


class GrantPage(Answer):
    """Grants in the order of client and subject."""

    items: list[GrantAnswer]
    next: Annotated[str | None, Field(description="The cursor of the next page; null: this is the last one.")]


class RevokedAnswer(Answer):
    """A grant that has ended on purpose, unless its owner has consented to it again at that moment."""

    grant: GrantAnswer
    at_provider: Annotated[
        AtProvider,
        Field(
            description="Whether the provider has ended it too. Where it has not confirmed that, repeat the request. "
            "`consented_again`: its owner consented meanwhile, so it was left alone and is alive."
        ),
    ]
    erased: Annotated[
        bool, Field(description="Whether none of its tokens is left here. Where some are, repeat the request.")
    ]


class MailAnswer(Answer):
    """A mail that asks an owner to authorize again. It is sent within seconds, unless it is held."""

    id: UUID
    grant: UUID
    recipient: Annotated[str, Field(description="The owner's address, or the client's fallback recipients.")]
    held: Annotated[bool, Field(description="Whether it waits until the client's brake is off.")]


class AccessTokenAnswer(Answer):
    """An access token that is valid for at least `min_ttl`, unless the provider gives none that lives so long."""

    grant: UUID
    access_token: str
    token_type: Literal["Bearer"]
    expires_in: Annotated[int | None, Field(description="Seconds from this answer.")]
    expires_at: datetime | None
    generation: int


def access_token_answer(grant_id: UUID, token: FreshToken) -> dict[str, object]:
    """Return a token as it is answered: an `AccessTokenAnswer`, in JSON's own types."""
    left = int((token.expires_at - token.now).total_seconds()) if token.expires_at is not None else None
    return {
        "grant": str(grant_id),
        "access_token": token.access_token.reveal(),
        "token_type": "Bearer",
        "expires_in": max(left, 0) if left is not None else None,
        "expires_at": token.expires_at.isoformat() if token.expires_at is not None else None,
        "generation": token.generation,
    }


class Breaker(Answer):
    """Why a client is not refreshed since when."""

    reason: str | None
    code: str | None
    opened_at: datetime


class ClientAnswer(Answer):
    """A client: its grants in numbers, and what holds it back."""

    client: str
    provider: Annotated[str | None, Field(description="Null: the client has grants and is not configured any more.")]
    grants: dict[GrantState, int]
    overdue: int
    in_flight: int
    expired_access_tokens: int
    paused_by_operator: bool
    throttled_until: datetime | None
    breaker: Breaker | None
    braked_at: datetime | None

    @classmethod
    def of(cls, found: ClientFigures, provider: str | None) -> ClientAnswer:
        """Return a client as it is answered."""
        opened_at = found.breaker_opened_at
        return cls(
            client=found.client,
            provider=provider,
            grants={state: found.states.get(state, 0) for state in GrantState},
            overdue=found.overdue,
            in_flight=found.in_flight,
            expired_access_tokens=found.expired_access_tokens,
            paused_by_operator=found.paused_by_operator,
            throttled_until=found.throttled_until,
            breaker=Breaker(reason=found.breaker_reason, code=found.breaker_code, opened_at=opened_at)
            if opened_at is not None
            else None,
            braked_at=found.braked_at,
        )


class ClientList(Answer):
    """All clients that are configured or have grants."""

    items: list[ClientAnswer]


class EventAnswer(Answer):
    """Something that happened; no secret stands in it."""

    id: int
    at: datetime
    type: str
    client: str
    grant: UUID | None
    subject: str | None
    data: dict[str, Any]

    @classmethod
    def of(cls, event: LoggedEvent) -> EventAnswer:
        """Return an event as it is answered."""
        return cls(
            id=event.id,
            at=event.at,
            type=event.type,
            client=event.client,
            grant=event.grant_id,
            subject=event.subject,
            data=event.data,
        )


class EventPage(Answer):
    """Events, newest last."""

    items: list[EventAnswer]
    next: Annotated[str, Field(description="The cursor to go on with, now or later: there may be nothing new yet.")]
