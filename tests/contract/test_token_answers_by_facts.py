"""What answers mean where a provider's facts say how to read them: each option of the schema, and each way to miss it.

The bodies are those that the providers document or that are known of them, and what could go wrong with them.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest

from worker.domain.facts import OldToken, TokenFacts
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
from worker.oauth.classify import classify
from worker.oauth.reading import reading_of
from worker.oauth.registry import build_registry
from worker.oauth.token_answer import HttpAnswer

SENT = "rt-0f4c6a7be29d"
CLIENT_SECRET = "cs-77e1d25f30aa"
NOON = "Mon, 23 Nov 2026 12:00:00 GMT"
EPOCH = 1_795_435_200  # the same instant
AT_NOON = {"date": NOON}
NONE: dict[str, str] = {}
OK = {"access_token": "at", "refresh_token": "rt"}
SINGLE_USE = TokenFacts(old_token=OldToken.INVALIDATED)

Facts = Mapping[str, Any]
Row = tuple[str, Facts, int, Mapping[str, str], object, Outcome]


def rotated(
    refresh: str | None = "rt",
    *,
    access: str = "at",
    seconds: float | None = None,
    refresh_lifetime: float | None = None,
    scopes: tuple[str, ...] | None = None,
    account: str | None = None,
    captured: Mapping[str, str] | None = None,
) -> Rotated:
    """Expect tokens; lifetimes are in seconds."""
    return Rotated(
        tokens=Tokens(
            access_token=Secret(access),
            refresh_token=None if refresh is None else Secret(refresh),
            access_lifetime=None if seconds is None else timedelta(seconds=seconds),
            refresh_lifetime=None if refresh_lifetime is None else timedelta(seconds=refresh_lifetime),
            scopes=scopes,
            account=account,
            captured=captured or {},
        )
    )


def dead(code: str | None, status: int = 400) -> Dead:
    """Expect the end of the grant, by the provider's own word."""
    return Dead(cause=Cause(reason=Reason.INVALID_GRANT, status=status, code=code))


def ours(code: str | None, status: int = 400, reason: Reason = Reason.INVALID_CLIENT) -> Misconfigured:
    """Expect a fault of ours."""
    return Misconfigured(cause=Cause(reason=reason, status=status, code=code))


def wait(seconds: float | None, code: str | None, status: int = 400) -> Throttled:
    """Expect a pause."""
    retry_after = None if seconds is None else timedelta(seconds=seconds)
    return Throttled(cause=Cause(reason=Reason.RATE_LIMITED, status=status, code=code), retry_after=retry_after)


def refused(status: int, code: str | None = None) -> Unavailable:
    """Expect an error that nobody knows."""
    return Unavailable(cause=Cause(reason=Reason.UNRECOGNIZED_ERROR, status=status, code=code), sent=True)


def unread() -> InDoubt:
    """Expect a success that could not be read."""
    return InDoubt(cause=Cause(reason=Reason.UNREADABLE_ANSWER, status=200))


def jwt_of(**claims: object) -> str:
    """Return an unsigned JWT with these claims."""
    parts = ({"alg": "none"}, claims)
    encoded = (base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts)
    return ".".join([*encoded, "c2ln"])


# --- where the tokens stand

DATA: Facts = {"answer": {"path": "data"}}
DEEP: Facts = {"answer": {"path": "result.items.0.grant"}}
NAMES: Facts = {"answer": {"access_token": "accessToken", "refresh_token": "refreshToken", "expires_in": "expiresIn"}}
INNER: Facts = {"answer": {"access_token": "token.value", "refresh_token": "token.renewal"}}

SLACK: Facts = {"answer": {"success": {"field": "ok", "equals": True}}}
OF_USER: Facts = {"answer": {"path": "authed_user", "success": {"field": "ok", "equals": True}}}
USER = {"access_token": "at-user", "refresh_token": "rt-user", "expires_in": 43200}
USERS = rotated("rt-user", access="at-user", seconds=43200)

