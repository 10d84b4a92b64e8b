"""Reading single fields of a token answer: lifetimes, scopes, error codes, Retry-After and Date."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.domain.outcome import Tokens
from worker.domain.secret import Secret
from worker.oauth.token_answer import (
    HttpAnswer,
    read_date,
    read_error_code,
    read_object,
    read_retry_after,
    without_secrets,
)
from worker.oauth.token_reading import read_tokens

REFRESH_TOKEN = "rt-0f4c6a7be29d"
SENT = (Secret(REFRESH_TOKEN),)
NOON = "Mon, 23 Nov 2026 12:00:00 GMT"


def tokens(**fields: Any) -> Tokens:
    """Read an answer with an access token and these fields."""
    read = read_tokens({"access_token": "at-1", **fields}, SENT)
    assert read is not None
    return read


@pytest.mark.parametrize(
    ("answered", "seconds"),
    [
        *[(3600, 3600), (3600.5, 3600.5), (1, 1), (0.5, 0.5), (315_360_000, 315_360_000)],
        *[("3600", 3600), (" 3600 ", 3600), ("3600.0", 3600), ("1e3", 1000), ("+60", 60)],
        *[(0, None), (-1, None), (-0.0, None), ("0", None), ("-3600", None), (315_360_001, None), (10**400, None)],
        *[(float("nan"), None), (float("inf"), None), (float("-inf"), None), ("nan", None), ("inf", None)],
        *[("", None), ("an hour", None), ("3600s", None), ("0x10", None), ("9" * 400, None), ("1e400", None)],
        *[(True, None), (False, None), (None, None), ([3600], None), ({"seconds": 3600}, None)],
        *[("2026-11-23T12:00:00Z", None), (1_795_435_200_000, None)],
    ],
)
def test_lifetimes(answered: object, seconds: float | None) -> None:
    """Seconds between zero and ten years, as a number or quoted, are believed; everything else is unknown."""
    lifetime = None if seconds is None else timedelta(seconds=seconds)

    assert tokens(expires_in=answered).access_lifetime == lifetime
    assert tokens(refresh_token_expires_in=answered).refresh_lifetime == lifetime
    assert tokens(refresh_expires_in=answered).refresh_lifetime == lifetime


@settings(deadline=None)
@given(answered=st.integers() | st.floats() | st.text() | st.booleans() | st.none())
def test_no_lifetime_raises_or_is_absurd(answered: object) -> None:
    """Whatever stands there, the lifetime is unknown or within ten years."""
    lifetime = tokens(expires_in=answered).access_lifetime

    assert lifetime is None or timedelta(0) <= lifetime <= timedelta(days=3650)


@pytest.mark.parametrize(
    ("answered", "scopes"),
    [
        *[("profile organization", ("profile", "organization")), ("a,b, c", ("a", "b", "c")), (" a  b ", ("a", "b"))],
        *[(["a", "b"], ("a", "b")), (["a", 7, None, "b"], ("a", "b")), ("", None), ("  ", None), ([], None)],
        *[(7, None), (None, None), ({"a": 1}, None), ("a\x00b c", ("c",)), ("a \ud800", ("a",)), ("x" * 513, None)],
        *[(f"a {REFRESH_TOKEN} b", ("a", "b")), (f"a prefix{REFRESH_TOKEN}", ("a",)), ("a at-1", ("a",))],
    ],
)
def test_scopes(answered: object, scopes: tuple[str, ...] | None) -> None:
    """A string or a list is read; what cannot be stored, is no scope or repeats a token is left out."""
    assert tokens(scope=answered).scopes == scopes


def test_scopes_are_bounded() -> None:
    """An answer with thousands of scopes is cut."""
    assert len(tokens(scope=" ".join(f"s{number}" for number in range(5000))).scopes or ()) == 200


@pytest.mark.parametrize(
    ("error", "code"),
    [
        *[("invalid_grant", "invalid_grant"), ("E0000047", "E0000047"), ("a.b:c-d_e", "a.b:c-d_e")],
        *[(400, "400"), (-1, "-1"), ({"code": "c"}, "c"), ({"code": 190}, "190"), ({"type": "t"}, "t")],
        *[({"code": None, "type": "t"}, None), ({"code": {"x": 1}}, None), ({}, None), (["invalid_grant"], None)],
        *[("", None), ("x" * 64, "x" * 64), ("x" * 65, None), ("two words", None), ("invalid_grant\n", None)],
        *[(True, None), (None, None), (1.5, None), ("<b>", None), ("${jndi}", None), ("a/b", None), ("é", None)],
        *[("a\x00b", None), ("\ud800", None), (10**70, None)],
    ],
)
def test_error_codes(error: object, code: str | None) -> None:
    """Short plain codes are read, wherever they stand; what is no code is none."""
    assert read_error_code({"error": error}) == code


@pytest.mark.parametrize(
    ("code", "shown"),
    [
        *[("access_denied", "access_denied"), ("190", "190"), ("0f4c6", "0f4c6"), (None, None)],
        *[(REFRESH_TOKEN, None), (f"bad:{REFRESH_TOKEN}", None), ("0f4c6a", None), ("be29d", "be29d")],
        *[("at-77777", None), ("x-at-77777-x", None), ("it-88888", None), ("rt-99999", None)],
    ],
)
def test_a_code_that_repeats_a_secret_is_not_shown(code: str | None, shown: str | None) -> None:
    """Neither a secret that was sent or received, nor a part that tells something of one, is kept as a code."""
    fields = {"access_token": "at-77777", "id_token": "it-88888", "refresh_token": "rt-99999"}

    assert without_secrets(code, fields, (*SENT, Secret(""))) == shown


@pytest.mark.parametrize(
    ("retry_after", "date", "seconds"),
    [
        *[
            ("120", None, 120),
            (" 7 ", None, 7),
            ("0", None, 0),
            ("007", None, 7),
            ("99999999999999999999", None, 315_360_000),
        ],
        *[
            ("9" * 5000, None, 315_360_000),
            ("", None, None),
            ("soon", None, None),
            ("-5", None, None),
            ("1.5", None, None),
        ],
        *[("1e3", None, None), ("٣", None, None), ("²", None, None), ("5, 5", None, None), ("0x10", None, None)],
        *[("Mon, 23 Nov 2026 12:02:00 GMT", NOON, 120), ("Mon, 23 Nov 2026 11:00:00 GMT", NOON, 0)],
        *[("Mon, 23 Nov 2026 13:02:00 +0100", NOON, 120), ("Mon, 23 Nov 2026 12:02:00", NOON, 120)],
        *[("Monday, 23-Nov-26 12:02:00 GMT", NOON, 120), ("Mon Nov 23 12:02:00 2026", NOON, 120)],
        *[("Mon, 23 Nov 2026 12:02:00 GMT", None, None), ("Mon, 23 Nov 2026 12:02:00 GMT", "yesterday", None)],
        *[("Mon, 99 Nov 2026 12:02:00 GMT", NOON, None), ("Mon, 23 Nov 2026 12:02:00 +9999", NOON, None)],
    ],
)
def test_retry_after(retry_after: str, date: str | None, seconds: float | None) -> None:
    """Whole seconds, or a date counted from the answer's own; everything else names no time."""
    headers = {"retry-after": retry_after} | ({} if date is None else {"date": date})

    assert read_retry_after(headers) == (None if seconds is None else timedelta(seconds=seconds))


