"""The plot: one picture with a panel for each part that was measured."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

_INK: Final = "#1f2933"
_COLOURS: Final = ("#0b7a75", "#f4a259", "#7d8597", "#a9b4c2", "#5b8e7d", "#bc4b51")
_MEGA: Final = 10**6

#: The column that every contender has: its bars carry the names.
_IN_ALL: Final = "50 ms"

Data = Mapping[str, Any]
Panel = Callable[[Any, Data], None]


def draw(parts: Mapping[str, Data], path: Path, *, title: str) -> None:
    """Draw what was measured into a PNG file.

    Args:
        parts: the data of each part by its name; those without a panel are left out.
        path: of the file.
        title: above all panels.

    """
    import matplotlib as mpl  # noqa: PLC0415 -- of the group `bench`; the tests do without

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415 -- after the choice of what draws

    panels = [(panel, parts[name]) for name, drawn in _PANELS.items() if name in parts for panel in drawn]
    if not panels:
        return
    rows = -(-len(panels) // 2)
    figure, axes = plt.subplots(rows, min(len(panels), 2), figsize=(13, 4.2 * rows), squeeze=False)
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    for axis, (panel, data) in zip(axes.flat, panels, strict=False):
        panel(axis, data)
        axis.spines[["top", "right"]].set_visible(False)
        axis.title.set_color(_INK)
    figure.suptitle(title, color=_INK)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _bars(axis: Any, runs: Sequence[Data], kind: str) -> None:
    cells = list(dict.fromkeys(run["cell"] for run in runs))
    contenders = list(dict.fromkeys(run["contender"] for run in runs))
    width = 0.8 / len(contenders)
    for place, (contender, colour) in enumerate(zip(contenders, _COLOURS, strict=False)):
        for column, cell in enumerate(cells):
            values = [run[kind] for run in runs if (run["contender"], run["cell"]) == (contender, cell)]
            if not values:
                continue
            median = statistics.median(values)
            axis.bar(
                column + (place - (len(contenders) - 1) / 2) * width,
                median,
                width,
                color=colour,
                label=contender if column == cells.index(_IN_ALL) else None,
                yerr=[[median - min(values)], [max(values) - median]] if len(values) > 1 else None,
            )
    axis.set_yscale("log")
    axis.set_xticks(range(len(cells)), cells)


def _rates(axis: Any, data: Data) -> None:
    _bars(axis, data["runs"], "rate")
    axis.set_title("Grants refreshed and stored a second (log)")
    axis.legend(fontsize=8, frameon=False)


def _costs(axis: Any, data: Data) -> None:
    _bars(axis, data["runs"], "cpu_ms")
    axis.set_title("CPU of its own processes, ms a grant (log)")


def _scaling(axis: Any, data: Data) -> None:
    runs = data["runs"]
    for cell, colour in zip(dict.fromkeys(run["cell"] for run in runs), _COLOURS, strict=False):
        counts = sorted({run["workers"] for run in runs if run["cell"] == cell})
        rates = [
            statistics.median(run["rate"] for run in runs if (run["cell"], run["workers"]) == (cell, count))
            for count in counts
        ]
        axis.plot(counts, rates, marker="o", color=colour, label=cell)
    axis.set_ylim(bottom=0)
    axis.set_xticks(sorted({run["workers"] for run in runs}))
    axis.set_xlabel("worker processes")
    axis.set_title("Grants a second by worker processes")
    axis.legend(fontsize=8, frameon=False)


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
    axis.legend(fontsize=8, frameon=False)


def _minutes(data: Data) -> list[float]:
    return [(sample["at"] - data["began"]) / 60 for sample in data["samples"]]


def _overdue(axis: Any, data: Data) -> None:
    axis.plot(_minutes(data), [sample["overdue"] for sample in data["samples"]], color=_COLOURS[0], linewidth=1)
    axis.set_ylim(bottom=0)
    axis.set_xlabel("minutes")
    axis.set_title("Steady state: oldest overdue, s")


def _growth(axis: Any, data: Data) -> None:
    minutes = _minutes(data)
    for name, colour in zip(data["samples"][0]["memory"], _COLOURS, strict=False):
        memory = [sample["memory"][name] / _MEGA for sample in data["samples"]]
        axis.plot(minutes, memory, color=colour, linewidth=1, label=f"memory of {name}")
    sized = [(minute, sample["sizes"]) for minute, sample in zip(minutes, data["samples"], strict=True)]
    known = [(minute, sizes) for minute, sizes in sized if sizes is not None]
    bytes_held = [(sizes["heap"] + sizes["indexes"]) / _MEGA for _, sizes in known]
    axis.plot([minute for minute, _ in known], bytes_held, color=_INK, label="grants with indexes")
    axis.set_yscale("log")
    axis.set_xlabel("minutes")
    axis.set_title("Steady state: memory and table, MB (log)")
    axis.legend(fontsize=8, frameon=False)


_PANELS: Final[dict[str, tuple[Panel, ...]]] = {
    "refresh": (_rates, _costs),
    "scaling": (_scaling,),
    "claims": (_claims,),
    "steady": (_overdue, _growth),
}
