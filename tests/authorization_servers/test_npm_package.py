"""Installing from npm: once, from a pinned lock without addresses, as any user, and with a sentence where it cannot."""

from __future__ import annotations

import json
import os
import shutil
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import pytest

from tests.authorization_servers.fixtures import is_node_required
from tests.authorization_servers.npm_package import (
    InstallError,
    NodeMissingError,
    install_package,
    npm_cache,
    require_node,
)

_PACKAGE: Final = Path(__file__).with_name("oidc_provider")
_PINNED: Final = pytest.mark.parametrize(
    ("folder", "package_name"),
    [("oidc_provider", "oidc-provider"), ("node_oauth2_server", "@node-oauth/oauth2-server")],
)


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """Copy package.json and the lock to a folder of the test's own."""
    for name in ("package.json", "package-lock.json", ".npmrc"):
        shutil.copy(_PACKAGE / name, tmp_path / name)
    return tmp_path


def _read(folder: str, name: str) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((_PACKAGE.with_name(folder) / name).read_text(encoding="utf-8"))
    return read


def _program(folder: Path, name: str, script: str) -> Path:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@_PINNED
def test_the_lock_pins_by_hash_and_names_no_download_address(folder: str, package_name: str) -> None:
    """Each package has an integrity hash and no `resolved`, so that any registry serves the same bytes."""
    lock = _read(folder, "package-lock.json")
    packages = {path: entry for path, entry in lock["packages"].items() if path}
    assert f"node_modules/{package_name}" in packages
    assert [path for path, entry in packages.items() if not entry.get("integrity", "").startswith("sha512-")] == []
    assert [path for path, entry in packages.items() if "resolved" in entry] == []


@_PINNED
def test_the_version_is_exact(folder: str, package_name: str) -> None:
    """package.json names one version, which the lock holds, too."""
    wanted = _read(folder, "package.json")["dependencies"][package_name]
    assert _read(folder, "package-lock.json")["packages"][f"node_modules/{package_name}"]["version"] == wanted


@pytest.mark.node
@pytest.mark.slow
@pytest.mark.usefixtures("oidc_provider_installed")
def test_many_at_once_install_once(package: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Whoever comes second waits for the first and finds the work done, also without a home folder."""
    counted = tmp_path_factory.mktemp("counted")
    real = shutil.which("npm")
    _program(counted, "npm", f'echo run >> "{counted}/runs"\nexec "{real}" "$@"')
    environ = {**os.environ, "PATH": f"{counted}:{os.environ['PATH']}"}
    with ThreadPoolExecutor(max_workers=3) as threads:
        folders = list(threads.map(lambda _: install_package(package, environ=environ), range(3)))

    assert folders == [package / "node_modules"] * 3
    assert (package / "node_modules" / "oidc-provider" / "package.json").is_file()
    assert (counted / "runs").read_text(encoding="utf-8") == "run\n"


def test_a_failed_install_is_told_and_tried_again(package: Path, tmp_path: Path) -> None:
    """What npm said is in the error, and a later call runs npm again."""
    programs = tmp_path / "programs"
    programs.mkdir()
    environ = {"PATH": f"{programs}:/usr/bin:/bin", "HOME": str(tmp_path)}
    _program(programs, "npm", "echo the registry is away >&2; exit 7")
    with pytest.raises(InstallError, match=r"exit code 7(.|\n)*the registry is away"):
        install_package(package, environ=environ)

    _program(programs, "npm", "mkdir node_modules")
    assert install_package(package, environ=environ).is_dir()


def test_a_new_pin_is_installed_over_an_old_one(package: Path, tmp_path: Path) -> None:
    """A changed lock is another install; an unchanged one is none."""
    programs = tmp_path / "programs"
    programs.mkdir()
    environ = {"PATH": f"{programs}:/usr/bin:/bin", "HOME": str(tmp_path)}
    _program(programs, "npm", 'mkdir -p node_modules; echo "$1" >> runs')
    for _ in range(2):
        install_package(package, environ=environ)
    (package / "package-lock.json").unlink()
    install_package(package, environ=environ)
    assert (package / "runs").read_text(encoding="utf-8") == "ci\ninstall\n"


def test_the_cache_is_npm_s_own_where_home_can_be_written(tmp_path: Path) -> None:
    """A usable home folder, or a cache folder that somebody chose, is left alone."""
    assert npm_cache({"HOME": str(tmp_path)}) is None
    assert npm_cache({"npm_config_cache": "/chosen"}) is None


@pytest.mark.parametrize("home", [{}, {"HOME": ""}, {"HOME": "/nonexistent"}, {"HOME": os.devnull}])
def test_the_cache_is_in_the_repository_where_home_is_of_no_use(home: dict[str, str]) -> None:
    """Service accounts have a home folder that is not there; the folder used instead is one that git ignores."""
    cache = npm_cache(home)
    assert cache is not None
    assert cache.name.startswith(".venv")
    assert (cache.parent / "pyproject.toml").is_file()


def test_a_missing_node_is_a_sentence(tmp_path: Path) -> None:
    """Without node and npm the error names both and says what to install."""
    with pytest.raises(NodeMissingError, match=r"node and npm not found; install Node\.js 20 or newer"):
        require_node(search_path=str(tmp_path))


def test_an_old_node_is_a_sentence(tmp_path: Path) -> None:
    """A Node.js that is too old for oidc-provider is refused by its version."""
    _program(tmp_path, "npm", "exit 0")
    _program(tmp_path, "node", "echo v18.20.4")
    with pytest.raises(NodeMissingError, match=r"node is v18\.20\.4; install Node\.js 20 or newer"):
        require_node(search_path=str(tmp_path))


@pytest.mark.parametrize(
    ("environ", "is_required"),
    [
        ({}, False),
        ({"CI": "true"}, True),
        ({"CI": "false"}, False),
        ({"EVERGRANT_TEST_REQUIRE_NODE": "1"}, True),
        ({"EVERGRANT_TEST_REQUIRE_NODE": "0"}, False),
    ],
)
def test_where_a_missing_node_fails_instead_of_skipping(environ: dict[str, str], is_required: bool) -> None:
    """A gate must not pass because its tests were skipped; a laptop without Node.js may skip."""
    assert is_node_required(environ) is is_required
