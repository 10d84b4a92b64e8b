"""The scaling guide's table is what `evergrant plan` says today."""

from __future__ import annotations

import json
import re

import pytest
from typer.testing import CliRunner

from tests.support.dockerfile import ROOT
from worker.commands.every import every

_HOURS = re.compile(r"(\d+) h")


def _rows() -> list[list[str]]:
    text = (ROOT / "deploy" / "scaling.md").read_text(encoding="utf-8")
    cells = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")
    ]
    return cells[2:]


@pytest.mark.parametrize("row", _rows(), ids=[f"{row[0]} for {row[1]}" for row in _rows()])
def test_a_row_is_what_the_command_says(row: list[str]) -> None:
    """Rotations, workers, connections and size, at 200 ms, to the last digit that is shown."""
    grants, lifetime, rotations, workers, connections, size = row
    hours = _HOURS.fullmatch(lifetime)
    assert hours is not None
    asked = ["plan", "--grants", grants.replace(",", ""), "--access-lifetime", str(int(hours[1]) * 3600), "--json"]
    said = json.loads(CliRunner().invoke(every, asked).stdout)

    assert rotations == f"{said['rates']['steady']:,.0f}"
    assert (workers, connections) == (f"{said['workers']}", f"{said['connections']:,}")
    assert size == f"{said['database_bytes'] / 1e9:,.1f} GB"


def test_the_command_speaks_in_sentences() -> None:
    """Without `--json` each figure has its line, and a herd gets its advice."""
    said = CliRunner().invoke(every, ["plan", "--grants", "100000000", "--spread", "1s"]).stdout
    assert re.search(r"^rotations +[34]\d,\d{3}\.\d a second", said)
    assert "-> the grants begin together: spread their first refreshes further" in said
    assert "-> one PostgreSQL may not do" in said
    assert CliRunner().invoke(every, ["plan", "--grants", "5", "--spread", "soon"]).exit_code == 2
