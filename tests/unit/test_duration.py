"""Durations as configuration writes them."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.domain.duration import parse_duration, write_duration


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("250ms", timedelta(milliseconds=250)),
        ("30s", timedelta(seconds=30)),
        ("10m", timedelta(minutes=10)),
        ("24h", timedelta(hours=24)),
        ("90d", timedelta(days=90)),
        ("1.5h", timedelta(minutes=90)),
        ("0.25s", timedelta(milliseconds=250)),
        ("0.001ms", timedelta(microseconds=1)),
        ("0s", timedelta(0)),
        (" 30 s ", timedelta(seconds=30)),
        ("0030s", timedelta(seconds=30)),
        ("999999999d", timedelta(days=999_999_999)),
    ],
)
def test_a_duration_is_read(text: str, duration: timedelta) -> None:
    """A number, whole or with up to three decimals, and a unit are read exactly."""
    assert parse_duration(text) == duration


@pytest.mark.parametrize(
    "text",
    [
        *["", "30", "s", "-1s", "+1s", "1.s", ".5s", "1e3s", "1 0s", "1.2345s", "1,5h", "30S", "1w", "1h30m", "٣s"],
        *["inf s", "nan s", "30s\x00", "9" * 16 + "s", "1000000000d", "999999999999999d", "0x10s", "1_000s"],
    ],
)
def test_what_is_no_duration_is_refused(text: str) -> None:
    """Anything else, also what no `timedelta` can hold, is refused with the text and the form that is wanted."""
    with pytest.raises(ValueError, match="is not a duration; write a number and a unit") as caught:
        parse_duration(text)

    assert repr(text) in str(caught.value)


@pytest.mark.parametrize(
    ("duration", "text"),
    [
        (timedelta(0), "0ms"),
        (timedelta(microseconds=1500), "1.500ms"),
        (timedelta(milliseconds=250), "250ms"),
        (timedelta(seconds=90), "90s"),
        (timedelta(seconds=120), "2m"),
        (timedelta(hours=24), "1d"),
        (timedelta(hours=25), "25h"),
        (timedelta(days=20, milliseconds=1), "1728000001ms"),
    ],
)
def test_a_duration_is_written_in_its_largest_whole_unit(duration: timedelta, text: str) -> None:
    """The largest unit that keeps it whole is used."""
    assert write_duration(duration) == text


@settings(deadline=None)
@given(duration=st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=10_000_000)))
def test_what_was_written_is_read_back(duration: timedelta) -> None:
    """Writing and reading give the same duration, to the microsecond."""
    assert parse_duration(write_duration(duration)) == duration


@settings(deadline=None)
@given(text=st.text() | st.from_regex(r"\s*[0-9]{1,20}(\.[0-9]{0,4})?\s*(ms|s|m|h|d)\s*"))
def test_any_text_is_a_duration_or_a_value_error(text: str) -> None:
    """No text makes it raise anything but a ValueError, and none gives a negative duration."""
    try:
        duration = parse_duration(text)
    except ValueError:
        return
    assert duration >= timedelta(0)
