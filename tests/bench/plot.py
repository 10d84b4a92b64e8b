"""The plot: one picture with panels for the parts that were measured."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from tests.bench.panels import PANELS

_INK: Final = "#1f2933"
_COLUMNS: Final = 2
_INCHES: Final = (13.0, 4.2)  # width of the picture, height of a row


def draw(parts: Mapping[str, Mapping[str, Any]], path: Path, *, title: str) -> None:
    """Draw what was measured into a PNG file; leaves no file where nothing has a panel.

    Args:
        parts: the data of each part by its name.
        path: of the file.
        title: above all panels.

    """
    import matplotlib as mpl  # noqa: PLC0415 -- of the group `bench`; the tests do without

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415 -- after the choice of what draws

    path.unlink(missing_ok=True)
    panels = [(panel, parts[name]) for name, drawn in PANELS.items() if name in parts for panel in drawn]
    if not panels:
        return
    rows = -(-len(panels) // _COLUMNS)
    size = (_INCHES[0], _INCHES[1] * rows)
    figure, axes = plt.subplots(rows, _COLUMNS, figsize=size, squeeze=False, layout="constrained")
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    for axis, (panel, data) in zip(axes.flat, panels, strict=False):
        panel(axis, data)
        axis.spines[["top", "right"]].set_visible(False)
        axis.title.set_color(_INK)
    figure.suptitle(title, color=_INK)
    figure.savefig(path, dpi=110)
    plt.close(figure)
