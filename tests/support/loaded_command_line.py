"""Many commands in little time: an interpreter loads the program once and forks for each command.

What a command is given and what it leaves are a process's own, as ever: arguments, environment, folder, standard
streams, exit code. Only the second for its imports is spared. Run as a program, this file is that interpreter.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NoReturn, Self

from tests.support.command_line import ROOT, CommandLine, Ended, told

_LIMIT_S: Final = 60  # a command takes a tenth of a second; this only turns a hang into an exit code


class LoadedCommandLine:
    """Runs commands one after the other, for as long as a `with` block."""

    def run(self, command_line: CommandLine, *arguments: str, stdin: str = "") -> Ended:
        """Run one command as `command_line` would."""
        with tempfile.TemporaryDirectory(prefix="evergrant-command-") as folder:
            streams = [Path(folder) / name for name in ("stdin", "stdout", "stderr")]
            for stream, content in zip(streams, (stdin, "", ""), strict=True):
                stream.write_text(content, encoding="utf-8")
            asked = {
                "arguments": arguments,
                "environment": command_line.whole_environment(),
                "folder": str(command_line.folder),
                "streams": [str(stream) for stream in streams],
            }
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            self._process.stdin.write(json.dumps(asked) + "\n")
            self._process.stdin.flush()
            code = int(self._process.stdout.readline())
            return told(
                arguments, Ended(code=code, out=streams[1].read_text("utf-8"), err=streams[2].read_text("utf-8"))
            )

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "tests.support.loaded_command_line"],
            cwd=ROOT,
            env=CommandLine(folder=ROOT).whole_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate()


def _serve() -> None:
    from worker.cli import main  # noqa: PLC0415 -- loaded in this process only, and not in those that start it

    import_module("worker.commands.every")  # what `main` would load for each command

    gc.collect()
    gc.freeze()  # so that a child's collector leaves the memory that it shares with this process alone
    for line in sys.stdin:
        asked = json.loads(line)
        assert threading.active_count() == 1, "a fork takes no other thread along"
        child = os.fork()
        if child == 0:
            _become(asked)
            _end(main)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _become(asked: dict[str, Any]) -> None:
    signal.alarm(_LIMIT_S)
    os.chdir(asked["folder"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    sys.argv[:] = ["evergrant", *asked["arguments"]]
    for descriptor, path in enumerate(asked["streams"]):
        os.dup2(os.open(path, os.O_RDONLY if descriptor == 0 else os.O_WRONLY), descriptor)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 -- the old one has read ahead


def _end(main: Callable[[], None]) -> NoReturn:
    code: object = 0
    try:
        main()
    except SystemExit as ended:
        code = ended.code
    except BaseException:  # noqa: BLE001 -- what the interpreter would do
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    # Not through the interpreter's own end: taking apart all that was loaded takes ten times as long as a command.
    os._exit(code if isinstance(code, int) else int(code is not None))


if __name__ == "__main__":
    _serve()
