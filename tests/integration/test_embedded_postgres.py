"""The embedded PostgreSQL: made once, found again, private, and clear about what stops it."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psutil
import psycopg
import pytest

from tests.integration.embedded_parent import (
    interpreter_environment,
    left_after,
    processes_naming,
    token,
    visible_to_others,
)
from worker.embedded import EmbeddedPostgres, EmbeddedServiceError
from worker.embedded.binaries import find_postgres, postgres_folders
from worker.embedded.service_user import Capability
from worker.embedded.startup import LOOPBACK, free_loopback_port

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="PostgreSQL changes its user only when root starts it")


def make_server(
    folder: Path,
    *,
    program_folders: list[Path] | None = None,
    free_port: Callable[[], int] = free_loopback_port,
) -> EmbeddedPostgres:
    """Describe a server that does not wait for the disk."""
    return EmbeddedPostgres(
        folder,
        token=token,
        monotonic=time.monotonic,
        durable=False,
        program_folders=program_folders,
        free_port=free_port,
    )


def majors_here() -> dict[int, Path]:
    """Return the folders of this machine's PostgreSQL programs by their major version, the preferred of each."""
    found: dict[int, Path] = {}
    for folder in postgres_folders():
        try:
            programs = find_postgres(made_by=None, folders=[folder])
        except EmbeddedServiceError:
            continue
        found.setdefault(programs.major, folder)
    return found


def one_value(url: str, query: str) -> object:
    """Run a query that gives one value, or a statement that gives none."""
    with psycopg.connect(url) as connection:
        cursor = connection.execute(query.encode())
        row = cursor.fetchone() if cursor.description else None
        return None if row is None else row[0]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """Give one running server to the tests that only look at it."""
    with make_server(tmp_path_factory.mktemp("server") / "postgres") as running:
        yield running


def pid_of(server: EmbeddedPostgres) -> int:
    """Return the pid of a started server."""
    assert server.process is not None
    return server.process.pid


def capabilities_of(pid: int) -> int:
    """Return the bits of the capabilities that a process has in effect."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return next(int(line.split()[1], 16) for line in status.splitlines() if line.startswith("CapEff"))


def test_url_leads_to_our_own_database(server: EmbeddedPostgres) -> None:
    """The URL signs in as the database's owner, who may create databases and is no superuser."""
    url = server.start().reveal()

    assert one_value(url, "SELECT current_user || ' ' || current_database()") == "evergrant evergrant"
    assert one_value(url, "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = 'evergrant'") == "evergrant"
    assert one_value(url, "SELECT rolcreatedb AND NOT rolsuper FROM pg_roles WHERE rolname = current_user") is True
    assert one_value(url, "SELECT current_setting('server_version_num')::int >= 140000") is True


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("server_encoding", "UTF8"),
        ("TimeZone", "UTC"),
        ("lc_messages", "C"),
        ("max_connections", "200"),
        ("password_encryption", "scram-sha-256"),
        ("listen_addresses", "127.0.0.1"),
        ("data_checksums", "on"),
    ],
)
def test_server_is_set_up_as_promised(server: EmbeddedPostgres, setting: str, value: str) -> None:
    """Encoding, time zone, authentication and addresses are what Evergrant counts on."""
    assert one_value(server.start().reveal(), f"SELECT current_setting('{setting}')") == value


def test_text_sorts_by_bytes(server: EmbeddedPostgres) -> None:
    """The locale is C, so an index never depends on the machine's libraries."""
    collation = one_value(server.start().reveal(), "SELECT datcollate FROM pg_database WHERE datname = 'evergrant'")

    assert collation == "C"


def test_query_cannot_read_files_of_the_machine(server: EmbeddedPostgres) -> None:
    """The role has no way to the server's file access, which as root reaches everywhere."""
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        one_value(server.start().reveal(), "SELECT pg_read_file('/etc/hostname')")


def test_password_is_wanted_and_never_printed(server: EmbeddedPostgres) -> None:
    """Nobody signs in without the password, which no process shows in its arguments or environment."""
    url = server.start()
    password = url.reveal().split(":")[2].split("@")[0]
    superuser_password = (server.folder / "superuser-password").read_text().strip()

    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(url.reveal().replace(password, "guess"))

    shown = visible_to_others(pid_of(server))
    assert b"postgres" in shown
    assert password.encode() not in shown
    assert superuser_password.encode() not in shown
    assert password not in f"{url} {url!r}"
    assert password not in (server.folder / "postgres.log").read_text()