PATHS: list[Row] = [
    ("under the path", DATA, 200, NONE, {"data": OK, "request_id": "x"}, rotated()),
    ("under a path with a list", DEEP, 200, NONE, {"result": {"items": [{"grant": OK}]}}, rotated()),
    ("at the top instead of the path", DATA, 200, NONE, OK, rotated()),
    ("the path before the top", DATA, 200, NONE, {"data": OK, "access_token": "other"}, rotated()),
    ("the path is null, the top has them", DATA, 200, NONE, {**OK, "data": None}, rotated()),
    ("the path is a list, the top has them", DATA, 200, NONE, {**OK, "data": [1]}, rotated()),
    ("the path is a text, the top has them", DATA, 200, NONE, {**OK, "data": "x"}, rotated()),
    ("under another name than the path", DATA, 200, NONE, {"body": OK}, rotated()),
    ("two levels deeper than the path", DATA, 200, NONE, {"x": {"y": OK}}, rotated()),
    ("in a list at another place", DATA, 200, NONE, {"grants": [OK]}, rotated()),
    ("Slack: the bot's at the top", SLACK, 200, NONE, {**OK, "ok": True, "authed_user": USER}, rotated()),
    ("Slack: the user's by the path", OF_USER, 200, NONE, {**OK, "ok": True, "authed_user": USER}, USERS),
    ("Slack: the user's refreshed, at the top", OF_USER, 200, NONE, {**USER, "ok": True}, USERS),
    (
        "Slack: the same beside the user's name",
        OF_USER,
        200,
        NONE,
        {**USER, "ok": True, "authed_user": {"id": 1}},
        USERS,
    ),
    ("Slack: the user's only", SLACK, 200, NONE, {"ok": True, "authed_user": USER}, USERS),
    ("five levels down: not looked for", DATA, 200, NONE, {"a": {"b": {"c": {"d": {"e": OK}}}}}, unread()),
    ("two elsewhere: nobody knows whose", DATA, 200, NONE, {"a": OK, "b": OK}, unread()),
    ("the path empty", DATA, 200, NONE, {"data": {}}, unread()),
    ("the path's access token empty", DATA, 200, NONE, {"data": {**OK, "access_token": ""}}, unread()),
    ("a place in the list that is not there", DEEP, 200, NONE, {"result": {"items": []}}, unread()),
    (
        "other names",
        NAMES,
        200,
        NONE,
        {"accessToken": "at", "refreshToken": "rt", "expiresIn": "60"},
        rotated(seconds=60),
    ),
    ("other names configured, the RFC's sent", NAMES, 200, NONE, {"x": {"access_token": "at"}}, rotated(None)),
    ("names with a path of their own", INNER, 200, NONE, {"token": {"value": "at", "renewal": "rt"}}, rotated()),
    ("such a path leads to a number", INNER, 200, NONE, {"token": {"value": 7}}, unread()),
    ("such a path leads through a text", INNER, 200, NONE, {"token": "at"}, unread()),
    ("an error wrapped like a token", DATA, 400, NONE, {"data": {"error": "invalid_grant"}}, refused(400)),
    ("tokens under the path with 400", DATA, 400, NONE, {"data": OK}, rotated()),
    ("the scope beside the path", DATA, 200, NONE, {"data": OK, "scope": "a b"}, rotated(scopes=("a", "b"))),
    ("the scope under the path", DATA, 200, NONE, {"data": {**OK, "scope": ["a"]}}, rotated(scopes=("a",))),
]

# --- how long they live

AT: Facts = {"answer": {"expires_at": "expires_at"}}
AT_FIRST: Facts = {"answer": {"expires_at": ["expires_at", "expiry"]}}
MS: Facts = {"answer": {"expires_in_unit": "ms"}}
MINUTES: Facts = {"answer": {"expires_in_unit": "min"}}
JWT: Facts = {"answer": {"expires_from_jwt": True}}
REFRESH_AT: Facts = {"answer": {"refresh_expires_at": "refresh_token_expiration"}}
ISSUE: Facts = {"refresh_lifetime": "30d", "refresh_lifetime_anchor": "issue"}
CONSENT: Facts = {"refresh_lifetime": "30d", "refresh_lifetime_anchor": "consent"}
HARD: Facts = {"answer": {"refresh_expires_in": ["x_rolling", "x_hard"]}}
HOUR = 3600


