"""Which programs are chosen, and what is said when none fits."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.embedded.binaries import broker_version, find_broker, find_postgres, postgres_major
from worker.embedded.errors import EmbeddedServiceError


def program(path: Path, prints: str, *, status: int = 0) -> Path:
    """Write a program that answers `--version`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho '{prints}'\nexit {status}\n")
    path.chmod(0o755)
    return path


def postgres(folder: Path, version: str) -> Path:
    """Write programs that call themselves PostgreSQL of that version."""
    program(folder / "initdb", f"initdb (PostgreSQL) {version}")
    program(folder / "postgres", f"postgres (PostgreSQL) {version}")
    return folder


@pytest.mark.parametrize(
    ("printed", "major"),
    [
        ("postgres (PostgreSQL) 18.4\n", 18),
        ("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n", 15),
        ("postgres (PostgreSQL) 19beta1\n", 19),
        ("psql (PostgreSQL) 18.4\n", None),
        ("", None),
    ],
)
def test_major_version_is_read(printed: str, major: int | None) -> None:
    """The major version is the first number that the server prints about itself."""
    assert postgres_major(printed) == major


@pytest.mark.parametrize(
    ("printed", "version"),
    [
        ("Valkey server v=9.1.2 sha=00000000:1 malloc=libc bits=64 build=1\n", ("valkey", (9, 1, 2))),
        ("Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64\n", ("redis", (7, 0, 15))),
        ("Memcached 1.6.18\n", None),
        ("", None),
    ],
)
def test_broker_version_is_read(printed: str, version: tuple[str, tuple[int, int, int]] | None) -> None:
    """Product and version come from what the server prints about itself."""
    assert broker_version(printed) == version


@given(st.text())
def test_any_text_is_read_without_an_error(printed: str) -> None:
    """Whatever a program prints, it is a version or it is none."""
    assert postgres_major(printed) is None or printed.startswith("postgres (PostgreSQL) ")
    assert broker_version(printed) is None or " server v=" in printed


def test_first_installation_that_runs_is_taken(tmp_path: Path) -> None:
    """Folders without the programs, with programs that do not run, or too old ones are passed over."""
    empty, broken = tmp_path / "empty", tmp_path / "broken"
    empty.mkdir()
    program(broken / "initdb", "")
    program(broken / "postgres", "cannot load a library", status=127)
    not_a_program = tmp_path / "text"
    postgres(not_a_program, "18.0")
    (not_a_program / "postgres").chmod(0o644)
    old, good, newer = (postgres(tmp_path / name, name) for name in ("13.9", "14.1", "18.4"))

    found = find_postgres(made_by=None, folders=[empty, broken, not_a_program, old, good, newer])

    assert (found.folder, found.major) == (good, 14)
    assert (found.initdb, found.postgres) == (good / "initdb", good / "postgres")


def test_data_decides_the_version(tmp_path: Path) -> None:
    """A data folder gets the programs of the version that made it, also where they are not the preferred ones."""
    folders = [postgres(tmp_path / version, version) for version in ("18.4", "16.14", "15.18")]

    assert find_postgres(made_by=16, folders=folders).folder == tmp_path / "16.14"
    with pytest.raises(EmbeddedServiceError, match=r"made by PostgreSQL 17.*18 in .*16 in .*install PostgreSQL 17"):
        find_postgres(made_by=17, folders=folders)


def test_missing_postgres_is_one_clear_error(tmp_path: Path) -> None:
    """Where nothing is found the error says what to install, or which setting makes it unnecessary."""
    with pytest.raises(EmbeddedServiceError, match=r"evergrant\[embedded\].*EVERGRANT_DATABASE_URL"):
        find_postgres(made_by=None, folders=[])
    with pytest.raises(EmbeddedServiceError, match=r"found: 13 in "):
        find_postgres(made_by=None, folders=[postgres(tmp_path, "13.1")])


def test_missing_broker_is_one_clear_error(tmp_path: Path) -> None:
    """Where nothing is found the error says what to install, or which setting makes it unnecessary."""
    with pytest.raises(EmbeddedServiceError, match=r"evergrant\[embedded\].*EVERGRANT_BROKER_URL"):
        find_broker(made_by=None, paths=[])
    with pytest.raises(EmbeddedServiceError, match=r"found: one that does not run here at .*missing"):
        find_broker(made_by=None, paths=[tmp_path / "missing"])


@pytest.mark.parametrize(
    ("made_by", "chosen"),
    [
        (None, "valkey 9.1.2"),
        ("valkey 9.1.9", "valkey 9.1.2"),
        ("valkey 8.0.0", "valkey 9.1.2"),
        ("redis 7.0.1", "redis 7.0.15"),
        ("valkey 9.2.0", None),
        ("redis 8.0.0", None),
        ("something else", "valkey 9.1.2"),
    ],
)
def test_broker_goes_with_what_wrote_its_folder(tmp_path: Path, made_by: str | None, chosen: str | None) -> None:
    """A folder is read by the same product, no older than the one that wrote it except in its patch number."""
    paths = [
        program(tmp_path / "valkey-server", "Valkey server v=9.1.2 sha=0"),
        program(tmp_path / "redis-server", "Redis server v=7.0.15 sha=0"),
    ]

    if chosen is None:
        with pytest.raises(EmbeddedServiceError, match=f"written by {made_by}, which nothing here can read"):
            find_broker(made_by=made_by, paths=paths)
    else:
        assert str(find_broker(made_by=made_by, paths=paths)) == chosen
