"""The gate's `make migrations`: on a fresh PostgreSQL, do the migrations make what the tables' models say?

Run as `python -m tests.support.alembic_check`; it ends with the code of the first Alembic command that fails, or 0.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from worker.bootstrap import monotonic
from worker.embedded import EmbeddedPostgres
from worker.settings import PREFIX

ROOT: Final = Path(__file__).parents[2]
_COMMANDS: Final = (["upgrade", "head"], ["check"])


def check() -> int:
    """Upgrade an empty database and compare it with the models, as a developer would by hand; return the exit code."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    with tempfile.TemporaryDirectory(prefix="evergrant-alembic-") as folder:
        server = EmbeddedPostgres(
            Path(folder) / "postgres", token=lambda: secrets.token_urlsafe(24), monotonic=monotonic, durable=False
        )
        with server:
            environment = {**inherited, f"{PREFIX}DATABASE_URL": server.start().reveal()}
            for command in _COMMANDS:
                done = subprocess.run(
                    [sys.executable, "-m", "alembic", *command], cwd=ROOT, env=environment, check=False
                )
                if done.returncode:
                    return done.returncode
    return 0


if __name__ == "__main__":
    sys.exit(check())
