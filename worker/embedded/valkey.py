"""A real Valkey (or Redis) in a folder of its own, for Celery's messages."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from urllib.parse import quote

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from worker.domain.secret import Secret
from worker.embedded.binaries import BrokerProgram, find_broker
from worker.embedded.bound import bare_environment, start_bound, stop_in_steps
from worker.embedded.server_log import ServerLog
from worker.embedded.service_folder import claim_folder, write_private
from worker.embedded.startup import LOOPBACK, Listening, free_loopback_port, start_listening

_STOP_STEPS: Final = (
    (signal.SIGTERM, 10.0),  # writes what is in memory, then ends
    (signal.SIGKILL, 10.0),
)

_ANSWER_PATIENCE: Final = 1.0
"""Seconds for one PING on the loopback; then it is looked whether the server still runs, and asked again."""


def quoted(value: str) -> str:
    """Return `value` as one argument of a line in valkey.conf.

    Raises:
        ValueError: if it holds a line break, which such a file cannot hold.
    """
    if "\n" in value or "\r" in value:
        message = "a value with a line break cannot stand in valkey.conf"
        raise ValueError(message)
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


class EmbeddedValkey:
    """Valkey in `folder`: what it holds is written to the disk each second and is there again at the next start.

    Its password is new at each start and stands in a configuration file that only its owner may read, never on the
    command line. The caller sees to it that only one process uses the folder (`FolderLock`).
    """

    def __init__(
        self,
        folder: Path,
        *,
        token: Callable[[], str],
        monotonic: Callable[[], float],
        programs: Iterable[Path] | None = None,
        free_port: Callable[[], int] = free_loopback_port,
    ) -> None:
        """Describe the server; nothing is touched until `start`.

        Args:
            folder: where everything is kept; made with its parents when missing.
            token: gives a new unguessable password without line breaks at each call.
            monotonic: a clock in seconds, for deadlines.
            programs: the `valkey-server` or `redis-server` to choose from; None means the wheel's, then the machine's.
            free_port: chooses a port on the loopback; it is asked again when somebody else was faster.
        """
        self.folder = folder.resolve()
        self._token = token
        self._monotonic = monotonic
        self._programs = programs
        self._free_port = free_port
        self._config_file = self.folder / "valkey.conf"
        self._written_by = self.folder / "written-by"
        self._log = ServerLog(self.folder / "valkey.log")
        self._running: Listening | None = None
        self._url: Secret | None = None

    @property
    def process(self) -> subprocess.Popen[bytes] | None:
        """The server's process while it is started."""
        return None if self._running is None else self._running.process

    @property
    def log_ending(self) -> str:
        """The end of the server's log with its path, for an error message."""
        return self._log.ending()

    def start(self) -> Secret:
        """Start the server and return its URL, `redis://:…@127.0.0.1:<port>/0`.

        A server that is already started is left as it is. Call it from the main thread.

        Raises:
            EmbeddedServiceError: with what failed and what to do; nothing is left running then.
        """
        if self._url is not None:
            return self._url
        claim_folder(self.folder, uid=os.geteuid(), gid=os.getegid())
        written_by = self._written_by.read_text(encoding="ascii").strip() if self._written_by.exists() else None
        program = find_broker(made_by=written_by, paths=self._programs)
        if written_by != str(program):
            write_private(self._written_by, f"{program}\n", uid=os.geteuid(), gid=os.getegid())
        (self.folder / "data").mkdir(mode=0o700, exist_ok=True)
        self._log.begin()
        password = Secret("")

        def launch(port: int) -> subprocess.Popen[bytes]:
            # A new one for each port: PING shows it to whoever took the port in a race.
            nonlocal password
            password = Secret(self._token())
            return self._launch(program, port, password)

        self._running = start_listening(
            name="Valkey",
            launch=launch,
            answers=lambda process, port: _answers(process, port, password),
            log=self._log,
            monotonic=self._monotonic,
            free_port=self._free_port,
        )
        self._url = Secret(f"redis://:{quote(password.reveal(), safe='')}@{LOOPBACK}:{self._running.port}/0")
        return self._url

    def stop(self) -> None:
        """Stop the server in good order, by force if it does not go; does nothing where it is not started."""
        running, self._running, self._url = self._running, None, None
        if running is not None:
            stop_in_steps(running.process, _STOP_STEPS)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _launch(self, program: BrokerProgram, port: int, password: Secret) -> subprocess.Popen[bytes]:
        settings = {
            "bind": LOOPBACK,
            "port": str(port),
            "requirepass": password.reveal(),
            "dir": str(self.folder / "data"),
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",  # the append-only file is enough
            "daemonize": "no",
            "maxmemory-policy": "noeviction",  # a message may wait, it may not vanish
        }
        text = "".join(f"{name} {quoted(value)}\n" for name, value in settings.items())
        write_private(self._config_file, text, uid=os.geteuid(), gid=os.getegid())
        return start_bound(
            [program.path, self._config_file],
            death_signal=signal.SIGKILL,
            env=bare_environment(),
            cwd=self.folder,
            log_path=self._log.path,
        )


def _answers(process: subprocess.Popen[bytes], port: int, password: Secret) -> bool:
    """Whether the server answers PING, and is the process that we started."""
    try:
        with redis.Redis(
            host=LOOPBACK,
            port=port,
            password=password.reveal(),
            socket_timeout=_ANSWER_PATIENCE,
            socket_connect_timeout=_ANSWER_PATIENCE,
            retry=Retry(NoBackoff(), 0),
            decode_responses=True,
        ) as client:
            client.ping()
            about = client.info("server")
    except redis.RedisError:  # not listening yet, still loading, or somebody else's server
        return False
    return isinstance(about, dict) and about.get("process_id") == process.pid
