"""A bound child is gone when its parent goes, and starts with a clean slate."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest

from tests.integration.embedded_parent import interpreter_environment, left_after
from worker.embedded import EmbeddedServiceError, exec_bound, start_bound, stop_in_steps
from worker.embedded.bound import bare_environment
from worker.embedded.service_user import Capability, ServiceUser, may_execute

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can change to another user")

NOBODY = 65534

#: The bits of the two signals that glibc keeps for itself (nptl(7)): no program can set them back.
LIBC_SIGNALS = (1 << 32 - 1) | (1 << 33 - 1)

STUBBORN = (
    sys.executable,
    "-c",
    "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); signal.pause()",
)


def run_parent(program: str) -> subprocess.Popen[str]:
    """Start an interpreter on `program`, which prints a pid and then waits to be killed."""
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", program],
        env=interpreter_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def kill_after_first_line(parent: subprocess.Popen[str]) -> int:
    """Kill the parent with SIGKILL once it has printed a pid, and return that pid."""
    with parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert psutil.pid_exists(pid)
        parent.kill()
    return pid


@pytest.mark.parametrize(
    "as_user",
    [
        "None",
        pytest.param("ServiceUser(uid=65534, gid=65534, capability=None)", marks=needs_root),
        pytest.param("ServiceUser(uid=65534, gid=65534, capability=Capability.DAC_READ_SEARCH)", marks=needs_root),
    ],
)
def test_child_dies_with_its_killed_parent(as_user: str) -> None:
    """SIGKILL of the parent takes the child along, also one that has changed its user or kept a capability."""
    pid = kill_after_first_line(
        run_parent(
            "import signal, sys\n"
            "from worker.embedded import start_bound\n"
            "from worker.embedded.service_user import Capability, ServiceUser\n"
            f"child = start_bound(['/bin/sh', '-c', 'echo $$; exec sleep 300'], death_signal=signal.SIGKILL,"
            f" as_user={as_user})\n"
            "sys.stdin.read()\n"
        )
    )

    assert left_after((pid,)) == []


def test_bind_to_parent_ends_the_caller_with_its_parent() -> None:
    """A process that has called bind_to_parent is gone after its own parent was killed."""
    leaf = (
        "import os, signal\n"
        "from worker.embedded import bind_to_parent\n"
        "bind_to_parent()\n"
        "print(os.getpid(), flush=True)\n"
        "signal.pause()\n"
    )
    pid = kill_after_first_line(
        run_parent(f"import subprocess, sys\nsubprocess.Popen([sys.executable, '-c', {leaf!r}]).wait()\n")
    )

    assert left_after((pid,)) == []


def test_launcher_refuses_when_the_parent_has_gone_already(tmp_path: Path) -> None:
    """A parent that died before the death signal was set leaves no child behind: the program is not started."""
    trace = tmp_path / "started"
    not_our_pid = os.getppid()
    steps = [str(not_our_pid), str(signal.SIGKILL.value), "-", "-", "-", "/bin/sh", "-c", f"touch '{trace}'"]

    ended = subprocess.run([sys.executable, "-I", "-S", exec_bound.__file__, *steps], check=False, timeout=30)

    assert ended.returncode == exec_bound.PARENT_GONE
    assert not trace.exists()


def test_start_from_another_thread_is_refused() -> None:
    """A call from a thread that may end before the process does is a bug, and says so."""
    raised: list[RuntimeError] = []

    def start() -> None:
        try:
            start_bound(["/bin/true"], death_signal=signal.SIGKILL)
        except RuntimeError as error:
            raised.append(error)

    thread = threading.Thread(target=start, name="side")
    thread.start()
    thread.join()

    assert "thread 'side'" in str(raised[0])
    assert "main thread" in str(raised[0])


def test_program_that_cannot_be_executed_is_named_in_the_log(tmp_path: Path) -> None:
    """The child's exit status and its log tell that the program could not be executed, and why."""
    log = tmp_path / "server.log"

    child = start_bound([tmp_path / "missing"], death_signal=signal.SIGKILL, log_path=log)

    assert child.wait(timeout=30) == exec_bound.CANNOT_START
    assert f"cannot start {tmp_path / 'missing'}" in log.read_text()
    assert "No such file or directory" in log.read_text()


def test_log_is_private_and_not_written_through_a_link(tmp_path: Path) -> None:
    """A log is readable for its owner only, and a symbolic link in its place is refused."""
    log, link = tmp_path / "server.log", tmp_path / "link.log"
    link.symlink_to(tmp_path / "elsewhere")

    start_bound(["/bin/echo", "hello"], death_signal=signal.SIGKILL, log_path=log).wait(timeout=30)

    assert log.read_text() == "hello\n"
    assert log.stat().st_mode & 0o777 == 0o600
    with pytest.raises(OSError, match="symbolic links"):
        start_bound(["/bin/echo", "hello"], death_signal=signal.SIGKILL, log_path=link)
    assert not (tmp_path / "elsewhere").exists()