def test_no_retry_after_is_no_time() -> None:
    """Without the header there is no time, whatever the date."""
    assert read_retry_after({"date": NOON}) is None


@pytest.mark.parametrize(
    ("date", "read"),
    [
        (NOON, datetime(2026, 11, 23, 12, tzinfo=UTC)),
        ("Mon, 23 Nov 2026 13:00:00 +0100", datetime(2026, 11, 23, 12, tzinfo=UTC)),
        ("Mon, 23 Nov 2026 12:00:00 -0000", datetime(2026, 11, 23, 12, tzinfo=UTC)),
        ("", None),
        ("now", None),
        ("2026-11-23T12:00:00Z", None),
    ],
)
def test_date(date: str, read: datetime | None) -> None:
    """The provider's date is read as an instant with a zone, for the clock skew."""
    assert read_date({"date": date}) == read


_PARTS = [
    "Mon,",
    "23",
    "Nov",
    "2026",
    "12:00:00",
    "25:61:61",
    "GMT",
    "+9999",
    "-2359",
    "+99999999999",
    "0",
    "9999",
    "-",
    ",",
]


@settings(deadline=None)
@given(
    retry_after=st.text() | st.lists(st.sampled_from(_PARTS), max_size=8).map(" ".join),
    date=st.text() | st.lists(st.sampled_from(_PARTS), max_size=8).map(" ".join),
)
def test_no_header_raises(retry_after: str, date: str) -> None:
    """Whatever the headers say, the wait is unknown or not negative, and the date unknown or with a zone."""
    headers = {"retry-after": retry_after, "date": date}

    wait, sent = read_retry_after(headers), read_date(headers)
    assert wait is None or wait >= timedelta(0)
    assert sent is None or sent.utcoffset() is not None


def test_an_answer_prints_neither_headers_nor_body() -> None:
    """The repr of an answer shows its status only."""
    answer = HttpAnswer(status=200, headers={"set-cookie": "hunter2"}, body=b'{"access_token": "hunter2"}')

    assert repr(answer) == "HttpAnswer(status=200, ***)"


@pytest.mark.parametrize(
    "body", [b"", b"null", b"[]", b'"x"', b"7", b"true", b"{", b"{}x", b"<html>", b"\xef\xbb\xbf", b"\xff"]
)
def test_what_is_no_object_is_none(body: bytes) -> None:
    """Only a JSON object is an answer; a list, a string, a number and what is not JSON are none."""
    assert read_object(HttpAnswer(status=200, headers={}, body=body)) is None
