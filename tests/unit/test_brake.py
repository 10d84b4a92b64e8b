"""How many grants of a client may die before its brake goes on."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.domain.brake import FEWEST, JUDGED_AFTER, SHARE, SUSPECT_WAIT, looked_back, room_for_deaths, suspect_wait

counts = st.integers(min_value=0, max_value=10**7)


@pytest.mark.parametrize(
    ("grants", "died", "room"),
    [
        pytest.param(0, 0, 5, id="a client without grants"),
        pytest.param(10, 0, 5, id="a few deaths are ordinary in a small client"),
        pytest.param(10, 4, 1, id="one is left"),
        pytest.param(10, 5, 0, id="used up"),
        pytest.param(10, 9, 0, id="never negative"),
        pytest.param(250, 0, 5, id="two per cent are the same five"),
        pytest.param(10_000, 0, 200, id="two per cent of many"),
        pytest.param(10_000, 199, 1, id="one of many is left"),
        pytest.param(10_000, 200, 0, id="used up by many"),
    ],
)
def test_room_for_deaths(grants: int, died: int, room: int) -> None:
    """Five, or two per cent of the client's grants where that is more, may die in a window."""
    assert room_for_deaths(grants=grants, died_in_window=died) == room


@settings(deadline=None)
@given(grants=counts, died=counts)
def test_a_death_takes_one_from_the_room_until_there_is_none(grants: int, died: int) -> None:
    """The room shrinks by one with each death, never below zero, and never exceeds what is ordinary."""
    room = room_for_deaths(grants=grants, died_in_window=died)

    assert 0 <= room <= max(FEWEST, grants * SHARE)
    assert room_for_deaths(grants=grants, died_in_window=died + 1) == max(0, room - 1)
    assert room <= room_for_deaths(grants=grants + 1, died_in_window=died)


@settings(deadline=None)
@given(strikes=st.integers(0, 10), draw=st.floats(min_value=0, max_value=1, exclude_max=True))
def test_suspects_are_tried_again_spread_out(strikes: int, draw: float) -> None:
    """For ten minutes a suspect waits between half and one and a half times a minute, by the draw."""
    assert SUSPECT_WAIT * 0.5 <= suspect_wait(strikes, draw) <= SUSPECT_WAIT * 1.5
    assert suspect_wait(strikes, 0.5) == timedelta(minutes=1)


@settings(deadline=None)
@given(strikes=counts)
def test_suspects_wait_longer_the_longer_they_are_refused(strikes: int) -> None:
    """The waits never shrink, and end at a quarter of an hour."""
    assert suspect_wait(strikes, 0.5) <= suspect_wait(strikes + 1, 0.5) <= timedelta(minutes=15)
    assert (suspect_wait(50, 0.5), suspect_wait(1000, 0.5)) == (timedelta(minutes=5), timedelta(minutes=15))


@settings(deadline=None)
@given(before=st.timedeltas(timedelta(0), timedelta(days=30)), lasting=st.timedeltas(timedelta(0), timedelta(days=30)))
def test_refreshes_from_before_an_incident_speak_against_nobody(before: timedelta, lasting: timedelta) -> None:
    """Who was refused for a while before an incident is judged in it only if that while was the longer one."""
    before, lasting = before * 2, lasting * 2  # a microsecond has no half
    seen = looked_back(before + lasting) > lasting  # refreshes of the time before are looked at
    assert seen == (before > lasting)
    assert looked_back(JUDGED_AFTER) == timedelta(hours=3)