def dated(what: str, instant: object, seconds: float | None, headers: Mapping[str, str] = AT_NOON) -> Row:
    """Make a row of an absolute expiry."""
    return (f"expires_at {what}", AT, 200, headers, {**OK, "expires_at": instant}, rotated(seconds=seconds))


EXPIRY: list[Row] = [
    dated("ISO with Z: Square", "2026-11-23T13:00:00Z", HOUR),
    dated("ISO with an offset", "2026-11-23T14:00:00+01:00", HOUR),
    dated("ISO with a fraction", "2026-11-23T13:00:00.500Z", HOUR + 0.5),
    dated("ISO without a zone: UTC", "2026-11-23T13:00:00", HOUR),
    dated("a date", "2026-11-24", 12 * HOUR),
    dated("as HTTP writes it", "Mon, 23 Nov 2026 13:00:00 GMT", HOUR),
    dated("epoch: Strava", EPOCH + HOUR, HOUR),
    dated("epoch quoted", str(EPOCH + HOUR), HOUR),
    dated("epoch in milliseconds", (EPOCH + HOUR) * 1000, HOUR),
    dated("epoch a float", EPOCH + 0.25, 0.25),
    dated("past", EPOCH - 1, None),
    dated("now", EPOCH, None),
    dated("in a thousand years", "3026-11-23T12:00:00Z", None),
    dated("zero", 0, None),
    dated("negative", -EPOCH, None),
    dated("true", True, None),
    dated("a list", [EPOCH], None),
    dated("empty", "", None),
    dated("words", "tomorrow", None),
    dated("NaN written", "nan", None),
    dated("infinite", "inf", None),
    dated("1e400", "1e400", None),
    dated("year 99999", "99999-01-01T00:00:00Z", None),
    dated("without a Date to hold it against", EPOCH + HOUR, None, NONE),
    dated("with an unreadable Date", EPOCH + HOUR, None, {"date": "noon"}),
    ("expires_in before expires_at", AT, 200, AT_NOON, {**OK, "expires_in": 60, "expires_at": 1}, rotated(seconds=60)),
    (
        "expires_at where expires_in is absurd",
        AT,
        200,
        AT_NOON,
        {**OK, "expires_in": -1, "expires_at": EPOCH + 5},
        rotated(seconds=5),
    ),
    ("the second path of two", AT_FIRST, 200, AT_NOON, {**OK, "expiry": EPOCH + 7}, rotated(seconds=7)),
    (
        "the second, for the first is past",
        AT_FIRST,
        200,
        AT_NOON,
        {**OK, "expires_at": 1, "expiry": EPOCH + 7},
        rotated(seconds=7),
    ),
    ("milliseconds: Fiserv", MS, 200, NONE, {**OK, "expires_in": 1_800_000}, rotated(seconds=1800)),
    ("minutes", MINUTES, 200, NONE, {**OK, "expires_in": 45}, rotated(seconds=2700)),
    ("minutes beyond ten years", MINUTES, 200, NONE, {**OK, "expires_in": 10 * 366 * 1440}, rotated()),
    (
        "hours quoted",
        {"answer": {"expires_in_unit": "h"}},
        200,
        NONE,
        {**OK, "expires_in": "1.5"},
        rotated(seconds=5400),
    ),
    ("milliseconds quoted", MS, 200, NONE, {**OK, "expires_in": "1500"}, rotated(seconds=1.5)),
    ("milliseconds beyond ten years", MS, 200, NONE, {**OK, "expires_in": 10**15}, rotated()),
    ("no option, an epoch in expires_at", {}, 200, AT_NOON, {**OK, "expires_at": EPOCH + 9}, rotated()),
    *(
        (
            f"JWT: {what}",
            JWT,
            200,
            headers,
            {**OK, "access_token": token},
            rotated(access=token, seconds=seconds),
        )
        for what, token, headers, seconds in (
            ("exp", jwt_of(exp=EPOCH + HOUR), AT_NOON, HOUR),
            ("exp against iat where there is no Date", jwt_of(exp=EPOCH + 60, iat=EPOCH), NONE, 60),
            ("exp against Date, not iat", jwt_of(exp=EPOCH + 60, iat=1), AT_NOON, 60),
            ("no exp", jwt_of(sub="x"), AT_NOON, None),
            ("exp past", jwt_of(exp=1), AT_NOON, None),
            ("exp a text", jwt_of(exp="soon"), AT_NOON, None),
            ("exp true", jwt_of(exp=True), AT_NOON, None),
            ("claims a list", "e30.WzFd.c2ln", AT_NOON, None),
            ("claims no JSON", "e30.e30e30.c2ln", AT_NOON, None),
            ("claims no base64", "e30.%%%.c2ln", AT_NOON, None),
            ("two parts", "e30.e30", AT_NOON, None),
            ("five parts: encrypted", "a.b.c.d.e", AT_NOON, None),
            ("opaque", "at-opaque", AT_NOON, None),
            ("beyond ASCII", "é.é.é", AT_NOON, None),
            ("half a surrogate pair", "a.\ud800.c", AT_NOON, None),
            ("100 000 levels deep", "a." + base64.b64encode(b"[" * 40_000).decode() + ".c", AT_NOON, None),
        )
    ),
    ("JWT after expires_in", JWT, 200, AT_NOON, {**OK, "expires_in": 5}, rotated(seconds=5)),
    (
        "refresh_expires_at: Clover",
        REFRESH_AT,
        200,
        AT_NOON,
        {**OK, "refresh_token_expiration": EPOCH + HOUR},
        rotated(refresh_lifetime=HOUR),
    ),
    ("refresh lifetime: Intuit", {}, 200, NONE, {**OK, "x_refresh_token_expires_in": 60}, rotated(refresh_lifetime=60)),
    ("refresh lifetime: own names", HARD, 200, NONE, {**OK, "x_hard": 60}, rotated(refresh_lifetime=60)),
    ("refresh lifetime: the first", HARD, 200, NONE, {**OK, "x_hard": 60, "x_rolling": 5}, rotated(refresh_lifetime=5)),
    ("a new refresh token has the lifetime anew", ISSUE, 200, NONE, OK, rotated(refresh_lifetime=30 * 86400)),
    ("the old one is kept: nothing is new", ISSUE, 200, NONE, {"access_token": "at"}, rotated(None)),
    ("anew, but answered", ISSUE, 200, NONE, {**OK, "refresh_expires_in": 9}, rotated(refresh_lifetime=9)),
    ("anew, but said to have no end", ISSUE, 200, NONE, {**OK, "refresh_expires_in": 0}, rotated()),
    ("from consent: no refresh tells", CONSENT, 200, NONE, OK, rotated()),
]

