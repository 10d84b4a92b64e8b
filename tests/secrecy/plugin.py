"""Makes pytest note every secret, keep what is told, and search it when the run ends; a secret in it fails the run."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

import pytest

from tests.secrecy.folder import CHILD, FOLDER
from tests.secrecy.ledger import note_secrets
from tests.secrecy.places import OTHERS_LOG
from tests.secrecy.search import leaks
from tests.secrecy.told import tell

_TEMPORARY: Final = pytest.StashKey[Path]()
_LEAKS: Final = pytest.StashKey[list[str]]()
#: Exceptions that are looked at, from one to its cause: a chain may end in itself.
_CHAIN: Final = 20
#: Findings that are printed; one cause makes many.
_SHOWN: Final = 100


def pytest_configure(config: pytest.Config) -> None:
    """Begin before any test is imported, for a module may make secrets."""
    if config.option.collectonly or os.environ.get(FOLDER):
        return  # nothing runs, or this run was started by a test of another
    os.environ[FOLDER] = tempfile.mkdtemp(prefix="evergrant-told-")
    config.add_cleanup(lambda: shutil.rmtree(os.environ.pop(FOLDER), ignore_errors=True))
    kept = os.environ.get("PYTHONPATH")
    # Without the checkout: an interpreter that has a wheel of Evergrant must find that.
    os.environ["PYTHONPATH"] = os.pathsep.join([str(CHILD), *([kept] if kept else [])])
    note_secrets()
    _tell_exceptions()
    sys.addaudithook(_tell_command_line)


@pytest.fixture(scope="session", autouse=True)
def _temporary_folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Note where tests write."""
    request.config.stash[_TEMPORARY] = tmp_path_factory.getbasetemp()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Keep what a test has printed and logged."""
    for _name, text in report.sections:
        tell("output", text.partition(OTHERS_LOG)[0], test=report.nodeid)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Search. Every server and process of the tests has ended by now."""
    kept = os.environ.get(FOLDER)
    if kept is None or session.config.option.collectonly:
        return
    found = session.config.stash[_LEAKS] = leaks(Path(kept), session.config.stash.get(_TEMPORARY, None))
    if found and session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say where secrets stand, and never the secret."""
    found = config.stash.get(_LEAKS, [])
    if found:
        terminalreporter.section("secrets were told", red=True)
        for place in found[:_SHOWN]:
            terminalreporter.line(place)
        terminalreporter.line(f"{len(found)} places in all")


def _tell_command_line(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "subprocess.Popen":
        tell("command lines", " ".join(os.fsdecode(one) for one in arguments[1]))


def _tell_exceptions() -> None:
    leave = pytest.RaisesExc.__exit__

    def telling(self: Any, kind: Any, error: BaseException | None, trace: Any) -> bool:
        seen: BaseException | None = error
        for _ in range(_CHAIN):
            if seen is not None:
                tell("exceptions", f"{type(seen).__name__}: {seen}")
                seen = seen.__cause__ or seen.__context__
        return leave(self, kind, error, trace)

    pytest.RaisesExc.__exit__ = telling  # type: ignore[method-assign]
