"""The odd answers of token endpoints, and what each means: read directly, and once more over a real connection.

Sources: RFC 6749 sections 5.1 and 5.2, RFC 6585, RFC 9110, and the deviations that are known of providers. The client
of this table presents a single-use refresh token, the case in which every misreading costs a grant.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from datetime import timedelta

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
from worker.oauth.exchange import BODY_LIMIT
from worker.oauth.http_client import create_http_client
from worker.oauth.registry import build_registry
from worker.oauth.token_answer import HttpAnswer
from worker.oauth.token_endpoint import TokenEndpoint

SENT = "rt-0f4c6a7be29d"
CLIENT_SECRET = "cs-77e1d25f30aa"
SINGLE_USE = TokenFacts(old_token=OldToken.INVALIDATED)


def rotated(
    access: str = "at",
    refresh: str | None = "rt",
    *,
    seconds: float | None = None,
    refresh_seconds: float | None = None,
    scopes: tuple[str, ...] | None = None,
) -> Rotated:
    """Expect tokens."""
    return Rotated(
        tokens=Tokens(
            access_token=Secret(access),
            refresh_token=None if refresh is None else Secret(refresh),
            access_lifetime=None if seconds is None else timedelta(seconds=seconds),
            refresh_lifetime=None if refresh_seconds is None else timedelta(seconds=refresh_seconds),
            scopes=scopes,
        )
    )


def dead(status: int = 400) -> Dead:
    """Expect the end of the grant."""
    return Dead(cause=Cause(reason=Reason.INVALID_GRANT, status=status, code="invalid_grant"))


def ours(reason: Reason, status: int, code: str | None = None) -> Misconfigured:
    """Expect a fault of ours, by the code of that name where none is given."""
    return Misconfigured(cause=Cause(reason=reason, status=status, code=code))


def wait(seconds: float | None = None, status: int = 429, code: str | None = None) -> Throttled:
    """Expect a pause."""
    retry_after = None if seconds is None else timedelta(seconds=seconds)
    return Throttled(cause=Cause(reason=Reason.RATE_LIMITED, status=status, code=code), retry_after=retry_after)


def refused(status: int, code: str | None = None) -> Unavailable:
    """Expect an error that nobody knows: never dead, tried again later."""
    return Unavailable(cause=Cause(reason=Reason.UNRECOGNIZED_ERROR, status=status, code=code), sent=True)


def failed(status: int, code: str | None = None, reason: Reason = Reason.SERVER_ERROR) -> InDoubt:
    """Expect a server's failure, after which the token may have been spent."""
    return InDoubt(cause=Cause(reason=reason, status=status, code=code))


def unread(status: int = 200) -> InDoubt:
    """Expect a success that could not be read."""
    return InDoubt(cause=Cause(reason=Reason.UNREADABLE_ANSWER, status=status))


OK = {"access_token": "at", "refresh_token": "rt"}
PAIR = b'"access_token":"at","refresh_token":"rt"'
HTML = b"<!doctype html><title>502 Bad Gateway</title>"
DATE = "Mon, 23 Nov 2026 12:00:00 GMT"
IN_TWO_MINUTES = "Mon, 23 Nov 2026 12:02:00 GMT"
GRANT = {"error": "invalid_grant"}
INVALID_CLIENT = ours(Reason.INVALID_CLIENT, 401, "invalid_client")
MISSING = Reason.ENDPOINT_NOT_FOUND

Row = tuple[str, int, Mapping[str, str], object, Outcome]

