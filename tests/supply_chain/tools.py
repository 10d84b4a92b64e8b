"""The tools of the group `supply`, which lie in a folder of their own beside the product."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Final

from tests.support.command_line import ROOT

TOOLS: Final = ROOT / ".venv" / "supply"
_LIMIT_S: Final = 600.0  # one question for each package over the network; this only turns a hang into an error


def run(*module_and_arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a module of theirs and return how it ended."""
    return subprocess.run(
        [sys.executable, "-m", *module_and_arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(TOOLS)},
        capture_output=True,
        check=False,
        text=True,
        timeout=_LIMIT_S,
    )
