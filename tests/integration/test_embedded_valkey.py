"""The embedded broker: private, bound to the loopback, and with its messages again after a restart."""

from __future__ import annotations

import itertools
import shutil
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psutil
import pytest
import redis

from tests.integration.embedded_parent import processes_naming, token, visible_to_others
from worker.embedded import EmbeddedServiceError, EmbeddedValkey
from worker.embedded.startup import LOOPBACK, free_loopback_port


def make_server(
    folder: Path,
    *,
    programs: list[Path] | None = None,
    make_token: Callable[[], str] = token,
    free_port: Callable[[], int] = free_loopback_port,
) -> EmbeddedValkey:
    """Describe a broker."""
    return EmbeddedValkey(folder, token=make_token, monotonic=time.monotonic, programs=programs, free_port=free_port)


@contextmanager
def connected(url: str) -> Iterator[redis.Redis]:
    """Give a client of the broker."""
    with redis.Redis.from_url(url, decode_responses=True, socket_timeout=5) as client:
        yield client


def pid_of(server: EmbeddedValkey) -> int:
    """Return the pid of a started server."""
    assert server.process is not None
    return server.process.pid


def test_messages_survive_a_restart(tmp_path: Path) -> None:
    """What was pushed is there after stop and start, under a new password; a stopped broker leaves no process."""
    server = make_server(tmp_path / "valkey")
    with server, connected(first := server.start().reveal()) as client:
        assert client.rpush("queue", "ticket") == 1
    assert server.process is None
    assert processes_naming(str(tmp_path)) == []

    with server, connected(second := server.start().reveal()) as client:
        assert client.lrange("queue", 0, -1) == ["ticket"]
    assert second.split("@")[0] != first.split("@")[0]


def test_killed_broker_starts_again(tmp_path: Path) -> None:
    """SIGKILL, which is its death signal, does not stop it from starting again with what was on the disk."""
    server = make_server(tmp_path / "valkey")
    with server, connected(server.start().reveal()) as client:
        client.rpush("queue", "ticket")
        # WAITAOF answers when the append-only file is on the disk; it came with Valkey and Redis 7.2.
        assert client.waitaof(1, 0, 5000) == [1, 0]
        psutil.Process(pid_of(server)).send_signal(signal.SIGKILL)
        assert server.process is not None
        server.process.wait(timeout=30)

    with server, connected(server.start().reveal()) as client:
        assert client.lrange("queue", 0, -1) == ["ticket"]


def test_password_is_wanted_and_never_printed(tmp_path: Path) -> None:
    """Nobody talks to the broker without the password, which shows in no argument, environment, log or message."""
    with make_server(tmp_path / "valkey") as server:
        url = server.start()
        password = url.reveal().split(":")[2].split("@")[0]

        with connected(url.reveal().replace(f":{password}@", "")) as client, pytest.raises(redis.AuthenticationError):
            client.ping()
        shown = visible_to_others(pid_of(server))
        log = (server.folder / "valkey.log").read_text()

    assert b"valkey" in shown or b"redis" in shown
    assert password.encode() not in shown
    assert password not in f"{url} {url!r} {log}"


def test_broker_is_closed_to_others(tmp_path: Path) -> None:
    """It listens on 127.0.0.1 only, and its files are for their owner only."""
    with make_server(tmp_path / "valkey") as server:
        listening = [
            connection.laddr.ip
            for connection in psutil.Process(pid_of(server)).net_connections(kind="inet")
            if connection.status == psutil.CONN_LISTEN
        ]
        modes = {path.name: path.stat().st_mode & 0o777 for path in (server.folder, *server.folder.iterdir())}

    assert listening == [LOOPBACK]
    assert modes == {"valkey": 0o700, "data": 0o700, "valkey.conf": 0o600, "valkey.log": 0o600, "written-by": 0o600}


def test_password_and_folder_may_hold_any_character(tmp_path: Path) -> None:
    """Quotes, blanks, backslashes and percent signs arrive as they are."""
    password = "a\"b'c \\d#e%20é/@:"
    with (
        make_server(tmp_path / 'it\'s "here" \\ 100% é' / "valkey", make_token=lambda: password) as server,
        connected(server.start().reveal()) as client,
    ):
        assert client.ping()
        assert client.config_get("requirepass") == {"requirepass": password}
        assert client.config_get("appendonly", "appendfsync") == {"appendonly": "yes", "appendfsync": "everysec"}
    assert any((server.folder / "data").rglob("*.aof"))


def test_port_taken_in_the_meantime_leads_to_another_one(tmp_path: Path) -> None:
    """When somebody else takes the port first, the broker comes up on the next one."""
    with closing(socket.create_server((LOOPBACK, 0))) as taken:
        ports = itertools.chain([taken.getsockname()[1]], iter(free_loopback_port, None))

        with (
            make_server(tmp_path / "valkey", free_port=lambda: next(ports)) as server,
            connected(server.start().reveal()) as client,
        ):
            assert client.ping()


def test_failed_start_quotes_the_log(tmp_path: Path) -> None:
    """A broker that cannot read its data is reported in its own words, with the path of its log."""
    server = make_server(tmp_path / "valkey")
    with server, connected(server.start().reveal()) as client:
        client.set("key", "value")
    manifest = next((server.folder / "data").rglob("*.manifest"))
    manifest.write_text("this is no manifest\n")

    with pytest.raises(EmbeddedServiceError, match=r"(?s)Valkey ended as it started.*anifest") as raised:
        server.start()

    assert str(server.folder / "valkey.log") in str(raised.value)
    assert processes_naming(str(tmp_path)) == []


def test_redis_of_the_machine_serves_as_well(tmp_path: Path) -> None:
    """Where the wheel is not installed, redis-server does the same; a folder goes with the product that wrote it."""
    machine = shutil.which("redis-server")
    if machine is None:
        pytest.skip("no redis-server is installed on this machine")
    folder = tmp_path / "valkey"
    for _ in range(2):
        with (
            make_server(folder, programs=[Path(machine)]) as server,
            connected(server.start().reveal()) as client,
        ):
            assert client.incr("starts") > 0
            assert (folder / "written-by").read_text().startswith("redis ")

    (folder / "written-by").write_text("valkey 9.1.2\n")
    with pytest.raises(EmbeddedServiceError, match=r"written by valkey 9\.1\.2, .*redis .*delete the folder"):
        make_server(folder, programs=[Path(machine)]).start()
