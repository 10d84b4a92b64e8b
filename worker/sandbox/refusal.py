"""Why a request is refused, in the words of RFC 6749 sections 4.1.2.1 and 5.2."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class ErrorCode(StrEnum):
    """The `error` member of an answer."""

    INVALID_REQUEST = "invalid_request"
    INVALID_CLIENT = "invalid_client"
    INVALID_GRANT = "invalid_grant"
    INVALID_SCOPE = "invalid_scope"
    UNAUTHORIZED_CLIENT = "unauthorized_client"
    UNSUPPORTED_GRANT_TYPE = "unsupported_grant_type"
    UNSUPPORTED_RESPONSE_TYPE = "unsupported_response_type"
    ACCESS_DENIED = "access_denied"
    SERVER_ERROR = "server_error"
    TEMPORARILY_UNAVAILABLE = "temporarily_unavailable"
    TOO_MANY_REQUESTS = "too_many_requests"


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A request that is refused: code, words for a developer, HTTP status and any further headers."""

    error: ErrorCode
    description: str
    status: int = 400
    headers: tuple[tuple[str, str], ...] = ()


def invalid_request(description: str) -> Refusal:
    """Return the refusal of a request that is malformed."""
    return Refusal(error=ErrorCode.INVALID_REQUEST, description=description)


def invalid_grant(description: str) -> Refusal:
    """Return the refusal of a code or refresh token."""
    return Refusal(error=ErrorCode.INVALID_GRANT, description=description)
