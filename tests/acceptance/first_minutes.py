"""A newcomer's first minutes with `make run`, on a fresh clone with nothing but Python and make.

Run by the gate with the machine's own Python: `python3 tests/acceptance/first_minutes.py [FOLDER]`. It uses the
standard library only, starts `make run` in the folder, and checks what README promises of it: the page within two
minutes, fifty rotations, a dead grant and no double spend within one more; a second start that finds its data; nothing
left running five seconds after `kill -9`.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

SERVES_WITHIN = 120.0  # seconds, setting up the virtual environment included
LIVELY_WITHIN = 60.0
GONE_WITHIN = 5.0
ROTATIONS = 50


class FirstMinutesError(Exception):
    """Something README promises did not come true."""


def main() -> int:
    """Check the first minutes; returns the exit code."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else ".").resolve()
    try:
        first = one_run(folder, fresh=True)
        second = one_run(folder, fresh=False)
    except FirstMinutesError as error:
        print(f"first minutes: {error}", file=sys.stderr)
        return 1
    print(f"first run:  {first}\nsecond run: {second}")
    return 0


def one_run(folder: Path, *, fresh: bool) -> str:
    """Start `make run`, look at it, kill it without warning, and return what was seen."""
    port = free_port()
    log = folder / ".evergrant-first-minutes.log"
    began = time.monotonic()
    with log.open("wb") as output:
        make = subprocess.Popen(
            ["make", "run", f"UP_OPTIONS=--port {port}"],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={name: value for name, value in os.environ.items() if not name.startswith("EVERGRANT_")},
        )
    try:
        address = f"http://127.0.0.1:{port}"
        wait(lambda: ok(f"{address}/readyz"), SERVES_WITHIN, make, log, "the page is not served")
        served = time.monotonic() - began
        wait(lambda: signs_in(log, address), SERVES_WITHIN, make, log, "the printed link does not sign in")
        if not fresh and generations(folder) < ROTATIONS:
            raise FirstMinutesError(f"the second run does not go on where the first ended; see {log}")
        wait(lambda: lively(f"{address}/metrics", dead=fresh), LIVELY_WITHIN, make, log, "not lively enough")
        lively_after = time.monotonic() - began - served
        pids = descendants(make.pid)
    finally:
        make.send_signal(signal.SIGKILL)
        make.wait()
    deadline = time.monotonic() + GONE_WITHIN
    while left := [pid for pid in pids if alive(pid)]:
        if time.monotonic() > deadline:
            raise FirstMinutesError(f"still running {GONE_WITHIN:g} s after kill -9: {left}")
        time.sleep(0.1)
    log.unlink()
    return f"served after {served:.0f} s, lively {lively_after:.0f} s later, {len(pids)} processes gone after kill -9"


def signs_in(log: Path, address: str) -> bool:
    """Tell whether the link that was printed leads to the console, signed in: one click."""
    printed = re.search(rf"{address}/sign-in/link/\S+", log.read_text(errors="replace"))
    if printed is None:
        return False
    browser = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPCookieProcessor())
    with browser.open(printed[0], timeout=5) as answer:
        return answer.url == f"{address}/" and b"Sign out" in answer.read()


def generations(folder: Path) -> int:
    """Return how often all grants together have been rotated, as the command line tells beside a running `up`."""
    listing = subprocess.run(
        [folder / ".venv/bin/evergrant", "grants", "list", "--json"], cwd=folder, capture_output=True, check=True
    )
    return sum(grant["generation"] for grant in json.loads(listing.stdout))


def lively(metrics: str, *, dead: bool) -> bool:
    """Tell whether enough has happened; raises at once when a token was spent twice or lost."""
    text = fetch(metrics)
    for name in ("evergrant_sandbox_double_spends_total", "evergrant_rotated_tokens_lost_total"):
        if total(text, name):
            raise FirstMinutesError(f"{name} is {total(text, name):g}")
    rotated = sum(
        float(line.rsplit(" ", 1)[1])
        for line in text.splitlines()
        if line.startswith("evergrant_refresh_total{") and 'outcome="rotated"' in line
    )
    return rotated >= ROTATIONS and (not dead or total(text, "evergrant_grants_dead_total") >= 1)


def total(text: str, name: str) -> float:
    """Return a metric's sum over its labels."""
    lines = [line for line in text.splitlines() if line.startswith((f"{name}{{", f"{name} "))]
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines)


def wait(condition: object, seconds: float, make: subprocess.Popen[bytes], log: Path, otherwise: str) -> None:
    """Look until a condition holds; raises when the time is up or `make run` has ended."""
    deadline = time.monotonic() + seconds
    assert callable(condition)
    while not condition():
        ended = make.poll() is not None
        if ended or time.monotonic() > deadline:
            last = log.read_text(errors="replace")[-3000:]
            why = f"make run ended with {make.returncode}" if ended else f"{otherwise} within {seconds:g} s"
            raise FirstMinutesError(f"{why}; the log ends with:\n{last}")
        time.sleep(0.25)


def ok(url: str) -> bool:
    """Tell whether an address answers with success."""
    try:
        fetch(url)
    except (urllib.error.URLError, OSError):
        return False
    return True


def fetch(url: str) -> str:
    """Return an address's text."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=5) as answer:
        text: str = answer.read().decode()
        return text


def free_port() -> int:
    """Return a port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def descendants(pid: int) -> list[int]:
    """Return a process and everything below it, the servers in sessions of their own included."""
    found = [pid]
    for one in found:
        for children in Path(f"/proc/{one}/task").glob("*/children"):
            found += [int(child) for child in children.read_text().split()]
    return found


def alive(pid: int) -> bool:
    """Tell whether a process still runs; a dead one that nobody has waited for does not count."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in {"Z", "X"}
    except (FileNotFoundError, ProcessLookupError):
        return False


if __name__ == "__main__":
    sys.exit(main())
