"""Problem documents (RFC 9457): every error of the API, with what to do next and nothing secret."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from http import HTTPStatus
from typing import Any, Final

from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse

MEDIA_TYPE: Final = "application/problem+json"
_URN: Final = "urn:evergrant:problem:"


class Kind(StrEnum):
    """What went wrong, from a closed list: programs compare these."""

    UNAUTHORIZED = "unauthorized"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not-found"
    METHOD_NOT_ALLOWED = "method-not-allowed"
    REQUEST_INVALID = "request-invalid"
    REQUEST_TOO_LARGE = "request-too-large"
    GRANT_EXISTS = "grant-exists"
    GRANT_NEEDS_OWNER = "grant-needs-owner"
    GRANT_PAUSED = "grant-paused"
    GRANT_REVOKED = "grant-revoked"
    GRANT_IN_DOUBT = "grant-in-doubt"
    CLIENT_PAUSED = "client-paused"
    CLIENT_HELD_BACK = "client-held-back"
    CLIENT_NOT_CONFIGURED = "client-not-configured"
    REFRESH_FAILED = "refresh-failed"
    MAIL_NOT_SENT = "mail-not-sent"
    NO_MAIL_SERVER = "no-mail-server"
    REFRESH_TOO_EARLY = "refresh-too-early"
    REQUEST_UNDER_WAY = "request-under-way"
    IDEMPOTENCY_KEY_REUSED = "idempotency-key-reused"
    DATABASE_AWAY = "database-away"
    INTERNAL = "internal"


_TITLES: Final[Mapping[Kind, str]] = {
    Kind.UNAUTHORIZED: "A valid API token is needed",
    Kind.FORBIDDEN: "This API token does not allow it",
    Kind.NOT_FOUND: "There is no such thing",
    Kind.METHOD_NOT_ALLOWED: "This path does not take this method",
    Kind.REQUEST_INVALID: "The request is not valid",
    Kind.REQUEST_TOO_LARGE: "The request is too large",
    Kind.GRANT_EXISTS: "There is a grant for this client and subject already",
    Kind.GRANT_NEEDS_OWNER: "The grant has ended: its owner has to authorize again",
    Kind.GRANT_PAUSED: "The grant is paused",
    Kind.GRANT_REVOKED: "The grant was revoked",
    Kind.GRANT_IN_DOUBT: "The grant is in doubt and its access token has ended",
    Kind.CLIENT_PAUSED: "The client is paused",
    Kind.CLIENT_HELD_BACK: "The client is not refreshed at the moment",
    Kind.CLIENT_NOT_CONFIGURED: "The client is not configured",
    Kind.REFRESH_FAILED: "The refresh brought no tokens",
    Kind.MAIL_NOT_SENT: "The owner is not mailed",
    Kind.NO_MAIL_SERVER: "There is no mail server",
    Kind.REFRESH_TOO_EARLY: "The provider does not let it be refreshed yet",
    Kind.REQUEST_UNDER_WAY: "The same request is under way",
    Kind.IDEMPOTENCY_KEY_REUSED: "This Idempotency-Key was used for another request",
    Kind.DATABASE_AWAY: "The database does not answer",
    Kind.INTERNAL: "Something went wrong here",
}


class Problem(Exception):  # noqa: N818 -- RFC 9457 calls it a problem
    """An answer that is an error.

    Args:
        status: the HTTP status.
        kind: the last part of the problem's type.
        detail: what is wrong in this case and what to do next, in one or two sentences.
        retry_after: seconds after which it may be worth trying again.
        headers: further headers.
        about: further members of the document.

    """

    def __init__(
        self,
        status: HTTPStatus,
        kind: Kind,
        detail: str,
        *,
        retry_after: int | None = None,
        headers: Mapping[str, str] | None = None,
        about: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(kind, detail)
        self.status = status
        self.kind = kind
        self.detail = detail
        self.headers = dict(headers or {})
        if retry_after is not None:
            self.headers["Retry-After"] = str(retry_after)
        self.about = dict(about or {})

    def answer(self) -> JSONResponse:
        """Return the problem as an HTTP answer."""
        content = {
            "type": f"{_URN}{self.kind}",
            "title": _TITLES[self.kind],
            "status": self.status.value,
            "detail": self.detail,
            **self.about,
        }
        return JSONResponse(content, self.status.value, headers=self.headers, media_type=MEDIA_TYPE)


def request_invalid(detail: str, *, parameter: str | None = None, pointer: str | None = None) -> Problem:
    """Return the problem of one thing that is wrong in a request.

    Args:
        detail: what is wrong.
        parameter: name of the query, path or header parameter that it is about.
        pointer: or the place in the body, as a JSON pointer (RFC 6901).

    """
    where = {"parameter": parameter} if parameter is not None else {"pointer": pointer}
    return _invalid([{**where, "detail": detail}])


def request_refused(complaints: Iterable[tuple[str, str]]) -> Problem:
    """Return the problem of a request that fits the document and cannot be done: what of its body is wrong, and how."""
    return _invalid([{"pointer": f"#/{field}", "detail": text} for field, text in complaints])


def from_validation(error: RequestValidationError) -> Problem:
    """Return the problem of a request that does not fit the document; values are not repeated, they may be secret."""
    return _invalid([_complaint(found) for found in error.errors()])


def _invalid(errors: list[dict[str, Any]]) -> Problem:
    detail = "; ".join(f"{found.get('parameter') or found.get('pointer')}: {found['detail']}" for found in errors)
    return Problem(HTTPStatus.UNPROCESSABLE_ENTITY, Kind.REQUEST_INVALID, detail, about={"errors": errors})


def _complaint(found: Mapping[str, Any]) -> dict[str, Any]:
    place, *path = (str(part) for part in found["loc"])
    if found["type"] == "json_invalid":
        return {"pointer": "#", "detail": "The body is not JSON."}
    detail = str(found["msg"]).removeprefix("Value error, ")
    if place == "body":
        pointer = "".join("/" + part.replace("~", "~0").replace("/", "~1") for part in path)
        return {"pointer": f"#{pointer}", "detail": detail}
    return {"parameter": ".".join(path), "detail": detail}


def documented(*statuses: HTTPStatus) -> dict[int | str, dict[str, Any]]:
    """Return what the OpenAPI document says of these statuses: each is a problem document."""
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        status.value: {"description": _DESCRIPTIONS[status], "content": {MEDIA_TYPE: {"schema": schema}}}
        for status in statuses
    }


#: What the HTTP server answers before a request comes here, in its own words: it reads no head of any length.
MALFORMED: Final[Mapping[int | str, dict[str, Any]]] = {
    HTTPStatus.BAD_REQUEST.value: {
        "description": "No request of HTTP, or one whose address or headers are too long (64 kB).",
        "content": {"text/plain": {"schema": {"type": "string"}}},
    }
}

_DESCRIPTIONS: Final[Mapping[HTTPStatus, str]] = {
    HTTPStatus.UNAUTHORIZED: "No API token, or none that is good.",
    HTTPStatus.FORBIDDEN: "The API token's role, or the client it is bound to, does not allow this.",
    HTTPStatus.NOT_FOUND: "There is no such thing, or it is another client's.",
    HTTPStatus.CONFLICT: "The state of the grant, or another request, stands in the way.",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "The body is too large.",
    HTTPStatus.UNPROCESSABLE_ENTITY: "The request does not fit this document.",
    HTTPStatus.INTERNAL_SERVER_ERROR: "Something went wrong here.",
    HTTPStatus.SERVICE_UNAVAILABLE: "Not now; Retry-After tells when it may be worth trying again.",
}

#: The `Problem` schema of the OpenAPI document.
SCHEMA: Final[Mapping[str, Any]] = {
    "type": "object",
    "title": "Problem",
    "description": "RFC 9457. Further members belong to the type.",
    "properties": {
        "type": {"type": "string", "format": "uri", "enum": [f"{_URN}{kind}" for kind in Kind]},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "errors": {
            "type": "array",
            "description": "Of an invalid request: where it is wrong, and what.",
            "items": {
                "type": "object",
                "properties": {
                    "parameter": {"type": "string"},
                    "pointer": {"type": "string"},
                    "detail": {"type": "string"},
                },
                "required": ["detail"],
            },
        },
        "grant": {"type": "string", "format": "uuid", "description": "The grant that it is about."},
        "state": {"type": "string", "description": "Its state."},
        "reason": {"type": ["string", "null"], "description": "Why."},
        "client": {"type": "string", "description": "The client that it is about."},
    },
    "required": ["type", "title", "status", "detail"],
}