# What an answer is, its status, its headers, its body (bytes as they are, everything else as JSON), and the outcome.
SUCCESSES: list[Row] = [
    ("the RFC's own", 200, {}, {**OK, "token_type": "Bearer", "expires_in": 3600}, rotated(seconds=3600)),
    ("no refresh token: the old one is kept", 200, {}, {"access_token": "at"}, rotated(refresh=None)),
    ("refresh token null", 200, {}, {**OK, "refresh_token": None}, rotated(refresh=None)),
    ("refresh token empty", 200, {}, {**OK, "refresh_token": ""}, rotated(refresh=None)),
    ("refresh token a number", 200, {}, {**OK, "refresh_token": 7}, rotated(refresh=None)),
    ("refresh token unchanged", 200, {}, {**OK, "refresh_token": SENT}, rotated(refresh=SENT)),
    ("201", 201, {}, OK, rotated()),
    ("202", 202, {}, OK, rotated()),
    ("203", 203, {}, OK, rotated()),
    ("299", 299, {}, OK, rotated()),
    ("byte order mark", 200, {}, b"\xef\xbb\xbf{" + PAIR + b"}", rotated()),
    ("whitespace around", 200, {}, b"\r\n\t {" + PAIR + b"} \n\n", rotated()),
    ("escaped", 200, {}, b'{"access_token":"\\u0061t","refresh\\u005ftoken":"rt"}', rotated()),
    ("content type text/html", 200, {"content-type": "text/html"}, OK, rotated()),
    ("content type form", 200, {"content-type": "application/x-www-form-urlencoded"}, OK, rotated()),
    ("content type nonsense", 200, {"content-type": "%%%"}, OK, rotated()),
    ("charset nobody has", 200, {"content-type": "application/json; charset=klingon"}, OK, rotated()),
    ("charset UTF-16 declared, UTF-8 sent", 200, {"content-type": "application/json; charset=utf-16"}, OK, rotated()),
    ("a latin-1 byte in another member", 200, {}, b"{" + PAIR + b',"name":"Ren\xe9"}', rotated()),
    ("raw control characters in a string", 200, {}, b"{" + PAIR + b',"note":"a\tb\nc\x00"}', rotated()),
    ("NaN, Infinity and -Infinity", 200, {}, b"{" + PAIR + b',"a":NaN,"b":Infinity,"c":[-Infinity]}', rotated()),
    ("a number of 5000 digits", 200, {}, b"{" + PAIR + b',"big":' + b"9" * 5000 + b"}", rotated()),
    ("300 levels deep", 200, {}, b"{" + PAIR + b',"deep":' + b"[" * 300 + b"]" * 300 + b"}", rotated()),
    ("another member of 200 kB", 200, {}, {**OK, "filler": "x" * 200_000}, rotated()),
    ("an access token of 100 kB", 200, {}, {**OK, "access_token": "x" * 100_000}, rotated("x" * 100_000)),
    ("an access token of one space", 200, {}, {**OK, "access_token": " "}, rotated(" ")),
    ("an access token with a NUL", 200, {}, {**OK, "access_token": "a\x00t"}, rotated("a\x00t")),
    ("an access token beyond ASCII", 200, {}, {**OK, "access_token": "ключ-🔑"}, rotated("ключ-🔑")),
    (
        "a refresh token with half a surrogate pair",
        200,
        {},
        {**OK, "refresh_token": "\ud800"},
        rotated(refresh="\ud800"),
    ),
    ("duplicate keys: the last", 200, {}, b'{"access_token":"x",' + PAIR + b',"access_token":"y"}', rotated("y")),
    ("an error beside the tokens", 200, {}, {**OK, **GRANT}, rotated()),
    ("error null beside the tokens", 200, {}, {**OK, "error": None}, rotated()),
    ("ok false beside the tokens", 200, {}, {**OK, "ok": False}, rotated()),
    ("Retry-After beside the tokens", 200, {"retry-after": "60"}, OK, rotated()),
    ("another token type", 200, {}, {**OK, "token_type": "mac"}, rotated()),
    ("the tokens under data", 200, {}, {"data": OK}, rotated()),
    ("the tokens as form", 200, {}, b"access_token=at&refresh_token=rt&expires_in=3600", rotated(seconds=3600)),
    ("the tokens as form, escaped", 200, {}, b"token_type=bearer&access_token=a%2Bt", rotated("a+t", None)),
    ("expires_in quoted", 200, {}, {**OK, "expires_in": "3600"}, rotated(seconds=3600)),
    ("expires_in a float", 200, {}, {**OK, "expires_in": 3599.5}, rotated(seconds=3599.5)),
    ("expires_in zero", 200, {}, {**OK, "expires_in": 0}, rotated()),
    ("expires_in negative", 200, {}, {**OK, "expires_in": -1}, rotated()),
    ("expires_in true", 200, {}, {**OK, "expires_in": True}, rotated()),
    ("expires_in null", 200, {}, {**OK, "expires_in": None}, rotated()),
    ("expires_in NaN", 200, {}, b"{" + PAIR + b',"expires_in":NaN}', rotated()),
    ("expires_in Infinity", 200, {}, b"{" + PAIR + b',"expires_in":Infinity}', rotated()),
    ("expires_in 1e400", 200, {}, b"{" + PAIR + b',"expires_in":1e400}', rotated()),
    ("expires_in of 400 digits", 200, {}, b"{" + PAIR + b',"expires_in":1' + b"0" * 400 + b"}", rotated()),
    ("expires_in of 5000 digits", 200, {}, b"{" + PAIR + b',"expires_in":1' + b"0" * 5000 + b"}", rotated()),
    ("expires_in an epoch in milliseconds", 200, {}, {**OK, "expires_in": 1_795_435_200_000}, rotated()),
    ("expires_in an instant", 200, {}, {**OK, "expires_in": "2026-11-23T12:00:00Z"}, rotated()),
    ("expires_in a list", 200, {}, {**OK, "expires_in": [3600]}, rotated()),
    ("refresh_token_expires_in", 200, {}, {**OK, "refresh_token_expires_in": 7200}, rotated(refresh_seconds=7200)),
    ("refresh_expires_in", 200, {}, {**OK, "refresh_expires_in": "7200"}, rotated(refresh_seconds=7200)),
    ("refresh_expires_in zero: no end", 200, {}, {**OK, "refresh_expires_in": 0}, rotated()),
    ("scope a string", 200, {}, {**OK, "scope": "a b"}, rotated(scopes=("a", "b"))),
    ("scope a list", 200, {}, {**OK, "scope": ["a", "b"]}, rotated(scopes=("a", "b"))),
    ("scope with commas", 200, {}, {**OK, "scope": "a,b"}, rotated(scopes=("a", "b"))),
    ("scope an object", 200, {}, {**OK, "scope": {"a": True}}, rotated()),
    ("scope with half a surrogate pair", 200, {}, {**OK, "scope": "a \udfff"}, rotated(scopes=("a",))),
    ("scope with a NUL", 200, {}, {**OK, "scope": "a b\x00"}, rotated(scopes=("a",))),
    ("scope that repeats the refresh token", 200, {}, {**OK, "scope": f"a {SENT}"}, rotated(scopes=("a",))),
]

