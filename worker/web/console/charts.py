"""Charts as bars and lines in a box of 100 by 100, to be drawn as SVG. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final

from worker.storage.forecasts import Forecast
from worker.storage.refresh_hours import Refreshes
from worker.web.words import number


class Span(StrEnum):
    """How far a chart looks back."""

    DAY = "24h"
    WEEK = "7d"
    MONTH = "30d"


#: For each: how much time a bar is, how many there are, and what the span is called.
_WIDTHS: Final[Mapping[Span, tuple[timedelta, int, str]]] = {
    Span.DAY: (timedelta(hours=1), 24, "24 hours"),
    Span.WEEK: (timedelta(hours=6), 28, "7 days"),
    Span.MONTH: (timedelta(days=1), 30, "30 days"),
}
#: A share of refreshes below this is drawn at the bottom: what matters happens above.
_LOWEST_SHARE: Final = 0.5
_HOURS: Final = 24
_DAYS: Final = 30
_DAY: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One bar; places and heights are hundredths of the box, counted from above."""

    x: float
    width: float
    label: str  #: when
    told: str  #: how many of what
    good: float
    bad: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """Bars with what they come to in words."""

    summary: str
    bars: Sequence[Bar]
    top: str  #: what the upper edge means
    bottom: str = "0"  #: and the lower
    begin: str = ""  #: what stands below the first bar
    end: str = ""
    line: Sequence[Sequence[tuple[float, float]]] = ()  #: instead of bars: stretches without a gap

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to draw."""
        return not any(bar.good or bar.bad for bar in self.bars) and not self.line


def looks_back(span: Span, now: datetime) -> tuple[datetime, timedelta]:
    """Return since when a chart counts, and how much time a bar is."""
    width, count, _name = _WIDTHS[span]
    begin = now.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    if width >= _DAY:
        begin = begin.replace(hour=0)
    # The last bar is the one under way.
    return begin - width * (count - 1), width


def refreshes_chart(found: Sequence[Refreshes], span: Span, now: datetime) -> Chart:
    """Return how many refreshes there were, and how many of them brought no tokens."""
    parts = _filled(found, span, now)
    highest = max((part.rotated + part.failed for part in parts), default=0)
    rotated, failed = sum(part.rotated for part in parts), sum(part.failed for part in parts)
    bars = [
        Bar(
            x=100 * place / len(parts),
            width=100 / len(parts),
            label=_when(part.at, span),
            told=f"{number(part.rotated)} rotated, {number(part.failed)} without tokens",
            good=_share(part.rotated, highest),
            bad=_share(part.failed, highest),
        )
        for place, part in enumerate(parts)
    ]
    name = _WIDTHS[span][2]
    summary = f"{number(rotated)} rotations and {number(failed)} refreshes without tokens in {name}"
    return Chart(summary=summary, bars=bars, top=number(highest), begin=bars[0].label, end=bars[-1].label)


def success_chart(found: Sequence[Refreshes], span: Span, now: datetime) -> Chart:
    """Return which share of refreshes brought tokens."""
    parts = _filled(found, span, now)
    shares = [_rate(part.rotated, part.failed) for part in parts]
    lowest = min((share for share in shares if share is not None), default=1.0)
    floor = 0.0 if lowest < _LOWEST_SHARE else _LOWEST_SHARE if lowest < 0.9 else 0.9  # noqa: PLR2004 -- steps of a scale
    step = 100 / len(parts)
    stretches: list[list[tuple[float, float]]] = []
    for place, share in enumerate(shares):
        if share is None:
            continue
        if not stretches or place == 0 or shares[place - 1] is None:
            stretches.append([])
        height = 100 * (1 - share) / (1 - floor)
        stretches[-1] += [(step * (place + 0.2), height), (step * (place + 0.8), height)]
    bars = [
        Bar(x=step * place, width=step, label=_when(part.at, span), told=_percent(share), good=0)
        for place, (part, share) in enumerate(zip(parts, shares, strict=True))
    ]
    rotated, failed = sum(part.rotated for part in parts), sum(part.failed for part in parts)
    summary = f"{_percent(_rate(rotated, failed))} of refreshes brought tokens in {_WIDTHS[span][2]}"
    top, bottom = "100 %", _percent(floor)
    return Chart(
        summary=summary, bars=bars, top=top, bottom=bottom, begin=bars[0].label, end=bars[-1].label, line=stretches
    )


def load_chart(forecast: Forecast, now: datetime) -> Chart:
    """Return how many refreshes are to come in each of the next 24 hours."""
    begin = now.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    known = dict(forecast.parts)
    counts = [known.get(begin + timedelta(hours=hour), 0) for hour in range(_HOURS)]
    labels = [f"{begin + timedelta(hours=hour):%H:%M}" for hour in range(_HOURS)]
    total = sum(counts)
    return _plain(f"about {number(total)} refreshes in the next 24 hours", counts, labels, "refreshes")


def ends_chart(forecast: Forecast, now: datetime) -> Chart:
    """Return how many consents end on each of the next 30 days."""
    begin = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    known = dict(forecast.parts)
    counts = [known.get(begin + timedelta(days=day), 0) for day in range(_DAYS + 1)]
    labels = [f"{begin + timedelta(days=day):%d %b}" for day in range(_DAYS + 1)]
    total = sum(counts)
    ends = "consent ends" if total == 1 else "consents end"
    return _plain(f"{number(total)} {ends} within 30 days", counts, labels, "consents")


def _plain(summary: str, counts: Sequence[int], labels: Sequence[str], unit: str) -> Chart:
    highest = max(counts)
    step = 100 / len(counts)
    bars = [
        Bar(x=step * place, width=step, label=label, told=f"{number(count)} {unit}", good=_share(count, highest))
        for place, (count, label) in enumerate(zip(counts, labels, strict=True))
    ]
    return Chart(summary=summary, bars=bars, top=number(highest), begin=labels[0], end=labels[-1])


def _filled(found: Sequence[Refreshes], span: Span, now: datetime) -> Sequence[Refreshes]:
    since, width = looks_back(span, now)
    known = {part.at: part for part in found}
    times = [since + width * place for place in range(_WIDTHS[span][1])]
    return [known.get(at, Refreshes(at=at, rotated=0, failed=0)) for at in times]


def _when(at: datetime, span: Span) -> str:
    return f"{at:%H:%M}" if span is Span.DAY else f"{at:%d %b %H:%M}" if span is Span.WEEK else f"{at:%d %b}"


def _share(count: int, highest: int) -> float:
    return 100 * count / highest if highest else 0.0


def _rate(rotated: int, failed: int) -> float | None:
    return rotated / (rotated + failed) if rotated + failed else None


def _percent(share: float | None) -> str:
    if share is None:
        return "none"
    # 99.96 % is not all of them.
    cut = int(share * 1000) / 10
    return f"{cut:g} %"
