"""What the image installs, as a software bill of materials: `make sbom`.

CycloneDX 1.6 as JSON, from the lock: held to its schema when it is written, and the same bytes each time.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from tests.supply_chain.tools import run
from tests.support.command_line import ROOT

#: What the image installs.
LOCK: Final = "requirements-base.lock"
DEFAULT: Final = ROOT / "dist" / "evergrant.cdx.json"


def write(path: Path) -> str | None:
    """Write it; returns why it could not be written, or None."""
    path.parent.mkdir(parents=True, exist_ok=True)
    form = ("--output-reproducible", "--spec-version", "1.6", "--output-format", "JSON", "--validate")
    ended = run("cyclonedx_py", "requirements", LOCK, "--pyproject", "pyproject.toml", *form, "-o", str(path))
    return ended.stderr if ended.returncode else None


if __name__ == "__main__":
    failed = write(DEFAULT)
    if failed is not None:
        sys.exit(f"no bill of materials:\n{failed}")
    sys.stdout.write(f"{DEFAULT.relative_to(ROOT)} lists what {LOCK} installs\n")