# What is no JSON as a whole, and yet holds one whole object with tokens.
WITHIN: list[Row] = [
    ("the tokens in a list", 200, {}, [OK], rotated()),
    ("the tokens in a JSON text", 200, {}, json.dumps(OK), rotated()),
    ("something after the JSON", 200, {}, b"{" + PAIR + b"}<!-- 3 ms -->", rotated()),
    ("a warning of PHP before it", 200, {}, b"<b>Notice</b>: line 7<br />\n{" + PAIR + b"}", rotated()),
    ("in a function's call: JSONP", 200, {}, b"callback({" + PAIR + b"});", rotated()),
    ("a semicolon after it", 200, {}, b"{" + PAIR + b"};", rotated()),
    ("zeros after it", 200, {}, b"{" + PAIR + b"}\x00\x00", rotated()),
    ("a guard against scripts before it", 200, {}, b")]}',\n{" + PAIR + b"}", rotated()),
    ("a brace too many", 200, {}, b"{" + PAIR + b"}}", rotated()),
    ("UTF-16", 200, {}, json.dumps(OK).encode("utf-16"), rotated()),
    ("UTF-16 without a mark", 200, {}, json.dumps(OK).encode("utf-16-le"), rotated()),
    ("UTF-32", 200, {}, json.dumps(OK).encode("utf-32"), rotated()),
    ("whole before the cap, and spaces beyond it", 200, {}, b"{" + PAIR + b"}" + b" " * 300_000, rotated()),
    ("an error in it is not believed", 400, {}, b'{"error":"invalid_grant"}<!-- -->', refused(400)),
    ("an error in a list is not believed", 200, {}, [GRANT], unread()),
]

