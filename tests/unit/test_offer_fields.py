"""The fields of a line become an offered grant, or all that is wrong with it, in words that repeat no value."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.usecases.offer import Offer
from worker.usecases.offer_fields import KNOWN, read_offer

LEAST = {"client": "askara-main", "subject": "customer-42", "refresh_token": "rt-of-somebody"}
NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


def offered(**fields: Any) -> Offer:
    """Return what these fields offer beside the least that there must be."""
    found = read_offer({**LEAST, **fields})
    assert isinstance(found, Offer), found
    return found


def complaints(fields: dict[str, Any]) -> list[str]:
    """Return what is wrong with fields."""
    found = read_offer(fields)
    assert isinstance(found, tuple), found
    return [str(complaint) for complaint in found]


def test_every_field_is_taken() -> None:
    """A line with everything is taken as it is, and prints neither token."""
    everything = {
        **LEAST,
        "access_token": "at-of-somebody",
        "access_expires_at": "2026-11-23T13:00:00+01:00",
        "refresh_expires_at": "2026-12-23T12:00:00Z",
        "scopes": ["profile", "https://acme.example/scope"],
        "email": "ada@example.com",
        "account": "17",
        "consented_at": "2026-11-01 12:00:00Z",
        "captured": {"shop": "berlin", "company": 17},
    }

    found = read_offer(json.loads(json.dumps(everything)))

    assert isinstance(found, Offer)
    assert found.refresh_token.get_secret_value() == "rt-of-somebody"
    assert (found.access_expires_at, found.captured) == (NOON, {"shop": "berlin", "company": "17"})
    assert found.scopes == ["profile", "https://acme.example/scope"]
    assert "of-somebody" not in repr(found)


@pytest.mark.parametrize("name", ["expires_at", "access_expires_at"])
@pytest.mark.parametrize(
    "written",
    ["2026-11-23T12:00:00Z", 1795435200, 1795435200.0, 1795435200000, "1795435200", "1795435200.000", "1795435200000"],
)
def test_an_instant_is_written_in_many_ways(name: str, written: object) -> None:
    """ISO 8601 with a zone, and seconds or milliseconds since 1970, as a number or as text, are one instant."""
    assert offered(**{name: written}).access_expires_at == NOON


@pytest.mark.parametrize("written", ["profile email", "profile,email", " profile,  email ", ["profile", "email"]])
def test_scopes_are_a_list_or_one_text(written: object) -> None:
    """Spaces and commas separate scopes; none at all are as good as not given."""
    assert offered(scopes=written).scopes == ["profile", "email"]
    assert offered(scopes=" ").scopes is None


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"client": "a"}, ["subject is missing", "refresh_token is missing"]),
        ({**LEAST, "refresh_token": ""}, ["refresh_token is empty"]),
        ({**LEAST, "subject": "a" * 201}, ["subject is longer than 200"]),
        ({**LEAST, "refresh_token": 17}, ["refresh_token should be a valid string"]),
        ({**LEAST, "subject": "a\x00b"}, ["subject must hold printable characters only"]),
        ({**LEAST, "email": "nobody"}, ["email is not an e-mail address"]),
        ({**LEAST, "expires_in": 0}, ["expires_in should be greater than or equal to 1"]),
        ({**LEAST, "expires_in": 1795435200}, ["expires_in should be less than or equal to 315360000"]),
        (
            {**LEAST, "access_expires_at": "soon"},
            ["access_expires_at should be a valid datetime or date, input is too short"],
        ),
        (
            {**LEAST, "access_expires_at": "2026-11-23T12:00:00"},
            ["access_expires_at lacks its time zone, such as 2026-01-31T12:00:00Z"],
        ),
        (
            {**LEAST, "access_expires_at": True},
            ["access_expires_at must be an instant with its time zone, such as 2026-01-31T12:00:00Z"],
        ),
        ({**LEAST, "consented_at": "1789-07-14T12:00:00Z"}, ["consented_at must be an instant from 2000 to 2199"]),
        (
            {**LEAST, "expires_at": NOON, "access_expires_at": NOON},
            ["expires_at is access_expires_at by another name: give one of them"],
        ),
        ({**LEAST, "captured": "berlin"}, ["captured should be a valid dictionary"]),
        ({**LEAST, "captured": {"shop": ["berlin"]}}, ["captured should be a valid string"]),
        ({**LEAST, "scopes": ["a b"]}, ["scopes has a character that no scope has (RFC 6749 section 3.3)"]),
        ({**LEAST, "refresh_tok": "x"}, ["'refresh_tok' is no field (did you mean 'refresh_token'?)"]),
        (
            {**LEAST, "e-mail": "x", "refresh_tok": "x"},
            [
                "'e-mail' is no field (did you mean 'email'?)",
                "'refresh_tok' is no field (did you mean 'refresh_token'?)",
            ],
        ),
    ],
)
def test_all_that_is_wrong_is_said(fields: dict[str, Any], said: list[str]) -> None:
    """Each complaint names its field and what it should be, and an unknown field the nearest that there is."""
    assert complaints(fields) == said


def test_a_value_in_the_place_of_a_name_is_not_repeated() -> None:
    """Names are repeated only beside names that are known, and only where they look like one."""
    assert "rt-of-somebody" not in " ".join(complaints({"askara-main": 1, "rt-of-somebody": 2}))
    long = "rt-of-somebody-" * 4
    assert long not in " ".join(complaints({**LEAST, long: 1}))


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(KNOWN) | st.text(), values, max_size=6))
def test_whatever_a_line_holds_is_taken_or_complained_about(fields: dict[str, Any]) -> None:
    """No value raises, and no complaint is empty or holds a line break."""
    found = read_offer(fields)

    assert isinstance(found, Offer) or (found and all(str(complaint).isprintable() for complaint in found))
