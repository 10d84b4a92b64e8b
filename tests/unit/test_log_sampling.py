"""Of many like lines a few are written, and they tell how many were not."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from worker.log_sampling import FIRST, ONE_IN, WINDOW, Sampler


def test_the_first_and_then_one_in_a_hundred_are_written() -> None:
    """An hour's outage writes some lines a minute instead of a hundred thousand."""
    now = [0.0]
    sampler = Sampler(lambda: now[0])
    written = [sampler.left_out("down") for _ in range(FIRST + 2 * ONE_IN)]
    assert written[:FIRST] == [0] * FIRST
    assert [found for found in written[FIRST:] if found is not None] == [ONE_IN - 1] * 2
    assert sampler.left_out("other") == 0

    sampler.left_out("down")
    now[0] = WINDOW
    assert sampler.left_out("down") == 1


@given(st.lists(st.tuples(st.sampled_from("ab"), st.floats(0, 30)), max_size=400))
def test_every_line_is_written_or_counted(seen: list[tuple[str, float]]) -> None:
    """What was written and what it told of make as many as there were, but for those since the last one."""
    now = [0.0]
    sampler = Sampler(lambda: now[0])
    told = dict.fromkeys("ab", 0)
    waiting = dict.fromkeys("ab", 0)
    for kind, pause in seen:
        now[0] += pause
        left_out = sampler.left_out(kind)
        if left_out is None:
            waiting[kind] += 1
        else:
            assert left_out == waiting[kind]
            told[kind] += 1 + left_out
            waiting[kind] = 0
    for kind in "ab":
        assert told[kind] + waiting[kind] == sum(1 for found, _ in seen if found == kind)
