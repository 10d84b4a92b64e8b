"""From an answer to an outcome: by the provider's own rules, then by status and code; an unknown error is never dead.

A message is looked at only where a rule of the provider's facts says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from worker.domain.facts import TokenFacts
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
from worker.domain.secret import Secret
from worker.oauth.error_rules import matched_value, matching_rule
from worker.oauth.provider_errors import ErrorOutcome, ErrorRule
from worker.oauth.reading import RFC_6749, Reading
from worker.oauth.token_answer import (
    HttpAnswer,
    as_code,
    object_within,
    read_date,
    read_error_code,
    read_object,
    read_retry_after,
    without_secrets,
)
from worker.oauth.token_reading import is_success, read_tokens

#: RFC 6749 section 5.2: codes that blame our registration or our request, never the grant.
_OURS: Final = {
    "invalid_client": Reason.INVALID_CLIENT,
    "unauthorized_client": Reason.UNAUTHORIZED_CLIENT,
    "invalid_request": Reason.INVALID_REQUEST,
    "invalid_scope": Reason.INVALID_SCOPE,
    "unsupported_grant_type": Reason.UNSUPPORTED_GRANT_TYPE,
}
_THROTTLING_CODES: Final = frozenset({"rate_limited", "ratelimited", "too_many_requests", "slow_down"})
#: RFC 6749 section 4.1.2.1: used by servers at the token endpoint as well, where nothing was done.
_SERVER_CODES: Final = {
    "temporarily_unavailable": Reason.TEMPORARILY_UNAVAILABLE,
    "server_error": Reason.SERVER_ERROR,
}
_KNOWN_CODES: Final = frozenset({"invalid_grant", *_OURS, *_THROTTLING_CODES, *_SERVER_CODES})
_TOO_MANY_REQUESTS: Final = 429  # RFC 6585 section 4
_ENDPOINT_STATUSES: Final = frozenset({404, 405, 410, 415})


def classify(
    answer: HttpAnswer, *, facts: TokenFacts, secrets: tuple[Secret, ...], reading: Reading = RFC_6749
) -> Outcome:
    """Say what a token endpoint's answer means for the grant.

    The body is read before the status, for some servers answer 200 with an error in it, and some the other way round.
    Tokens that arrived count, whatever else the answer says, but for two things: a rule of the provider's own that
    names an error by a value or a description, and, where the status or the provider's own sign denies a success, what
    RFC 6749 calls a refusal. Without tokens the provider's rules come first, then what RFC 6749 and its kin say. Only
    429 speaks for itself: whatever code comes with it, a request that was turned away for its number says nothing
    about the grant.

    Args:
        answer: status, headers and body as read.
        facts: whether a token survives a server error at this provider.
        secrets: what the request held; nothing of it may come back as an error code.
        reading: where this provider keeps what, and its rules.

    """
    success = 200 <= answer.status < 300  # noqa: PLR2004 -- the class of statuses, RFC 9110 section 15.3
    fields = read_object(answer)
    tokens = _tokens(answer, fields, secrets, reading, success=success)
    if fields is None and tokens is not None:
        fields = object_within(answer)
    denied = success and fields is not None and not is_success(fields, reading.answer.success)
    rule = matching_rule(reading.errors, answer, fields, beside_tokens=tokens is not None)
    if rule is not None:
        return _by_rule(rule, answer, fields, secrets)
    code = read_error_code(fields) if fields is not None else None
    refused = (denied or not success) and _is_refusal(code)
    if tokens is not None and not refused:
        return Rotated(tokens=tokens)
    by_code = _by_code(answer, code, facts)
    if by_code is not None:
        return by_code
    if success and code is None and not denied:
        return _unreadable(answer)
    shown = code if fields is None or code in _KNOWN_CODES else without_secrets(code, fields, secrets)
    return _by_status(answer, facts, shown)


def _tokens(
    answer: HttpAnswer,
    fields: Mapping[str, Any] | None,
    secrets: tuple[Secret, ...],
    reading: Reading,
    *,
    success: bool,
) -> Tokens | None:
    """Return the tokens that an answer brings.

    With a status that is no success they count only as a whole answer would: where they belong, with a refresh token,
    which cannot be had again, and not as an echo of what was sent, for an error may show the request that it is about.
    """
    found = fields if fields is not None else object_within(answer)
    if found is None:
        return None
    # A page that is no answer at all may hold settings of its own: among other words, too, only the right place counts.
    anywhere = success and fields is not None
    tokens = read_tokens(found, secrets, reading, read_date(answer.headers), anywhere=anywhere)
    if success or tokens is None:
        return tokens
    return None if tokens.refresh_token is None or tokens.access_token in secrets else tokens


def _is_refusal(code: str | None) -> bool:
    return code == "invalid_grant" or code in _OURS


def _by_rule(
    rule: ErrorRule, answer: HttpAnswer, fields: Mapping[str, Any] | None, secrets: tuple[Secret, ...]
) -> Outcome:
    value = matched_value(rule, fields) or (read_error_code(fields) if fields is not None else None)
    code = without_secrets(as_code(value), fields or {}, secrets)
    cause = Cause(reason=rule.why, status=answer.status, code=code)
    match rule.outcome:
        case ErrorOutcome.DEAD:
            return Dead(cause=cause)
        case ErrorOutcome.MISCONFIGURED:
            return Misconfigured(cause=cause)
        case ErrorOutcome.THROTTLED:
            return Throttled(cause=cause, retry_after=read_retry_after(answer.headers) or rule.retry_after)
        case ErrorOutcome.UNAVAILABLE:
            return Unavailable(cause=cause, sent=True)
        case ErrorOutcome.IN_DOUBT:
            return InDoubt(cause=cause)


def _unreadable(answer: HttpAnswer) -> InDoubt:
    return InDoubt(cause=Cause(reason=Reason.UNREADABLE_ANSWER, status=answer.status))


def _by_code(answer: HttpAnswer, code: str | None, facts: TokenFacts) -> Outcome | None:
    if code is None or answer.status == _TOO_MANY_REQUESTS:
        return None
    if code == "invalid_grant":
        return Dead(cause=Cause(reason=Reason.INVALID_GRANT, status=answer.status, code=code))
    if code in _OURS:
        return Misconfigured(cause=Cause(reason=_OURS[code], status=answer.status, code=code))
    if code in _THROTTLING_CODES:
        return _throttled(answer, code)
    if code in _SERVER_CODES:
        return _server_error(answer, code, facts, _SERVER_CODES[code])
    return None


def _by_status(answer: HttpAnswer, facts: TokenFacts, code: str | None) -> Outcome:
    status = answer.status
    asked_to_wait = "retry-after" in answer.headers or answer.headers.get("x-ratelimit-remaining", "").strip() == "0"
    if status == _TOO_MANY_REQUESTS or (status in {403, 503} and asked_to_wait):
        return _throttled(answer, code)
    if status >= 500 or status == 408:  # noqa: PLR2004 -- RFC 9110 sections 15.5.9 and 15.6
        return _server_error(answer, code, facts, Reason.SERVER_ERROR)
    if 300 <= status < 400:  # noqa: PLR2004 -- a redirect is not followed: it would carry the secrets elsewhere
        return Misconfigured(cause=Cause(reason=Reason.REDIRECTED, status=status, code=code))
    if status in _ENDPOINT_STATUSES:
        return Misconfigured(cause=Cause(reason=Reason.ENDPOINT_NOT_FOUND, status=status, code=code))
    if status == 401:  # noqa: PLR2004 -- at the token endpoint 401 speaks of client authentication (RFC 6749 section 5.2)
        return Misconfigured(cause=Cause(reason=Reason.INVALID_CLIENT, status=status, code=code))
    return Unavailable(cause=Cause(reason=Reason.UNRECOGNIZED_ERROR, status=status, code=code), sent=True)


def _throttled(answer: HttpAnswer, code: str | None) -> Throttled:
    cause = Cause(reason=Reason.RATE_LIMITED, status=answer.status, code=code)
    return Throttled(cause=cause, retry_after=read_retry_after(answer.headers))


def _server_error(answer: HttpAnswer, code: str | None, facts: TokenFacts, reason: Reason) -> Outcome:
    cause = Cause(reason=reason, status=answer.status, code=code)
    # A server that failed may have rotated before it did. Where the old token survives that, it is a plain failure.
    return Unavailable(cause=cause, sent=True) if facts.is_resend_safe else InDoubt(cause=cause)
