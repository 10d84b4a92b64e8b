"""The wheel in an empty virtual environment, far from the checkout: `evergrant up --demo` works."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Final

import pytest

from tests.support.dockerfile import ROOT
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow

PATIENCE: Final = 180.0  # seconds, installing included
LIVELY: Final = 90.0


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    built = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(built, cwd=ROOT, check=True, capture_output=True, timeout=PATIENCE)
    [found] = folder.glob("*.whl")
    return found


def test_the_wheel_holds_what_it_needs_and_says_so(wheel: Path) -> None:
    """Catalogue, migrations, templates and the mark of a typed package are in it, and tests are not."""
    names = set(zipfile.ZipFile(wheel).namelist())
    migrations = {f"worker/_data/alembic/versions/{path.name}" for path in (ROOT / "alembic" / "versions").glob("*.py")}
    assert migrations | {"worker/_data/providers.toml", "worker/_data/alembic/env.py", "worker/py.typed"} <= names
    assert {"worker/mail/templates/reconsent.html", "worker/web/templates/base.html"} <= names
    assert not [name for name in names if name.startswith("tests/") or name.endswith(".pyc")]


def test_up_runs_from_the_wheel(wheel: Path, tmp_path: Path) -> None:
    """Installed by hashes outside the checkout it starts everything, rotates, and stops by Ctrl-C without a trace."""
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True, timeout=PATIENCE)
    python = str(venv / "bin" / "python")
    _install(python, "--require-hashes", "-r", str(ROOT / "requirements.lock"))
    _install(python, "--no-deps", str(wheel))
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    environment = {"PATH": f"{venv}/bin:/usr/bin:/bin"}
    with (folder / "up.log").open("wb") as log:
        up = subprocess.Popen(
            ["evergrant", "up", "--demo", "--port", "0"], cwd=folder, env=environment, stdout=log, stderr=log
        )
    try:
        wait_until(lambda: _generations(folder, environment) >= 10, LIVELY, "grants are rotated")
    except AssertionError as late:
        raise AssertionError((folder / "up.log").read_text()[-3000:]) from late
    finally:
        up.send_signal(signal.SIGINT)
        code = up.wait(60.0)
    assert code == 0, (folder / "up.log").read_text()[-3000:]
    assert re.search(r"http://127\.0\.0\.1:\d+", (folder / "up.log").read_text())


def _install(python: str, *what: str) -> None:
    """Install as the Makefile does: uv takes seconds, and pip serves where uv reaches no index."""
    uv = [sys.executable, "-m", "uv", "pip", "install", "-q", "--python", python, *what]
    if subprocess.run(uv, check=False, capture_output=True, timeout=PATIENCE).returncode:
        pip = [sys.executable, "-m", "pip", "--python", python, "install", "-q", *what]
        subprocess.run(pip, check=True, capture_output=True, timeout=PATIENCE)


def _generations(folder: Path, environment: dict[str, str]) -> int:
    listing = subprocess.run(
        ["evergrant", "grants", "list", "--json"], cwd=folder, env=environment, capture_output=True, check=False
    )
    return sum(grant["generation"] for grant in json.loads(listing.stdout)) if listing.returncode == 0 else 0
