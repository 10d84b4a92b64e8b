"""The closed set of faults that the sandbox commits on order."""

from __future__ import annotations

from enum import StrEnum
from http import HTTPStatus
from typing import Annotated, Final, Self

from pydantic import ConfigDict, Field, TypeAdapter, model_validator
from pydantic.dataclasses import dataclass

from worker.sandbox.behaviour import Delay

OVERSIZED_BODY_BYTES: Final = 5 * 1024 * 1024  # well beyond any honest token answer
_MAX_BODY_BYTES: Final = 64 * 1024 * 1024  # one answer is built in memory


class Misbehaviour(StrEnum):
    """One way to misbehave. "Processed" means: as a healthy server would, so a fresh token is consumed."""

    LOST_REPLY = "lost_reply"
    """Processed, then the connection is closed without a byte of answer."""

    CUT_REPLY = "cut_reply"
    """Processed, then the connection is closed in the middle of the answer's body."""

    ERROR_BEFORE = "error_before"
    """A 5xx (`status`, 503 unless said) before anything is processed: the token is still good."""

    ERROR_AFTER = "error_after"
    """A 5xx (`status`, 500 unless said) in place of the answer, after processing."""

    THROTTLED = "throttled"
    """429 with Retry-After of `retry_after` seconds (as a number or an HTTP date); nothing is processed."""

    HTML_PAGE = "html_page"
    """An HTML page (`status`, 200 unless said) in place of the answer; processed only with `after_rotating`."""

    SPURIOUS_INVALID_GRANT = "spurious_invalid_grant"
    """400 `invalid_grant` for a token that is good; nothing is processed."""

    STALL = "stall"
    """Processed at once, answered `stall` seconds later."""

    TRUNCATED_JSON = "truncated_json"
    """Processed; the answer is a well-formed HTTP message whose JSON stops in the middle."""

    OVERSIZED_BODY = "oversized_body"
    """Processed; the tokens follow `size` bytes of padding."""

    OMITTED_REFRESH_TOKEN = "omitted_refresh_token"
    """The answer has no refresh token. The old one stays good, unless `after_rotating`: then the new one is gone."""

    OMITTED_EXPIRES_IN = "omitted_expires_in"
    """Processed; the answer has no `expires_in`."""

    ABSURD_EXPIRES_IN = "absurd_expires_in"
    """Processed; `expires_in` is the ordered value."""

    REVOKED_CONSENT = "revoked_consent"
    """The family is revoked from now on; the answer is the `invalid_grant` that follows from it."""

    WRONG_CONTENT_TYPE = "wrong_content_type"
    """Processed; the answer is complete but says it is `text/html`."""


_SERVER_ERRORS: Final = frozenset({Misbehaviour.ERROR_BEFORE, Misbehaviour.ERROR_AFTER})


class Step(StrEnum):
    """Which token request an order waits for."""

    REFRESH = "refresh"
    CODE_EXCHANGE = "code_exchange"


class RetryAfterForm(StrEnum):
    """The two forms of Retry-After (RFC 9110 section 10.2.3)."""

    SECONDS = "seconds"
    HTTP_DATE = "http_date"


@dataclass(frozen=True, slots=True, kw_only=True, config=ConfigDict(extra="forbid"))
class Order:
    """A misbehaviour, whom it meets and how often.

    Whom: `family_id` for one grant, else `client_id` for one client, else everybody. How often: the next `times`
    requests, or each request with `probability`. The other fields belong to single kinds and are described there.
    """

    kind: Misbehaviour
    client_id: str | None = None
    family_id: int | None = None
    times: Annotated[int, Field(ge=1)] | None = None
    probability: Annotated[float, Field(gt=0, le=1)] | None = None
    step: Step = Step.REFRESH
    status: Annotated[int, Field(ge=200, le=599)] | None = None
    retry_after: Annotated[int, Field(ge=0)] = 30
    retry_after_form: RetryAfterForm = RetryAfterForm.SECONDS
    stall: Delay = 5.0
    size: Annotated[int, Field(ge=1, le=_MAX_BODY_BYTES)] = OVERSIZED_BODY_BYTES
    expires_in: int | float | str | None = -1
    after_rotating: bool = False

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if (self.times is None) == (self.probability is None):
            message = "an order needs either `times` or `probability`"
            raise ValueError(message)
        if self.client_id is not None and self.family_id is not None:
            message = "an order is for a client or for a family, not for both"
            raise ValueError(message)
        if self.kind in _SERVER_ERRORS and self.status is not None and self.status < HTTPStatus.INTERNAL_SERVER_ERROR:
            message = f"{self.kind} answers with a status of 500 to 599"
            raise ValueError(message)
        return self


ORDER: Final = TypeAdapter(Order)
"""Reads an order from JSON and writes it; an unknown key or a contradiction is a `ValidationError`."""


def processes(order: Order | None) -> bool:
    """Return whether the request is processed as a healthy server would before the fault shows."""
    if order is None:
        return True
    if order.kind is Misbehaviour.HTML_PAGE:
        return order.after_rotating
    return order.kind not in _UNPROCESSED


def rotates(order: Order | None) -> bool:
    """Return whether processing a refresh may consume the token and issue another."""
    keeps_old = order is not None and order.kind is Misbehaviour.OMITTED_REFRESH_TOKEN and not order.after_rotating
    return not keeps_old


def withholds(order: Order | None) -> bool:
    """Return whether the fault keeps the new tokens from a client that reads its answer like any other.

    Odd but complete answers (a wrong content type, an absurd expiry, a stall that ends) do deliver the tokens.
    """
    return order is not None and order.kind in _WITHHOLDING


_UNPROCESSED: Final = frozenset(
    {Misbehaviour.ERROR_BEFORE, Misbehaviour.THROTTLED, Misbehaviour.SPURIOUS_INVALID_GRANT},
)
_WITHHOLDING: Final = frozenset(
    {
        Misbehaviour.LOST_REPLY,
        Misbehaviour.CUT_REPLY,
        Misbehaviour.ERROR_AFTER,
        Misbehaviour.HTML_PAGE,
        Misbehaviour.TRUNCATED_JSON,
        Misbehaviour.OVERSIZED_BODY,
        Misbehaviour.OMITTED_REFRESH_TOKEN,
    },
)