# What carries tokens with a status that is no success. An access token alone can be had again.
AGAINST_THE_STATUS: list[Row] = [
    ("tokens with 401", 401, {}, OK, rotated()),
    ("tokens with 404", 404, {}, OK, rotated()),
    ("tokens with 503 and Retry-After", 503, {"retry-after": "9"}, OK, rotated()),
    ("tokens with 400 as form", 400, {}, b"access_token=at&refresh_token=rt", rotated()),
    ("tokens with 500 and something after them", 500, {}, b"{" + PAIR + b"}<!-- 3 ms -->", rotated()),
    ("tokens with 400 and an unknown error", 400, {}, {**OK, "error": "odd"}, rotated()),
    ("tokens with 500 and server_error", 500, {}, {**OK, "error": "server_error"}, rotated()),
    ("tokens with 400 and slow_down", 400, {}, {**OK, "error": "slow_down"}, rotated()),
    ("tokens with 400 and invalid_grant", 400, {}, {**OK, **GRANT}, dead()),
    ("tokens with 401 and invalid_client", 401, {}, {**OK, "error": "invalid_client"}, INVALID_CLIENT),
    ("tokens with 429 and invalid_grant", 429, {}, {**OK, **GRANT}, wait(code="invalid_grant")),
    ("an access token alone with 400", 400, {}, {"access_token": "at"}, refused(400)),
    ("an access token alone with 500", 500, {}, {"access_token": "at"}, failed(500)),
    ("an access token alone with 302", 302, {}, {"access_token": "at"}, ours(Reason.REDIRECTED, 302)),
    ("what was sent, with 400", 400, {}, {"access_token": SENT, "refresh_token": SENT}, refused(400)),
    ("tokens out of their place with 400", 400, {}, {"request": OK}, refused(400)),
    ("tokens out of their place with 500", 500, {}, {"data": OK}, failed(500)),
]