# --- what else is kept

KEEP: Facts = {
    "answer": {"account": "user.id", "capture": {"instance_url": "instance_url", "team": "team.name", "beta": "beta"}}
}
HOST: Facts = {
    "introspection_endpoint": "https://{api_host}/introspect",
    "placeholders": {
        "api_host": {
            "source": "answer",
            "field": "instance_url",
            "pattern": r"https://([a-z0-9.-]+\.acme\.example)/?",
        }
    },
}


def kept(what: str, facts: Facts, fields: Mapping[str, object], account: str | None = None, **captured: str) -> Row:
    """Make a row of what is kept beside the tokens."""
    return (what, facts, 200, NONE, {**OK, **fields}, rotated(account=account, captured=captured))


CAPTURES: list[Row] = [
    kept("instance_url: Salesforce", KEEP, {"instance_url": "https://na1.example"}, instance_url="https://na1.example"),
    kept("a nested text", KEEP, {"team": {"name": "T"}}, team="T"),
    kept("a number", KEEP, {"team": {"name": 7}}, team="7"),
    kept("a truth value", KEEP, {"beta": True}, beta="true"),
    kept("null", KEEP, {"beta": None}),
    kept("a list", KEEP, {"beta": ["x"]}),
    kept("a float", KEEP, {"beta": 1.5}),
    kept("empty", KEEP, {"beta": ""}),
    kept("with a NUL", KEEP, {"beta": "a\x00b"}),
    kept("half a surrogate pair", KEEP, {"beta": "\ud800"}),
    kept("too long", KEEP, {"beta": "x" * 2049}),
    kept("as long as may be", KEEP, {"beta": "x" * 2048}, beta="x" * 2048),
    kept("the refresh token that was sent", KEEP, {"beta": f"x {SENT}"}),
    kept("the client secret", KEEP, {"beta": CLIENT_SECRET}),
    kept("an id token", KEEP, {"beta": "eyJ.x.y", "id_token": "eyJ.x.y"}),
    kept("the token of another", KEEP, {"beta": "xoxp-1", "authed_user": {"access_token": "xoxp-1"}}),
    kept("the account", KEEP, {"user": {"id": "u-1"}}, account="u-1"),
    kept("the account a number", KEEP, {"user": {"id": 12}}, account="12"),
    kept("the account an object", KEEP, {"user": {"id": {}}}),
    kept("the account too long", KEEP, {"user": {"id": "u" * 513}}),
    kept("the account repeats a token", KEEP, {"user": {"id": SENT}}),
    kept("a placeholder", HOST, {"instance_url": "https://eu.acme.example/"}, api_host="eu.acme.example"),
    kept("a placeholder of another host", HOST, {"instance_url": "https://evil.example/"}),
    kept("a placeholder with more behind", HOST, {"instance_url": "https://a.acme.example/@evil.example"}),
    kept("a placeholder that is missing", HOST, {}),
]