def test_child_has_its_own_session_and_default_signals(tmp_path: Path) -> None:
    """A child gets no Ctrl-C meant for us, and inherits neither ignored nor blocked signals nor our environment."""
    log = tmp_path / "out"
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    try:
        child = start_bound(
            ["/bin/cat", "/proc/self/stat", "/proc/self/status", "/proc/self/environ"],
            death_signal=signal.SIGKILL,
            env=bare_environment(),
            log_path=log,
        )
        child.wait(timeout=30)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        signal.signal(signal.SIGINT, before)

    lines = log.read_text().replace("\0", "\n").splitlines()
    session = int(lines[0].rsplit(")", 1)[1].split()[3])
    fields = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    names = {line.split("=", 1)[0] for line in lines if "=" in line}
    assert session == child.pid
    assert int(fields["SigIgn"], 16) & ~LIBC_SIGNALS == 0
    assert int(fields["SigBlk"], 16) == 0
    assert names <= {"PATH", "LD_LIBRARY_PATH", "LC_ALL", "TZ"}
    assert "TZ" in names


@needs_root
def test_child_as_nobody_keeps_only_the_capability_it_was_given(tmp_path: Path) -> None:
    """A child that changed its user has that user's ids, no other group, one capability, and can gain no more."""
    log = tmp_path / "out"
    user = ServiceUser(uid=NOBODY, gid=NOBODY, capability=Capability.DAC_READ_SEARCH)

    child = start_bound(["/bin/cat", "/proc/self/status"], death_signal=signal.SIGKILL, log_path=log, as_user=user)

    assert child.wait(timeout=30) == 0
    fields = dict(line.split(":", 1) for line in log.read_text().splitlines())
    assert fields["Uid"].split() == [str(NOBODY)] * 4
    assert fields["Gid"].split() == [str(NOBODY)] * 4
    assert fields["Groups"].split() == []
    only = 1 << Capability.DAC_READ_SEARCH.value
    assert [int(fields[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")] == [only] * 4
    assert fields["NoNewPrivs"].strip() == "1"


@needs_root
def test_may_execute_agrees_with_the_kernel(tmp_path: Path) -> None:
    """What the permission bits are read to mean is what the kernel does for a user without privileges."""
    public = Path("/dev/shm") / f"evergrant-test-{os.getpid()}"
    public.mkdir(mode=0o755)
    try:
        for owner, group in ((0, 0), (NOBODY, 0), (0, NOBODY)):
            for mode in (0o000, 0o001, 0o010, 0o100, 0o110, 0o011, 0o101, 0o111):
                file = public / f"{owner}-{group}-{mode:o}"
                file.touch()
                os.chown(file, owner, group)
                file.chmod(mode)
        files = sorted(public.iterdir())
        predicted = [file.name for file in files if may_execute(file.stat(), uid=NOBODY, gid=NOBODY)]

        child = start_bound(
            ["/bin/sh", "-c", 'for f in "$@"; do if test -x "$f"; then echo "${f##*/}"; fi; done', "sh", *files],
            death_signal=signal.SIGKILL,
            log_path=tmp_path / "out",
            as_user=ServiceUser(uid=NOBODY, gid=NOBODY, capability=None),
        )

        assert child.wait(timeout=30) == 0
        assert (tmp_path / "out").read_text().splitlines() == predicted
        assert 0 < len(predicted) < len(files)
    finally:
        for file in public.iterdir():
            file.unlink()
        public.rmdir()


def test_stop_goes_on_to_the_next_signal() -> None:
    """A process that ignores the first signal is ended by the second, and one that has ended is left alone."""
    with subprocess.Popen(STUBBORN, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()

        stop_in_steps(process, [(signal.SIGTERM, 0.1), (signal.SIGKILL, 30)])

        assert process.returncode == -signal.SIGKILL
        stop_in_steps(process, [(signal.SIGTERM, 0.1)])


def test_stop_says_when_nothing_helped() -> None:
    """A process that still runs after the last step is an error that names it."""
    with subprocess.Popen(STUBBORN, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()

        with pytest.raises(EmbeddedServiceError, match=f"process {process.pid} still runs after .*SIGTERM"):
            stop_in_steps(process, [(signal.SIGTERM, 0.1)])

        process.kill()


def test_bare_environment_keeps_our_settings_from_the_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of ours, which may be a secret, is handed to a server."""
    monkeypatch.setenv("EVERGRANT_KEYS", "k1:c2VjcmV0")

    assert "c2VjcmV0" not in json.dumps(bare_environment())