UNREADABLE: list[Row] = [
    ("empty", 200, {}, b"", unread()),
    ("204", 204, {}, b"", unread(204)),
    ("HTML", 200, {"content-type": "text/html"}, HTML, unread()),
    ("plain text", 200, {}, b"OK", unread()),
    ("null", 200, {}, None, unread()),
    ("true", 200, {}, True, unread()),
    ("a number", 200, {}, 7, unread()),
    ("a string", 200, {}, "access_token", unread()),
    ("an empty object", 200, {}, {}, unread()),
    ("an empty list", 200, {}, [], unread()),
    ("two objects with tokens: nobody knows whose", 200, {}, {"a": OK, "b": {"access_token": "x"}}, unread()),
    ("the tokens as half a form", 200, {}, b"access_token=at&refresh_token=rt\r\n<p>", unread()),
    ("the tokens as XML", 200, {}, b"<access_token>at</access_token>", unread()),
    ("JSON cut short", 200, {}, b"{" + PAIR, unread()),
    ("a page with settings", 200, {}, b'<script>const map = {"a": {"access_token": "pk"}}</script>', unread()),
    ("two in a list: nobody knows whose", 200, {}, [OK, OK], unread()),
    ("tokens in one of two objects", 200, {}, b'{"note":1}{' + PAIR + b"}", unread()),
    ("markup with braces before the JSON", 200, {}, b"<style>p {}</style>{" + PAIR + b"}", unread()),
    ("cut short, with a whole object inside", 200, {}, b'{"access_token":"at","user":{' + PAIR + b"},", unread()),
    ("two objects", 200, {}, b"{" + PAIR + b"}{" + PAIR + b"}", unread()),
    ("single quotes", 200, {}, b"{'access_token':'at'}", unread()),
    ("random bytes", 200, {}, bytes(range(256)), unread()),
    ("UTF-32 with what is no character", 200, {}, b"\x00\x00\x00{\xff\xff\xff\xff", unread()),
    ("UTF-16 with an odd byte", 200, {}, b'{\x00"\x00a', unread()),
    ("100 000 levels deep", 200, {}, b"[" * 100_000, unread()),
    ("larger than the cap", 200, {}, {**OK, "filler": "x" * 300_000}, unread()),
    ("access token empty", 200, {}, {**OK, "access_token": ""}, unread()),
    ("access token null", 200, {}, {**OK, "access_token": None}, unread()),
    ("access token a number", 200, {}, {**OK, "access_token": 12345}, unread()),
    ("access token a list", 200, {}, {**OK, "access_token": ["at"]}, unread()),
    ("access token an object", 200, {}, {**OK, "access_token": {"value": "at"}}, unread()),
    ("access token under another name", 200, {}, {"accessToken": "at"}, unread()),
    ("error an empty object", 200, {}, {"error": {}}, unread()),
    ("error a sentence", 200, {}, {"error": "Something went wrong."}, unread()),
]