# --- what a success is

STATUS: Facts = {"answer": {"path": "body", "success": {"field": "status", "equals": 0}}}
NO_ERROR: Facts = {"answer": {"success": {"field": "error", "absent": True}}}
ANY: Facts = {"answer": {"success": {"field": "result.state", "equals": ["done", "fine"]}}}

SUCCESS: list[Row] = [
    ("ok true: Slack", SLACK, 200, NONE, {**OK, "ok": True}, rotated()),
    ("ok false and a code", SLACK, 200, NONE, {"ok": False, "error": "invalid_auth"}, refused(200, "invalid_auth")),
    (
        "ok false and invalid_grant",
        SLACK,
        200,
        NONE,
        {"ok": False, "error": "invalid_grant"},
        dead("invalid_grant", 200),
    ),
    ("ok false and nothing", SLACK, 200, NONE, {"ok": False}, refused(200)),
    ("ok false beside tokens, no error", SLACK, 200, NONE, {**OK, "ok": False}, rotated()),
    (
        "ok false beside tokens, an error",
        SLACK,
        200,
        NONE,
        {**OK, "ok": False, "error": "invalid_grant"},
        dead("invalid_grant", 200),
    ),
    ("ok missing beside tokens", SLACK, 200, NONE, OK, rotated()),
    ("ok a text beside tokens", SLACK, 200, NONE, {**OK, "ok": "true"}, rotated()),
    ("ok one is not true", SLACK, 200, NONE, {"ok": 1}, refused(200)),
    ("ok true and no tokens", SLACK, 200, NONE, {"ok": True}, unread()),
    ("no object at all", SLACK, 200, NONE, b"ok", unread()),
    ("status 0: Withings", STATUS, 200, NONE, {"status": 0, "body": OK}, rotated()),
    ("status 0 quoted", STATUS, 200, NONE, {"status": "0", "body": OK}, rotated()),
    ("status 503", STATUS, 200, NONE, {"status": 503, "body": {}}, refused(200)),
    ("status false is not 0", STATUS, 200, NONE, {"status": False, "body": {}}, refused(200)),
    ("status missing", STATUS, 200, NONE, {"body": {}}, refused(200)),
    ("status 503 with tokens all the same", STATUS, 200, NONE, {"status": 503, "body": OK}, rotated()),
    ("no error: GitHub", NO_ERROR, 200, NONE, OK, rotated()),
    ("error null", NO_ERROR, 200, NONE, {**OK, "error": None}, rotated()),
    ("an error beside tokens, unknown", NO_ERROR, 200, NONE, {**OK, "error": "odd"}, rotated()),
    (
        "an error beside tokens, known",
        NO_ERROR,
        200,
        NONE,
        {**OK, "error": "invalid_client"},
        ours("invalid_client", 200),
    ),
    ("any of two words", ANY, 200, NONE, {**OK, "result": {"state": "fine"}}, rotated()),
    ("a third word", ANY, 200, NONE, {"result": {"state": "bad"}}, refused(200)),
    ("the sign is not asked with 400", SLACK, 400, NONE, {"ok": True, "error": "odd"}, refused(400, "odd")),
]

