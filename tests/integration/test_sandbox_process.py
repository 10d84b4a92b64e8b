"""`python -m worker.sandbox` as a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from worker.domain.secret import Secret
from worker.sandbox.control import SandboxControl
from worker.sandbox.profiles import ASKARA

DEADLINE_S = 30.0


@contextmanager
def sandbox_process(
    *arguments: str | Path, environment: dict[str, str] | None = None
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start a sandbox, yield the process and the address it printed, and make sure that it ends."""
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "worker.sandbox", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | (environment or {}),
    )
    with process:
        try:
            assert process.stdout is not None
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_it_prints_its_address_and_stops_cleanly(tmp_path: Path, stop: signal.Signals) -> None:
    """It makes a control token for its owner only, prints one line, serves, and ends with 0 and no words."""
    token_file = tmp_path / "control-token"
    with sandbox_process("--port", "0", "--control-token-file", token_file) as (process, address):
        assert token_file.stat().st_mode & 0o777 == 0o600
        with SandboxControl(address, Secret(token_file.read_text().strip())) as control:
            control.register_client(
                client_id="a", client_secret=Secret("s"), redirect_uris=("http://127.0.0.1:9/",), profile=ASKARA
            )
            assert len(control.seed_grants("a", 3)) == 3
        process.send_signal(stop)
        stdout, stderr = process.communicate(timeout=DEADLINE_S)

    assert (process.returncode, stdout, stderr) == (0, "", "")


def test_a_killed_sandbox_has_kept_every_rotation_it_answered(tmp_path: Path) -> None:
    """After SIGKILL the file still knows the last answered token as the current one."""
    arguments = ("--port", "0", "--state", tmp_path / "s.db", "--control-token-file", tmp_path / "token")
    with sandbox_process(*arguments) as (process, address):
        with SandboxControl(address, Secret((tmp_path / "token").read_text().strip())) as control:
            control.register_client(
                client_id="a", client_secret=Secret("s"), redirect_uris=("http://127.0.0.1:9/",), profile=ASKARA
            )
            token = control.seed_grants("a", 1)[0].refresh_token.reveal()
        for _ in range(5):
            token = refresh(address, token).json()["refresh_token"]
        process.kill()

    with sandbox_process(*arguments) as (process, address):
        assert refresh(address, token).status_code == 200
        process.terminate()
        process.communicate(timeout=DEADLINE_S)


def test_its_counters_are_shared_in_multiprocess_mode(tmp_path: Path) -> None:
    """With PROMETHEUS_MULTIPROC_DIR its counters are in the shared folder and on its /metrics."""
    shared = tmp_path / "metrics"
    shared.mkdir()
    started = sandbox_process(
        "--control-token-file", tmp_path / "token", environment={"PROMETHEUS_MULTIPROC_DIR": str(shared)}
    )
    with started as (process, address):
        with SandboxControl(address, Secret((tmp_path / "token").read_text().strip())) as control:
            control.register_client(
                client_id="a", client_secret=Secret("s"), redirect_uris=("http://127.0.0.1:9/",), profile=ASKARA
            )
            token = control.seed_grants("a", 1)[0].refresh_token.reveal()
        refresh(address, token)
        refresh(address, token)
        metrics = httpx.get(address + "/metrics").text
        process.terminate()
        process.communicate(timeout=DEADLINE_S)

    assert 'evergrant_sandbox_rotations_total{client="a"} 1.0' in metrics
    assert 'evergrant_sandbox_double_spends_total{client="a"} 1.0' in metrics
    assert list(shared.glob("counter_*.db"))


def test_a_port_in_use_and_an_empty_token_are_one_line_each(tmp_path: Path) -> None:
    """What stops the start is said in one line, with exit code 1."""
    empty, token = tmp_path / "empty", tmp_path / "token"
    empty.touch()
    with sandbox_process("--control-token-file", token) as (process, address):
        taken = address.rpartition(":")[2]
        with sandbox_process("--port", taken, "--control-token-file", token) as (second, _):
            _, in_use = second.communicate(timeout=DEADLINE_S)
        with sandbox_process("--control-token-file", empty) as (third, _):
            _, no_token = third.communicate(timeout=DEADLINE_S)
        process.terminate()
        process.communicate(timeout=DEADLINE_S)

    assert (second.returncode, in_use) == (1, "sandbox: [Errno 98] Address already in use\n")
    assert (third.returncode, no_token.count("\n")) == (1, 1)
    assert "write a control token into it" in no_token


def refresh(address: str, token: str) -> httpx.Response:
    """Refresh as the client `a`."""
    return httpx.post(
        address + "/askara/oauth2/token",
        json={"grant_type": "refresh_token", "refresh_token": token, "client_id": "a", "client_secret": "s"},
    )