ERRORS: list[Row] = [
    ("invalid_grant", 400, {}, GRANT, dead()),
    ("invalid_grant with 401", 401, {}, GRANT, dead(401)),
    ("invalid_grant with 403: Auth0, Atlassian", 403, {}, GRANT, dead(403)),
    ("invalid_grant with 403 and Retry-After", 403, {"retry-after": "5"}, GRANT, dead(403)),
    ("invalid_grant with 200", 200, {}, GRANT, dead(200)),
    ("invalid_grant with a description", 400, {}, {**GRANT, "error_description": f"{SENT} expired"}, dead()),
    ("invalid_grant as HTML by its type", 400, {"content-type": "text/html"}, GRANT, dead()),
    ("invalid_grant after a byte order mark", 400, {}, b'\xef\xbb\xbf{"error":"invalid_grant"}', dead()),
    ("invalid_grant as form", 400, {}, b"error=invalid_grant&error_description=no", dead()),
    ("invalid_grant in an error object", 400, {}, {"error": {"code": "invalid_grant", "message": "no"}}, dead()),
    ("invalid_grant as an object's type", 400, {}, {"error": {"type": "invalid_grant"}}, dead()),
    ("invalid_grant beside an empty access token", 200, {}, {**GRANT, "access_token": ""}, dead(200)),
    ("invalid_grant in a redirect", 302, {}, GRANT, dead(302)),
    ("Zoom: a reason beside it", 400, {}, {"reason": "Invalid Token!", **GRANT}, dead()),
    ("HubSpot: a status beside it", 400, {}, {"status": "BAD_REFRESH_TOKEN", **GRANT}, dead()),
    ("invalid_grant in capitals is unknown", 400, {}, {"error": "INVALID_GRANT"}, refused(400, "INVALID_GRANT")),
    ("invalid_grant with a space is no code", 400, {}, {"error": "invalid_grant "}, refused(400)),
    ("invalid_grant in a list is no code", 400, {}, {"error": ["invalid_grant"]}, refused(400)),
    ("invalid_grant in the description only", 400, {}, {"error_description": "invalid_grant"}, refused(400)),
    ("invalid_grant in HTML only", 400, {}, b"<h1>invalid_grant</h1>", refused(400)),
    ("invalid_grant as plain JSON string", 400, {}, "invalid_grant", refused(400)),
    ("invalid_client", 401, {}, {"error": "invalid_client"}, INVALID_CLIENT),
    (
        "invalid_client with 400",
        400,
        {},
        {"error": "invalid_client"},
        ours(Reason.INVALID_CLIENT, 400, "invalid_client"),
    ),
    (
        "invalid_client with 200",
        200,
        {},
        {"error": "invalid_client"},
        ours(Reason.INVALID_CLIENT, 200, "invalid_client"),
    ),
    ("invalid_client with Retry-After", 401, {"retry-after": "9"}, {"error": "invalid_client"}, INVALID_CLIENT),
    ("401 without a body", 401, {}, b"", ours(Reason.INVALID_CLIENT, 401)),
    ("401 and HTML", 401, {"www-authenticate": "Basic"}, HTML, ours(Reason.INVALID_CLIENT, 401)),
    ("401 and an unknown code", 401, {}, {"error": "nope"}, ours(Reason.INVALID_CLIENT, 401, "nope")),
    *(
        (code, 400, {}, {"error": code}, ours(Reason(code), 400, code))
        for code in ("unauthorized_client", "invalid_request", "invalid_scope", "unsupported_grant_type")
    ),
    ("404 and HTML", 404, {}, HTML, ours(MISSING, 404)),
    ("404 and JSON", 404, {}, {"message": "no route"}, ours(MISSING, 404)),
    ("404 and invalid_grant", 404, {}, GRANT, dead(404)),
    ("405", 405, {"allow": "GET"}, b"", ours(MISSING, 405)),
    ("410", 410, {}, b"", ours(MISSING, 410)),
    ("415", 415, {}, b"", ours(MISSING, 415)),
    ("301", 301, {"location": "https://elsewhere.example/"}, b"", ours(Reason.REDIRECTED, 301)),
    ("302 without a location", 302, {}, b"", ours(Reason.REDIRECTED, 302)),
    ("303 and tokens", 303, {}, OK, rotated()),
    ("307", 307, {"location": "/other"}, b"", ours(Reason.REDIRECTED, 307)),
    ("308", 308, {"location": "/other"}, b"", ours(Reason.REDIRECTED, 308)),
    ("an unknown code", 400, {}, {"error": "expired_refresh"}, refused(400, "expired_refresh")),
    ("Reddit: a number", 400, {}, {"message": "Bad Request", "error": 400}, refused(400, "400")),
    ("Meta: an object with a number", 400, {}, {"error": {"code": 190, "type": "OAuthException"}}, refused(400, "190")),
    ("GitHub: an unknown code with 200", 200, {}, {"error": "bad_refresh_token"}, refused(200, "bad_refresh_token")),
    ("Slack: an unknown code with 200", 200, {}, {"ok": False, "error": "fatal_error"}, refused(200, "fatal_error")),
    ("Fitbit: a list of errors", 400, {}, {"errors": [{"errorType": "invalid_grant"}]}, refused(400)),
    ("Okta: its own member", 400, {}, {"errorCode": "E0000022"}, refused(400)),
    ("tokens with 400", 400, {}, OK, rotated()),
    ("400 without a body", 400, {}, b"", refused(400)),
    ("400 and a list", 400, {}, [GRANT], refused(400)),
    ("402", 402, {}, b"", refused(402)),
    ("403 and HTML", 403, {}, HTML, refused(403)),
    ("403 with requests remaining", 403, {"x-ratelimit-remaining": "7"}, b"", refused(403)),
    ("425", 425, {}, b"", refused(425)),
    ("error a boolean", 400, {}, {"error": True}, refused(400)),
    ("error a sentence with 400", 400, {}, {"error": "the token is bad"}, refused(400)),
    ("error of 65 characters", 400, {}, {"error": "x" * 65}, refused(400)),
    ("error with a NUL", 400, {}, {"error": "bad\x00code"}, refused(400)),
    ("error with half a surrogate pair", 400, {}, {"error": "\ud800"}, refused(400)),
    ("error with markup", 400, {}, {"error": "<script>"}, refused(400)),
    ("error of 5000 digits", 400, {}, b'{"error":' + b"9" * 5000 + b"}", refused(400)),
    ("error echoes the refresh token", 400, {}, {"error": SENT}, refused(400)),
    ("error echoes it with more around", 400, {}, {"error": f"unknown:{SENT}"}, refused(400)),
    ("error echoes a part of it", 400, {}, {"error": SENT[:8]}, refused(400)),
    ("error echoes the client secret", 401, {}, {"error": CLIENT_SECRET}, ours(Reason.INVALID_CLIENT, 401)),
    ("error repeats a token it brings", 400, {}, {"error": "at-new-777", "access_token": "at-new-777"}, refused(400)),
]