# --- the provider's own errors

RULES: Facts = {
    "errors": [
        {"status": 200, "value": ["bad_refresh_token", "invalid_code"], "outcome": "dead"},
        {"field": "status", "value": "BAD_REFRESH_TOKEN", "outcome": "dead"},
        {"field": "code", "value": 4735, "outcome": "dead"},
        {"field": "errors.0.errorType", "value": "invalid_grant", "outcome": "dead"},
        {"value": 190, "outcome": "dead"},
        {"value": [4, 17, 32], "outcome": "throttled"},
        {"value": "Access Denied", "description": "too many requests", "outcome": "throttled", "retry_after": "10m"},
        {"status": [401, 403], "value": "access_denied", "outcome": "misconfigured"},
        {"value": "incorrect_client_credentials", "outcome": "misconfigured"},
        {
            "value": "invalid_request",
            "description": "AADSTS90002",
            "outcome": "misconfigured",
            "reason": "invalid_request",
        },
        {"value": "invalid_grant", "description": "AADSTS(50196|90055)", "outcome": "throttled"},
        {"status": 400, "description": "(?i)invalid refresh token", "outcome": "dead"},
        {"description_field": "fault.text", "description": "maintenance", "outcome": "unavailable"},
        {"value": "fatal_error", "outcome": "in_doubt"},
        {"status": 429, "value": "invalid_grant", "outcome": "dead"},
        {"status": 418, "outcome": "unavailable"},
        {"field": "blocked", "outcome": "throttled"},
        {"value": "unauthorized_client", "description": "Old refresh token used", "outcome": "dead"},
    ]
}
TOKENS_AND_A_WORD = b'"access_token":"at","refresh_token":"rt","error":190'
UNAVAILABLE = Reason.TEMPORARILY_UNAVAILABLE


def error(what: str, status: int, body: object, expected: Outcome, headers: Mapping[str, str] = NONE) -> Row:
    """Make a row of an error under all the rules."""
    return (what, RULES, status, headers, body, expected)


