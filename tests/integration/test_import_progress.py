"""How far an import has come: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.export_file import json_lines, made_up
from tests.support.installation import installed
from tests.support.movable_clock import MovableClock
from worker.commands.import_progress import PLAIN_EVERY, PlainProgress
from worker.usecases.import_grants import Tally

#: Seconds for a command that takes two.
LIMIT = 60.0


def test_a_terminal_sees_a_bar_with_bad_lines_above_it(
    tmp_path: Path, database_server: str, migrated_template: str
) -> None:
    """The bar moves with what has been read and is gone at the end; what was wrong with a line stays."""
    with installed(tmp_path, database_server, migrated_template) as installation:
        path = tmp_path / "grants.jsonl"
        content = [made_up(number, installation.client) for number in range(3_000)]
        path.write_text(json_lines([*content, "nonsense", {"client": "[bold]askara-tset"}]), encoding="utf-8")
        ours, theirs = pty.openpty()
        process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "worker.cli", "grants", "import", str(path)],
            cwd=tmp_path,
            env={**installation.command_line.whole_environment(), "TERM": "xterm", "COLUMNS": "100"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=theirs,
            text=True,
        )
        os.close(theirs)
        shown = _all_of(ours)
        out, _ = process.communicate(timeout=LIMIT)

    assert process.returncode == 1
    assert "1,000 lines: 1,000 adopted" in shown
    assert "%" in shown
    assert "line 3001: is not JSON: Expecting value at character 1\r\n" in shown
    assert shown.rstrip().endswith("\x1b[2K"), "the last bar is wiped away"
    assert out.splitlines()[-1] == "2 bad"


def _all_of(terminal: int) -> str:
    """Read until nobody has the terminal open any more."""
    shown = b""
    try:
        while chunk := os.read(terminal, 65_536):
            shown += chunk
    except OSError:  # Linux's way to say so
        pass
    finally:
        os.close(terminal)
    return shown.decode()


def test_a_log_gets_a_line_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    """Anywhere but on a terminal there is a line every few seconds, with how much of the file has been read."""
    clock = MovableClock()
    progress = PlainProgress(4_000, clock.tick)
    tally = Tally(lines=1_000, created=998, bad=2)

    progress.show(tally, 1_000)
    clock.stand_still(PLAIN_EVERY)
    progress.show(tally, 1_000)
    tally.lines, tally.already_there = 2_000, 1_000
    progress.show(tally, 2_000)
    clock.stand_still(PLAIN_EVERY)
    progress.show(tally, 2_000)

    assert capsys.readouterr().err.splitlines() == [
        "1,000 lines: 998 adopted, 2 bad (25%)",
        "2,000 lines: 998 adopted, 1,000 there already, 2 bad (50%)",
    ]