THROTTLING: list[Row] = [
    ("429", 429, {}, b"", wait()),
    ("429 and HTML", 429, {}, HTML, wait()),
    ("429 with seconds", 429, {"retry-after": "120"}, b"", wait(120)),
    ("429 with zero", 429, {"retry-after": "0"}, b"", wait(0)),
    ("429 with a date", 429, {"retry-after": IN_TWO_MINUTES, "date": DATE}, b"", wait(120)),
    ("429 with a date of the past", 429, {"retry-after": "Mon, 23 Nov 2026 11:00:00 GMT", "date": DATE}, b"", wait(0)),
    ("429 with a date but no Date", 429, {"retry-after": IN_TWO_MINUTES}, b"", wait()),
    ("429 with an unreadable wait", 429, {"retry-after": "a while"}, b"", wait()),
    ("429 with a negative wait", 429, {"retry-after": "-5"}, b"", wait()),
    ("429 with a fraction", 429, {"retry-after": "1.5"}, b"", wait()),
    ("429 with a wait of 5000 digits", 429, {"retry-after": "9" * 5000}, b"", wait(315_360_000)),
    ("429 and slow_down", 429, {"retry-after": "5"}, {"error": "slow_down"}, wait(5, code="slow_down")),
    ("429 and invalid_grant", 429, {}, GRANT, wait(code="invalid_grant")),
    ("429 and invalid_client", 429, {}, {"error": "invalid_client"}, wait(code="invalid_client")),
    ("429 and invalid_request", 429, {}, {"error": "invalid_request"}, wait(code="invalid_request")),
    ("429 and tokens", 429, {}, OK, rotated()),
    ("429 as Google writes it", 429, {}, {"error": {"code": 429, "status": "RESOURCE_EXHAUSTED"}}, wait(code="429")),
    ("Slack: ratelimited with 200", 200, {"retry-after": "30"}, {"error": "ratelimited"}, wait(30, 200, "ratelimited")),
    ("slow_down with 400", 400, {}, {"error": "slow_down"}, wait(None, 400, "slow_down")),
    ("too_many_requests with 400", 400, {}, {"error": "too_many_requests"}, wait(None, 400, "too_many_requests")),
    ("403 with Retry-After", 403, {"retry-after": "7"}, HTML, wait(7, 403)),
    ("403 with none remaining: GitHub", 403, {"x-ratelimit-remaining": "0"}, {"message": "limit"}, wait(None, 403)),
    ("503 with Retry-After", 503, {"retry-after": "7"}, HTML, wait(7, 503)),
]