ERRORS: list[Row] = [
    error("GitHub's word with 200", 200, {"error": "bad_refresh_token"}, dead("bad_refresh_token", 200)),
    error("Zoho's word with 200", 200, {"error": "invalid_code"}, dead("invalid_code", 200)),
    error("the same word with 400: no rule", 400, {"error": "invalid_code"}, refused(400, "invalid_code")),
    error("tokens beside the word", 200, {**OK, "error": "invalid_code"}, dead("invalid_code", 200)),
    error("tokens beside the word with 400: no rule", 400, {**OK, "error": "invalid_code"}, rotated()),
    error("tokens beside a number of a rule", 500, {**OK, "code": 4735}, dead("4735", 500)),
    error("tokens beside a description of a rule", 400, {**OK, "message": "Invalid refresh token"}, dead(None)),
    error("tokens with a status of a rule", 418, OK, rotated()),
    error("tokens beside a member of a rule", 200, {**OK, "blocked": True}, rotated()),
    error("tokens and a word of a rule, something after", 200, b"{%s}//" % TOKENS_AND_A_WORD, dead("190", 200)),
    error("HubSpot's status", 400, {"status": "BAD_REFRESH_TOKEN"}, dead("BAD_REFRESH_TOKEN")),
    error("another status", 400, {"status": "BAD_CLIENT_ID"}, refused(400)),
    error("Zoom's number", 400, {"code": 4735, "reason": "x"}, dead("4735")),
    error("Zoom's number quoted", 400, {"code": "4735"}, dead("4735")),
    error("a number like Zoom's", 400, {"code": 47350}, refused(400)),
    error("a float like Zoom's", 400, {"code": 4735.0}, refused(400)),
    error("Fitbit's list", 401, {"errors": [{"errorType": "invalid_grant"}]}, dead("invalid_grant", 401)),
    error("Fitbit's list empty", 400, {"errors": []}, refused(400)),
    error("Fitbit's list of texts", 400, {"errors": ["invalid_grant"]}, refused(400)),
    error("Meta's number in an object", 400, {"error": {"code": 190, "type": "OAuthException"}}, dead("190")),
    error("Meta's limit", 400, {"error": {"code": 17}}, wait(None, "17")),
    error("Meta's limit with a time", 400, {"error": {"code": 4}}, wait(9, "4"), {"retry-after": "9"}),
    error(
        "Zoho's limit",
        400,
        {"error": "Access Denied", "error_description": "too many requests continuously"},
        wait(600, None),
    ),
    error(
        "Zoho's limit, time answered",
        400,
        {"error": "Access Denied", "message": "too many requests"},
        wait(3, None),
        {"retry-after": "3"},
    ),
    error("the word without the description", 400, {"error": "Access Denied"}, refused(400)),
    error("Atlassian's word", 403, {"error": "access_denied"}, ours("access_denied", 403)),
    error("Atlassian's word with 400", 400, {"error": "access_denied"}, refused(400, "access_denied")),
    error(
        "GitHub's other word", 200, {"error": "incorrect_client_credentials"}, ours("incorrect_client_credentials", 200)
    ),
    error(
        "Microsoft's number",
        400,
        {"error": "invalid_request", "error_description": "AADSTS90002: tenant"},
        ours("invalid_request", 400, Reason.INVALID_REQUEST),
    ),
    error(
        "Microsoft's loop",
        400,
        {"error": "invalid_grant", "error_description": "AADSTS50196: loop"},
        wait(None, "invalid_grant"),
    ),
    error(
        "invalid_grant as ever",
        400,
        {"error": "invalid_grant", "error_description": "AADSTS700082"},
        dead("invalid_grant"),
    ),
    error("a description alone", 400, {"message": "Invalid Refresh Token."}, dead(None)),
    error("a description in another case", 400, {"error": {"message": "INVALID REFRESH TOKEN"}}, dead(None)),
    error("a description in plain text", 400, b"invalid refresh token", dead(None)),
    error("a description in HTML", 400, b"<p>Invalid refresh token</p>", dead(None)),
    error("a description in a list", 400, [{"message": "invalid refresh token"}], dead(None)),
    error("a description of another status", 403, {"message": "Invalid refresh token"}, refused(403)),
    error("a description that is a number", 400, {"message": 7}, refused(400)),
    error("a description after 2000 characters", 400, {"message": "x" * 2000 + "invalid refresh token"}, refused(400)),
    error(
        "a description under its own path",
        400,
        {"fault": {"text": "maintenance"}},
        Unavailable(cause=Cause(reason=UNAVAILABLE, status=400), sent=True),
    ),
    error("the same words elsewhere", 400, {"message": "maintenance"}, refused(400)),
    error(
        "Slack's failure",
        200,
        {"error": "fatal_error"},
        InDoubt(cause=Cause(reason=Reason.SERVER_ERROR, status=200, code="fatal_error")),
    ),
    error("429 that a rule names", 429, {"error": "invalid_grant"}, dead("invalid_grant", 429)),
    error("429 that no rule names", 429, {"status": "BAD_REFRESH_TOKEN"}, wait(None, None, 429)),
    error("a status alone", 418, b"", Unavailable(cause=Cause(reason=UNAVAILABLE, status=418), sent=True)),
    error("a field that is there", 403, {"blocked": False}, wait(None, None, 403)),
    error("a field that is null", 403, {"blocked": None}, refused(403)),
    error(
        "Exact's word",
        401,
        {"error": "unauthorized_client", "error_description": "Old refresh token used."},
        dead("unauthorized_client", 401),
    ),
    error(
        "the same word as the RFC has it",
        401,
        {"error": "unauthorized_client"},
        ours("unauthorized_client", 401, Reason.UNAUTHORIZED_CLIENT),
    ),
    error(
        "no rule with 500",
        500,
        {"error": "odd"},
        InDoubt(cause=Cause(reason=Reason.SERVER_ERROR, status=500, code="odd")),
    ),
    error("a rule with 500", 500, {"code": 4735}, dead("4735", 500)),
    error("a rule in a redirect", 302, {"code": 4735}, dead("4735", 302)),
    error("a rule in a form", 200, b"error=bad_refresh_token", dead("bad_refresh_token", 200)),
    error("true is not 4735", 400, {"code": True}, refused(400)),
    error("an answer that names the secret", 400, {"error": SENT}, refused(400)),
]