def test_only_the_loopback_is_listened_on(server: EmbeddedPostgres) -> None:
    """Every socket of the server that listens is on 127.0.0.1, and there is no socket in the file system."""
    listening = [
        connection
        for connection in psutil.Process(pid_of(server)).net_connections(kind="all")
        if connection.status == psutil.CONN_LISTEN or connection.family == socket.AF_UNIX
    ]

    assert {connection.family for connection in listening} == {socket.AF_INET}
    assert {connection.laddr.ip for connection in listening} == {LOOPBACK}


def test_folder_is_closed_to_others(server: EmbeddedPostgres) -> None:
    """Data, log and password can be read by their owner only."""
    modes = {path.name: path.stat().st_mode & 0o777 for path in (server.folder, *server.folder.iterdir())}

    assert modes == {"postgres": 0o700, "data": 0o700, "superuser-password": 0o600, "postgres.log": 0o600}


@needs_root
def test_root_below_a_closed_directory_gives_nobody_one_capability(server: EmbeddedPostgres) -> None:
    """Started by root below a directory of mode 0700, the server runs as nobody and may search directories, no more."""
    closed = [parent for parent in server.folder.parents if parent.stat().st_mode & 0o077 == 0]
    process = psutil.Process(pid_of(server))

    assert closed, "pytest's folder should be closed to others"
    assert process.username() == "nobody"
    assert capabilities_of(process.pid) == 1 << Capability.DAC_READ_SEARCH.value
    assert (server.folder / "data").stat().st_uid == process.uids().real
    assert all(parent.stat().st_mode & 0o077 == 0 for parent in closed)


def test_rows_survive_a_restart(tmp_path: Path) -> None:
    """What was committed is there after stop and start, under a new password; a stopped server leaves no process."""
    server = make_server(tmp_path / "postgres")
    with server:
        first = server.start().reveal()
        one_value(first, "CREATE TABLE kept AS SELECT 42 AS answer")
    assert processes_naming(str(tmp_path)) == []
    assert server.process is None

    with server:
        second = server.start().reveal()
        assert one_value(second, "SELECT answer FROM kept") == 42
        assert second.split("@")[0] != first.split("@")[0]

    with make_server(tmp_path / "postgres") as other:
        assert one_value(other.start().reveal(), "SELECT answer FROM kept") == 42


def test_folder_name_may_hold_spaces_and_letters_of_any_language(tmp_path: Path) -> None:
    """A folder is used under the name that it has."""
    with make_server(tmp_path / "dépôt d'été 100%" / "postgres") as server:
        assert one_value(server.start().reveal(), "SELECT 1") == 1


def test_port_taken_in_the_meantime_leads_to_another_one(tmp_path: Path) -> None:
    """When somebody else takes the port first, the server comes up on the next one."""
    with closing(socket.create_server((LOOPBACK, 0))) as taken:
        ports = itertools.chain([taken.getsockname()[1]], iter(free_loopback_port, None))

        with make_server(tmp_path / "postgres", free_port=lambda: next(ports)) as server:
            assert one_value(server.start().reveal(), "SELECT inet_server_port()") != taken.getsockname()[1]


def test_cut_off_initdb_is_made_good(tmp_path: Path) -> None:
    """A process killed while it makes the data folder leaves no process and nothing that stops the next start."""
    folder = tmp_path / "postgres"
    program = (
        "import secrets, sys, time\n"
        "from pathlib import Path\n"
        "from worker.embedded import EmbeddedPostgres\n"
        "EmbeddedPostgres(Path(sys.argv[1]), token=secrets.token_urlsafe, monotonic=time.monotonic).start()\n"
    )
    with subprocess.Popen([sys.executable, "-c", program, folder], env=interpreter_environment()) as parent:
        deadline = time.monotonic() + 60
        while not any(folder.glob("data.making-*/base/1/*")):
            assert parent.poll() is None, "the data folder was made before it could be cut off"
            assert time.monotonic() < deadline
        parent.kill()
    assert not (folder / "data").exists()
    assert left_after(tuple(processes_naming(str(folder)))) == []

    with make_server(folder) as server:
        assert one_value(server.start().reveal(), "SELECT 1") == 1
    names = {path.name for path in folder.iterdir()}
    assert names == {"data", "postgres.log", "postgres.log.1", "superuser-password"}


