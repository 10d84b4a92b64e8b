"""The report: text, JSON and a picture in a folder, with the machine and the date."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import psutil

from tests.bench import plot, reach
from tests.bench.findings import Findings, Table


def facts_of(findings: Sequence[Findings]) -> dict[str, float]:
    """Return the facts of all parts."""
    return {name: value for found in findings for name, value in found.facts.items()}


def machine(at: datetime) -> dict[str, str]:
    """Describe what it was measured on."""
    return {
        "date": f"{at:%Y-%m-%d %H:%M}",
        "cores": str(os.cpu_count()),
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "processor": _processor(),
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "load before": f"{os.getloadavg()[0]:.2f}",
    }


def write(folder: Path, findings: Sequence[Findings], about: dict[str, str]) -> str:
    """Write `report.txt`, `report.json`, `reach.md` and `bench.png` into a folder, and return the text."""
    facts = facts_of(findings)
    tables = [
        Table(title="Machine", headings=("", ""), rows=tuple(about.items())),
        *(table for found in findings for table in found.tables),
        reach.judged(facts),
    ]
    text = "\n".join(line for table in tables for line in table.lines())
    (folder / "report.txt").write_text(text, encoding="utf-8")
    on = f"{about['date']}, {about['cores']} cores ({about['processor']}), {about['memory']}, {about['system']}"
    quoted = "\n".join(["Measured " + on + ":", "", *reach.judged(facts).markdown(), ""])
    (folder / "reach.md").write_text(quoted, encoding="utf-8")
    told = {
        "machine": about,
        "facts": facts,
        "parts": {found.part: found.data for found in findings},
        "missed": reach.failures(facts),
    }
    (folder / "report.json").write_text(json.dumps(told, indent=1, default=str), encoding="utf-8")
    plot.draw(
        {found.part: found.data for found in findings},
        folder / "bench.png",
        title=f"Evergrant, {about['date']}, {about['cores']} cores",
    )
    return text


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.machine()