# --- the access token itself is kept alive

EXCHANGE: Facts = {"style": "token_exchange"}
STYLES: list[Row] = [
    (
        "Meta: the new token is the one to present",
        EXCHANGE,
        200,
        NONE,
        {"access_token": "at", "expires_in": 5_184_000},
        rotated("at", seconds=5_184_000, refresh_lifetime=5_184_000),
    ),
    ("without a lifetime", EXCHANGE, 200, NONE, {"access_token": "at"}, rotated("at")),
    ("a refresh token that nobody asked for", EXCHANGE, 200, NONE, OK, rotated("at")),
    ("no token", EXCHANGE, 200, NONE, {"expires_in": 60}, unread()),
    ("nothing to refresh", {"style": "no_refresh"}, 200, NONE, {"access_token": "at"}, rotated(None)),
]

ROWS = [*PATHS, *EXPIRY, *CAPTURES, *SUCCESS, *ERRORS, *STYLES]


@pytest.mark.parametrize(
    ("facts", "status", "headers", "body", "expected"),
    [row[1:] for row in ROWS],
    ids=[f"{row[2]} {row[0]}" for row in ROWS],
)
def test_an_answer_means_by_the_facts(
    facts: Facts, status: int, headers: Mapping[str, str], body: object, expected: Outcome
) -> None:
    """Each answer of the table has exactly its outcome under its provider's facts, and shows no secret."""
    table = {"authorization_endpoint": "https://acme.example/a", "token_endpoint": "https://acme.example/t", **facts}
    registry = build_registry(
        catalogue={"acme": table}, providers={}, clients={}, environment={}, public_url="https://tokens.example"
    )
    provider = registry.providers["acme"]
    content = body if isinstance(body, bytes) else json.dumps(body).encode()

    outcome = classify(
        HttpAnswer(status=status, headers=headers, body=content),
        facts=SINGLE_USE,
        secrets=(Secret(SENT), Secret(CLIENT_SECRET)),
        reading=reading_of(provider, provider.refresh),
    )

    assert outcome == expected
    assert SENT not in repr(outcome)
    assert CLIENT_SECRET not in repr(outcome)


def test_the_table_is_a_table() -> None:
    """No row stands twice, and there are enough of them to be worth the name."""
    names = [(row[2], row[0]) for row in ROWS]

    assert len(names) == len(set(names))
    assert len(names) >= 150
