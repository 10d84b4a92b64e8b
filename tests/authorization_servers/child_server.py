"""Runs a server that others wrote as a child process that cannot outlive this one."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, Self

#: What servers in Python import from.
_REPOSITORY: Final = Path(__file__).resolve().parents[2]
#: Seconds from start to the line that says that the server listens: 0.5 on an idle machine, many more on a full one.
START_TIMEOUT_S: Final = 60.0
#: Seconds from closing stdin to the end of the process, which has nothing left to do; then it is killed.
STOP_TIMEOUT_S: Final = 10.0
#: How much of the log is given, in bytes, from the end: enough for a stack trace, not a flood.
_LOG_TAIL: Final = 8000


class ChildServerError(RuntimeError):
    """The server ended, or said nothing, before it listened; the message holds its log."""


class ChildServer:
    """One running server, which agrees to three things.

    The first line of its stdin is its configuration as JSON, so that no secret is an argument; the end of its stdin is
    its own end, so that it dies with this process, SIGKILL included; the only line of its stdout is JSON, names its
    issuer and says that it listens. Its stderr is kept in an unnamed file. The object is a context manager, whose end
    is the server's end.
    """

    def __init__(self, *, runtime: Path, script: Path, configuration: Mapping[str, object]) -> None:
        """Start the server and wait until it listens.

        Args:
            runtime: what runs the program: Node.js or a Python.
            script: the program; its folder is the working folder.
            configuration: what JSON can hold.

        Raises:
            ChildServerError: it ended, or did not listen within `START_TIMEOUT_S`.
        """
        self._name = script.name
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by stop, which is this object's end
        self._process = subprocess.Popen(
            [runtime, script],
            cwd=script.parent,
            env={**os.environ, "PYTHONPATH": str(_REPOSITORY)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
        )
        try:
            self.introduction = self._introduce(configuration)  #: what the server said about itself
        except BaseException:
            self.stop()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    @property
    def issuer(self) -> str:
        """Where the server listens, without a slash at its end."""
        return str(self.introduction["issuer"])

    @property
    def pid(self) -> int:
        """The server's process id."""
        return self._process.pid

    def read_log(self) -> str:
        """Give what the server wrote to stderr so far; of much, the end. Empty after `stop`."""
        if self._log.closed:
            return ""
        size = os.fstat(self._log.fileno()).st_size
        # pread, for the server writes at the file position that both share.
        return os.pread(self._log.fileno(), _LOG_TAIL, max(0, size - _LOG_TAIL)).decode(errors="replace")

    def stop(self) -> None:
        """End the server and wait until it is gone; one that is gone already is no error."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                # Whatever the server had not read is lost with it.
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()

    def _introduce(self, configuration: Mapping[str, object]) -> dict[str, Any]:
        """Hand the configuration over and read the one line that the server says."""
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            message = f"{self._name} was started without pipes; this is a bug in ChildServer"
            raise ChildServerError(message)
        # A server that ended before it read breaks the pipe; its missing line says so below, with its log.
        with contextlib.suppress(BrokenPipeError):
            stdin.write(json.dumps(configuration).encode() + b"\n")
            stdin.flush()
        line = _read_line(stdout, timeout_s=START_TIMEOUT_S)
        if line is None:
            message = f"{self._name} did not listen within {START_TIMEOUT_S:g} s; its log:\n{self.read_log()}"
            raise ChildServerError(message)
        if not line:
            code = self._process.wait(STOP_TIMEOUT_S)
            message = f"{self._name} ended with exit code {code} before it listened; its log:\n{self.read_log()}"
            raise ChildServerError(message)
        introduction: dict[str, Any] = json.loads(line)
        return introduction


def _read_line(stream: IO[bytes], *, timeout_s: float) -> bytes | None:
    """Read one line: empty where the stream ended before its newline, None where the time was up before."""
    deadline = time.monotonic() + timeout_s
    line = b""
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        while not line.endswith(b"\n"):
            if not selector.select(max(0.0, deadline - time.monotonic())):
                return None
            # os.read, for the stream's own buffer would hide what is left from the selector.
            part = os.read(stream.fileno(), 4096)
            if not part:
                return b""
            line += part
    return line
