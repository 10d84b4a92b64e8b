"""The panels of the plot: each draws one thing out of one part's data onto matplotlib's axes."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from tests.bench.names import BARE_LOOP, EVERGRANT, MIDDLE

Data = Mapping[str, Any]
Panel = Callable[[Any, Data], None]

_OURS: Final = "#0b7a75"
_THEIRS: Final = "#c9ced6"
_INK: Final = "#1f2933"
_COLOURS: Final = (_OURS, "#f4a259", "#7d8597", "#bc4b51", "#5b8e7d", "#8e6c88")
_MEGA: Final = 10**6


def _values(runs: Sequence[Data], contender: str, cell: str, kind: str) -> list[float]:
    return [run[kind] for run in runs if (run["contender"], run["cell"]) == (contender, cell)]


def _names(runs: Sequence[Data], key: str) -> list[str]:
    return list(dict.fromkeys(run[key] for run in runs))


def _ranking(axis: Any, runs: Sequence[Data], kind: str, form: str) -> None:
    names = list(reversed(_names([run for run in runs if run["cell"] == MIDDLE], "contender")))
    medians = [statistics.median(_values(runs, name, MIDDLE, kind)) for name in names]
    bars = axis.barh(names, medians, color=[_OURS if name == EVERGRANT else _THEIRS for name in names])
    axis.bar_label(bars, [form.format(value) for value in medians], padding=4, color=_INK, fontsize=9)
    axis.set_xscale("log")
    axis.set_xlim(right=max(medians) * 3)


def _rates(axis: Any, data: Data) -> None:
    _ranking(axis, data["runs"], "rate", "{:,.0f}")
    axis.set_title("Grants a second at 50 ms (log)")


def _costs(axis: Any, data: Data) -> None:
    _ranking(axis, data["runs"], "cpu_ms", "{:.2f}")
    axis.set_title("CPU, ms a grant at 50 ms (log)")


def _latencies(axis: Any, data: Data) -> None:
    runs, width = data["runs"], 0.38
    cells = _names(runs, "cell")
    for name, offset, colour in ((EVERGRANT, -width / 2, _OURS), (BARE_LOOP, width / 2, _THEIRS)):
        found = [_values(runs, name, cell, "rate") for cell in cells]
        medians = [statistics.median(values) for values in found]
        errors = [
            [median - min(values) for median, values in zip(medians, found, strict=True)],
            [max(values) - median for median, values in zip(medians, found, strict=True)],
        ]
        places = [column + offset for column in range(len(cells))]
        axis.bar(places, medians, width, color=colour, label=name, yerr=errors, ecolor=_INK, capsize=3)
    axis.set_xticks(range(len(cells)), cells)
    axis.set_title("Grants a second: all safety, and none")
    axis.legend(fontsize=9, frameon=False)


def _scaling(axis: Any, data: Data) -> None:
    runs = data["runs"]
    counts = sorted({run["workers"] for run in runs})
    for cell, colour in zip(_names(runs, "cell"), _COLOURS, strict=False):
        rates = [
            statistics.median(run["rate"] for run in runs if (run["cell"], run["workers"]) == (cell, count))
            for count in counts
        ]
        axis.plot(counts, rates, marker="o", color=colour, label=cell)
    axis.set_ylim(bottom=0)
    axis.set_xticks(counts)
    axis.set_xlabel("worker processes")
    axis.set_title("Grants a second by worker processes")
    axis.legend(fontsize=9, frameon=False)


def _claims(axis: Any, data: Data) -> None:
    turns = data["turns"]
    sizes = sorted({turn["size"] for turn in turns})
    for kind, label, colour in (("large", "claim of 1,000", _COLOURS[0]), ("little", "claim of 50", _COLOURS[1])):
        values = [
            statistics.median(value for turn in turns if turn["size"] == size for value in turn[kind]) for size in sizes
        ]
        axis.plot(sizes, values, marker="o", color=colour, label=label)
    axis.set_xscale("log")
    axis.set_ylim(bottom=0)
    axis.set_xlabel("grants in the table")
    axis.set_title("Claim, ms")
    axis.legend(fontsize=9, frameon=False)


def _minutes(data: Data) -> list[float]:
    return [(sample["at"] - data["began"]) / 60 for sample in data["samples"]]


def _overdue(axis: Any, data: Data) -> None:
    axis.plot(_minutes(data), [sample["overdue"] for sample in data["samples"]], color=_OURS, linewidth=1)
    axis.set_ylim(bottom=0)
    axis.set_xlabel("minutes")
    axis.set_title("Steady state: oldest overdue, s")


def _growth(axis: Any, data: Data) -> None:
    minutes, samples = _minutes(data), data["samples"]
    for name, colour in zip(samples[0]["memory"], _COLOURS, strict=False):
        memory = [sample["memory"][name] / _MEGA for sample in samples]
        axis.plot(minutes, memory, color=colour, linewidth=1, label=f"memory of {name}")
    known = [
        (minute, sample["sizes"])
        for minute, sample in zip(minutes, samples, strict=True)
        if sample["sizes"] is not None
    ]
    held = [(sizes["heap"] + sizes["indexes"]) / _MEGA for _, sizes in known]
    axis.plot([minute for minute, _ in known], held, color=_INK, label="grants with indexes")
    axis.set_yscale("log")
    axis.set_xlabel("minutes")
    axis.set_title("Steady state: memory and table, MB (log)")
    axis.legend(fontsize=8, frameon=False)


#: The panels of each part.
PANELS: Final[dict[str, tuple[Panel, ...]]] = {
    "refresh": (_rates, _costs, _latencies),
    "scaling": (_scaling,),
    "claims": (_claims,),
    "steady": (_overdue, _growth),
}
