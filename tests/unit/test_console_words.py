"""What the console draws and writes: charts, cells of a CSV, and what an address may make a page say."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from worker.domain.outcome import Reason
from worker.domain.reconsent import WhyNot
from worker.storage.forecasts import Forecast
from worker.storage.refresh_hours import Refreshes
from worker.web.console.charts import Span, load_chart, looks_back, refreshes_chart, success_chart
from worker.web.console.csv_export import safe
from worker.web.console.said import read_said

NOW = datetime(2026, 3, 1, 12, 34, 56, tzinfo=UTC)


@pytest.mark.parametrize("span", Span)
def test_a_chart_ends_with_the_time_under_way(span: Span) -> None:
    """However far a chart looks back, its last bar holds now, and nothing of what it counts is left out."""
    since, width = looks_back(span, NOW)
    newest = Refreshes(at=since + width * ((NOW - since) // width), rotated=30, failed=10)
    chart = refreshes_chart([newest], span, NOW)
    assert (chart.bars[-1].good, chart.bars[-1].bad) == (75.0, 25.0)
    assert chart.summary.startswith("30 rotations and 10 refreshes without tokens")
    assert success_chart([newest], span, NOW).summary.startswith("75 % of refreshes")


@given(st.lists(st.tuples(st.integers(0, 10**9), st.integers(0, 10**9)), max_size=24))
def test_bars_and_lines_stay_in_their_box(counts: list[tuple[int, int]]) -> None:
    """Whatever was counted, nothing is drawn outside of the box, and all is never said of less than all."""
    since, width = looks_back(Span.DAY, NOW)
    found = [Refreshes(at=since + width * n, rotated=good, failed=bad) for n, (good, bad) in enumerate(counts)]
    for bar in refreshes_chart(found, Span.DAY, NOW).bars:
        assert 0 <= bar.good + bar.bad <= 100.001
    drawn = success_chart(found, Span.DAY, NOW)
    for stretch in drawn.line:
        assert all(0 <= x <= 100 and -0.001 <= y <= 100.001 for x, y in stretch)
    if sum(bad for _good, bad in counts):
        assert not drawn.summary.startswith("100 %")


def test_load_counts_the_hours_to_come_alone() -> None:
    """What was reckoned for an hour that is over is not load any more."""
    hour = NOW.replace(minute=0, second=0)
    parts = [(hour - timedelta(hours=1), 500), (hour, 100), (hour + timedelta(hours=3), 200)]
    chart = load_chart(Forecast(parts=parts, made_at=NOW), NOW)
    assert chart.summary == "about 300 refreshes in the next 24 hours"
    assert [place for place, bar in enumerate(chart.bars) if bar.good] == [0, 3]


@given(st.text() | st.text(alphabet=';"=+-@\t\r\n a'))
@example("x;=1+cmd|'/C calc'!A0;y")
def test_no_cell_is_a_formula(cell: str) -> None:
    """Nothing begins as a formula does, wherever a spreadsheet ends a cell, and each still has all of its text."""
    written = safe(cell)
    assert not written.startswith(("=", "+", "-", "@", "\t", "\r", "\n"))
    assert not any(part.lstrip('" ').startswith(("=", "+", "-", "@")) for part in re.split(r"[;\t\r\n]", written)[1:])
    assert written.replace("'", "") == cell.replace("'", "")


@given(st.text(), st.text())
def test_an_address_makes_a_page_say_nothing_of_its_own(said: str, why: str) -> None:
    """A page says sentences of a closed list; a text in an address never comes back out of it."""
    told = read_said(said, why)
    assert told is None or (why not in told.text or len(why) < 30)


@pytest.mark.parametrize("reason", Reason)
def test_every_failed_refresh_and_try_is_told(reason: Reason) -> None:
    """Whatever a refresh or a try comes to, the page has a sentence for it."""
    for said in ("refresh_failed", "tried_misconfigured", "tried_unclear"):
        told = read_said(said, reason.value)
        assert told is not None
        assert told.text.endswith(".") or reason is Reason.OK


@pytest.mark.parametrize("why", WhyNot)
def test_every_mail_that_is_not_sent_is_told(why: WhyNot) -> None:
    """Whatever speaks against a mail, the page says it."""
    told = read_said("not_mailed", why.value)
    assert told is not None
    assert told.text.startswith("No mail was asked for: ")