FAILURES: list[Row] = [
    ("500 without a body", 500, {}, b"", failed(500)),
    ("500 and HTML", 500, {}, HTML, failed(500)),
    ("500 and tokens", 500, {}, OK, rotated()),
    ("500 and an unknown code", 500, {}, {"error": "oops"}, failed(500, "oops")),
    ("500 and a boolean error", 500, {}, {"error": False}, failed(500)),
    ("500 that echoes the refresh token", 500, {}, {"error": SENT}, failed(500)),
    ("500 with Retry-After", 500, {"retry-after": "7"}, b"", failed(500)),
    ("502", 502, {}, HTML, failed(502)),
    ("503 without Retry-After", 503, {}, HTML, failed(503)),
    ("504", 504, {}, HTML, failed(504)),
    ("520 of a content delivery network", 520, {}, HTML, failed(520)),
    ("599", 599, {}, b"", failed(599)),
    ("999", 999, {}, b"", failed(999)),
    ("408", 408, {}, b"", failed(408)),
    ("server_error with 400", 400, {}, {"error": "server_error"}, failed(400, "server_error")),
    ("server_error with 200", 200, {}, {"error": "server_error"}, failed(200, "server_error")),
    (
        "temporarily_unavailable",
        503,
        {"retry-after": "9"},
        {"error": "temporarily_unavailable"},
        failed(503, "temporarily_unavailable", Reason.TEMPORARILY_UNAVAILABLE),
    ),
]

ROWS = [*SUCCESSES, *WITHIN, *AGAINST_THE_STATUS, *UNREADABLE, *ERRORS, *THROTTLING, *FAILURES]
PARAMETERS = pytest.mark.parametrize(
    ("status", "headers", "body", "expected"),
    [(status, headers, body, expected) for _what, status, headers, body, expected in ROWS],
    ids=[f"{status} {what}" for what, status, *_rest in ROWS],
)


def encoded(body: object) -> bytes:
    """Return the body as it goes over the wire."""
    return body if isinstance(body, bytes) else json.dumps(body).encode()


@PARAMETERS
def test_an_answer_means(status: int, headers: Mapping[str, str], body: object, expected: Outcome) -> None:
    """Each answer of the table has exactly its outcome, which shows none of the secrets."""
    content = encoded(body)
    limit = BODY_LIMIT
    answer = HttpAnswer(status=status, headers=headers, body=content[:limit], cut=len(content) > limit)

    outcome = classify(answer, facts=SINGLE_USE, secrets=(Secret(SENT), Secret(CLIENT_SECRET)))

    assert outcome == expected
    assert SENT not in repr(outcome)
    assert CLIENT_SECRET not in repr(outcome)


@pytest.mark.anyio
@PARAMETERS
async def test_the_same_answer_over_a_connection_means_the_same(
    status: int, headers: Mapping[str, str], body: object, expected: Outcome
) -> None:
    """Sent by a real server through the real HTTP client, each answer of the table has the same outcome."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        request = json.loads(await reader.readexactly(int(length.partition(b":")[2])))
        assert request["refresh_token"] == SENT
        content = encoded(body)
        lines = [f"HTTP/1.1 {status} whatever", *(f"{name}: {value}" for name, value in headers.items())]
        lines += ["Connection: close", *([] if status == 204 else [f"Content-Length: {len(content)}"])]
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + content)
        try:
            await writer.drain()
        except ConnectionError:
            assert len(content) > BODY_LIMIT, "only an answer beyond the cap is not read to its end"
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    provider = {
        "authorization_endpoint": f"{address}/authorize",
        "token_endpoint": f"{address}/token",
        "token_request_encoding": "json",
        "client_auth": "client_secret_post",
        "old_token": "invalidated",
    }
    registry = build_registry(
        catalogue={},
        providers={"p": provider},
        clients={"c": {"provider": "p", "client_id": "abc", "client_secret": "env:S"}},
        environment={"S": CLIENT_SECRET},
        public_url="http://127.0.0.1",
    )
    async with server, create_http_client(user_agent="Evergrant tests") as http:
        answered = await TokenEndpoint(http, time.monotonic).refresh(registry.client("c"), Secret(SENT))

    assert answered.outcome == expected


def test_the_table_is_a_table() -> None:
    """No row stands twice, and there are enough of them to be worth the name."""
    names = [f"{status} {what}" for what, status, *_rest in ROWS]

    assert len(names) == len(set(names))
    assert len(names) >= 150