def test_stale_pid_file_does_not_stop_the_start(tmp_path: Path) -> None:
    """A pid file whose pid belongs to another program by now is cleared away, as after a container's restart."""
    folder = tmp_path / "postgres"
    with make_server(folder):
        pid_file = (folder / "data" / "postmaster.pid").read_text()
    with subprocess.Popen(["/bin/sleep", "300"], user=folder.stat().st_uid) as other:
        _, rest = pid_file.split("\n", 1)
        (folder / "data" / "postmaster.pid").write_text(f"{other.pid}\n{rest}")
        try:
            with make_server(folder) as server:
                assert one_value(server.start().reveal(), "SELECT 1") == 1
        finally:
            other.kill()


def test_killed_server_starts_again_with_its_rows(tmp_path: Path) -> None:
    """The death signal (SIGQUIT) and even SIGKILL of the server cost no committed row."""
    for number, death in enumerate((signal.SIGQUIT, signal.SIGKILL), start=1):
        with make_server(tmp_path / "postgres") as server:
            url = server.start().reveal()
            one_value(url, "CREATE TABLE IF NOT EXISTS kept (n int)")
            one_value(url, "INSERT INTO kept VALUES (1)")
            assert one_value(url, "SELECT count(*) FROM kept") == number
            psutil.Process(pid_of(server)).send_signal(death)
            assert server.process is not None
            server.process.wait(timeout=30)

    assert left_after(tuple(processes_naming(str(tmp_path)))) == []


def test_version_that_made_the_folder_is_chosen_again(tmp_path: Path) -> None:
    """PG_VERSION decides: an older version's folder gets that version's programs, or one error that names it."""
    here = majors_here()
    oldest, newest = min(here), max(here)
    if oldest == newest:
        pytest.skip("only one major version of PostgreSQL is here")
    folder = tmp_path / "postgres"
    with make_server(folder, program_folders=[here[oldest]]):
        pass

    with make_server(folder) as again:
        version = one_value(again.start().reveal(), "SELECT current_setting('server_version_num')::int / 10000")
    assert version == oldest

    with pytest.raises(EmbeddedServiceError, match=f"made by PostgreSQL {oldest}.*{newest} in .*install"):
        make_server(folder, program_folders=[here[newest]]).start()


def test_programs_of_the_machine_serve_as_well(tmp_path: Path) -> None:
    """Where the wheel is not installed, the programs of the system's package do the same."""
    machine = [folder for folder in postgres_folders() if "site-packages" not in folder.parts]
    if not machine:
        pytest.skip("no PostgreSQL server is installed on this machine besides the wheel")

    with make_server(tmp_path / "postgres", program_folders=machine) as server:
        assert one_value(server.start().reveal(), "SELECT current_setting('TimeZone')") == "UTC"


def test_failed_start_quotes_the_log(tmp_path: Path) -> None:
    """A server that refuses its configuration is reported in its own words, with the path of its log."""
    folder = tmp_path / "postgres"
    with make_server(folder):
        pass
    with (folder / "data" / "postgresql.conf").open("a") as file:
        file.write("no_such_setting = on\n")

    with pytest.raises(EmbeddedServiceError, match=r"(?s)PostgreSQL ended as it started.*no_such_setting") as raised:
        make_server(folder).start()

    assert str(folder / "postgres.log") in str(raised.value)
    assert processes_naming(str(folder)) == []


def test_failed_initdb_quotes_the_log(tmp_path: Path) -> None:
    """Where initdb fails, its words are in the error, and nothing half-made stays."""
    programs = tmp_path / "programs"
    programs.mkdir()
    real = find_postgres(made_by=None)
    (programs / "postgres").symlink_to(real.postgres)
    (programs / "initdb").write_text("#!/bin/sh\necho 'initdb: error: no space left' >&2\nexit 1\n")
    (programs / "initdb").chmod(0o755)

    with pytest.raises(EmbeddedServiceError, match=r"(?s)initdb could not make .*exit status 1.*no space left"):
        make_server(tmp_path / "postgres", program_folders=[programs]).start()

    assert not (tmp_path / "postgres" / "data").exists()


