"""What goes back over the connection: an answer, part of one, or nothing. Pure values; `connection` sends them."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from email.utils import formatdate
from http import HTTPStatus
from typing import Final, assert_never

from worker.sandbox.misbehaviour import Misbehaviour, Order, RetryAfterForm
from worker.sandbox.profiles import Profile
from worker.sandbox.refusal import ErrorCode, Refusal, invalid_grant
from worker.sandbox.token_answer import TokenAnswer, answer_members

JSON_TYPE: Final = "application/json"
_HTML_TYPE: Final = "text/html; charset=utf-8"
_NO_STORE: Final = (("cache-control", "no-store"), ("pragma", "no-cache"))  # RFC 6749 section 5.1
_GATEWAY_PAGE: Final = b"""<!doctype html>
<html><head><title>We will be back</title></head>
<body><h1>We will be back</h1><p>The service is being looked after. Please try again later.</p></body></html>
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """A complete HTTP answer. `error` is the code that it carries, for the tallies."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    error: ErrorCode | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CutShort:
    """An answer that announces its whole length and ends in the middle, with the connection."""

    whole: Answered


@dataclass(frozen=True, slots=True)
class Dropped:
    """The connection closes without a byte."""


Reply = Answered | CutShort | Dropped


def json_reply(members: object, *, status: int = 200, headers: tuple[tuple[str, str], ...] = ()) -> Answered:
    """Return a JSON answer that no cache may keep."""
    body = json.dumps(members, separators=(",", ":")).encode()
    return Answered(status=status, headers=(("content-type", JSON_TYPE), *_NO_STORE, *headers), body=body)


def refusal_reply(refusal: Refusal) -> Answered:
    """Return the error answer of RFC 6749 section 5.2."""
    members = {"error": refusal.error, "error_description": refusal.description}
    return replace(json_reply(members, status=refusal.status, headers=refusal.headers), error=refusal.error)


def token_reply(profile: Profile, result: TokenAnswer | Refusal, order: Order | None) -> Reply:
    """Return the answer to a processed token request, with the ordered fault worked into it.

    A refusal that was due anyway meets the fault as well, as far as it has what the fault spoils.
    """
    if isinstance(result, Refusal):
        honest = refusal_reply(result)
        return honest if order is None else _replaced(honest, order)
    members = answer_members(profile, result)
    if order is None:
        return json_reply(members)
    return _replaced(json_reply(_with_odd_members(members, order)), order)


def unprocessed_reply(order: Order, *, now: float) -> Reply:
    """Return the answer to a token request that an order keeps from being processed.

    `now` in epoch seconds dates a Retry-After that is a date.
    """
    match order.kind:
        case Misbehaviour.ERROR_BEFORE:
            return refusal_reply(_server_error(order, default_status=HTTPStatus.SERVICE_UNAVAILABLE))
        case Misbehaviour.THROTTLED:
            return refusal_reply(_throttled(order, now=now))
        case Misbehaviour.SPURIOUS_INVALID_GRANT:
            return refusal_reply(invalid_grant("the refresh token is invalid or has expired"))
        case Misbehaviour.HTML_PAGE:
            return _html_page(order)
        case _:
            message = f"{order.kind} is processed before it shows; `token_reply` makes its answer"
            raise ValueError(message)


def _replaced(honest: Answered, order: Order) -> Reply:
    match order.kind:
        case Misbehaviour.LOST_REPLY:
            return Dropped()
        case Misbehaviour.CUT_REPLY:
            return CutShort(whole=honest)
        case Misbehaviour.ERROR_AFTER:
            return refusal_reply(_server_error(order, default_status=HTTPStatus.INTERNAL_SERVER_ERROR))
        case Misbehaviour.HTML_PAGE:
            return _html_page(order)
        case (
            Misbehaviour.TRUNCATED_JSON
            | Misbehaviour.OVERSIZED_BODY
            | Misbehaviour.WRONG_CONTENT_TYPE
            | Misbehaviour.STALL
            | Misbehaviour.OMITTED_REFRESH_TOKEN
            | Misbehaviour.OMITTED_EXPIRES_IN
            | Misbehaviour.ABSURD_EXPIRES_IN
            | Misbehaviour.REVOKED_CONSENT
        ):
            return _with_odd_body(honest, order)
        case Misbehaviour.ERROR_BEFORE | Misbehaviour.THROTTLED | Misbehaviour.SPURIOUS_INVALID_GRANT:
            message = f"{order.kind} keeps a request from being processed; `unprocessed_reply` makes its answer"
            raise ValueError(message)
        case _:
            assert_never(order.kind)


def _with_odd_body(honest: Answered, order: Order) -> Answered:
    match order.kind:
        case Misbehaviour.TRUNCATED_JSON:
            return replace(honest, body=honest.body[: len(honest.body) // 2])
        case Misbehaviour.OVERSIZED_BODY:
            return replace(honest, body=b'{"padding":"' + b"x" * order.size + b'",' + honest.body[1:])
        case Misbehaviour.WRONG_CONTENT_TYPE:
            return replace(honest, headers=(("content-type", _HTML_TYPE), *_NO_STORE))
        case _:
            return honest


def _with_odd_members(members: dict[str, object], order: Order) -> dict[str, object]:
    match order.kind:
        case Misbehaviour.OMITTED_REFRESH_TOKEN:
            return {name: value for name, value in members.items() if name != "refresh_token"}
        case Misbehaviour.OMITTED_EXPIRES_IN:
            return {name: value for name, value in members.items() if name != "expires_in"}
        case Misbehaviour.ABSURD_EXPIRES_IN:
            return members | {"expires_in": order.expires_in}
        case _:
            return members


def _html_page(order: Order) -> Answered:
    return Answered(status=order.status or HTTPStatus.OK, headers=(("content-type", _HTML_TYPE),), body=_GATEWAY_PAGE)


def _server_error(order: Order, *, default_status: HTTPStatus) -> Refusal:
    status = order.status or default_status
    overloaded = status == HTTPStatus.SERVICE_UNAVAILABLE
    error = ErrorCode.TEMPORARILY_UNAVAILABLE if overloaded else ErrorCode.SERVER_ERROR
    return Refusal(error=error, description="something went wrong on our side", status=status)


def _throttled(order: Order, *, now: float) -> Refusal:
    match order.retry_after_form:
        case RetryAfterForm.SECONDS:
            retry_after = str(order.retry_after)
        case RetryAfterForm.HTTP_DATE:
            retry_after = formatdate(now + order.retry_after, usegmt=True)
        case _:
            assert_never(order.retry_after_form)
    return Refusal(
        error=ErrorCode.TOO_MANY_REQUESTS,
        description="too many requests",
        status=HTTPStatus.TOO_MANY_REQUESTS,
        headers=(("retry-after", retry_after),),
    )