def test_lost_password_is_named(tmp_path: Path) -> None:
    """Without the superuser's password, or with a wrong one, the error says which file is needed."""
    folder = tmp_path / "postgres"
    with make_server(folder):
        pass
    (folder / "superuser-password").write_text("another\n")
    with pytest.raises(EmbeddedServiceError, match=r"does not accept the password in .*superuser-password"):
        make_server(folder).start()

    (folder / "superuser-password").unlink()
    with pytest.raises(EmbeddedServiceError, match=r"superuser-password is missing"):
        make_server(folder).start()

    assert processes_naming(str(folder)) == []


@pytest.mark.slow
def test_second_server_on_the_same_data_is_refused(tmp_path: Path) -> None:
    """While a server runs on the data, another one does not start, whatever its pid file says."""
    folder = tmp_path / "postgres"
    with make_server(folder) as first:
        pid = pid_of(first)
        with pytest.raises(EmbeddedServiceError, match=f"process {pid}.* already runs on .*kill -INT {pid}"):
            make_server(folder).start()

        assert one_value(first.start().reveal(), "SELECT 1") == 1


@needs_root
def test_directory_that_nobody_cannot_enter_is_named(tmp_path: Path) -> None:
    """Root without the capabilities to let nobody pass gets one error with the directory and the remedy."""
    barrier = tmp_path / "closed"
    barrier.mkdir(mode=0o700)
    programs = find_postgres(made_by=None)
    program = (
        "import ctypes, secrets, sys, time\n"
        "from pathlib import Path\n"
        "from worker.embedded import EmbeddedPostgres, EmbeddedServiceError\n"
        "libc = ctypes.CDLL(None)\n"
        "assert libc.prctl(24, 1, 0, 0, 0) == libc.prctl(24, 2, 0, 0, 0) == 0  # PR_CAPBSET_DROP\n"
        "try:\n"
        "    EmbeddedPostgres(Path(sys.argv[1]), token=secrets.token_urlsafe, monotonic=time.monotonic,\n"
        "        program_folders=[Path(sys.argv[2])]).start()\n"
        "except EmbeddedServiceError as error:\n"
        "    print(error)\n"
    )

    ended = subprocess.run(
        [sys.executable, "-c", program, barrier / "postgres", programs.folder],
        capture_output=True,
        check=True,
        env=interpreter_environment(),
        text=True,
        timeout=60,
    )

    first_closed = next(parent for parent in reversed(barrier.parents) if parent.stat().st_mode & 0o001 == 0)
    assert f"{first_closed} (mode 0700, owner id 0)" in ended.stdout
    assert "EVERGRANT_HOME_DIR" in ended.stdout
    assert "ordinary user" in ended.stdout


@needs_root
@pytest.mark.parametrize(
    ("kept_bits", "capability"), [(0o777, Capability.DAC_READ_SEARCH), (0o700, Capability.DAC_OVERRIDE)]
)
def test_programs_out_of_reach_of_nobody_still_run(tmp_path: Path, kept_bits: int, capability: Capability) -> None:
    """Programs below a closed directory, even installed under a strict umask, run with no more than that takes."""
    real = next((folder for folder in postgres_folders() if "site-packages" in folder.parts), None)
    if real is None:
        pytest.skip("the wheel, whose programs can be moved, is not installed")
    package, packages = real.parents[1], real.parents[2]
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    installed = closed / package.name / real.parent.name
    shutil.copytree(real.parent, installed, symlinks=True)
    shutil.copytree(packages / f"{package.name}.libs", closed / f"{package.name}.libs")
    for path in closed.rglob("*"):
        if not path.is_symlink():
            path.chmod(path.stat().st_mode & kept_bits)

    with make_server(tmp_path / "postgres", program_folders=[installed / "bin"]) as server:
        assert one_value(server.start().reveal(), "SELECT 1") == 1
        assert psutil.Process(pid_of(server)).exe() == str(installed / "bin" / "postgres")
        assert capabilities_of(pid_of(server)) == 1 << capability.value
