"""Installs the pinned npm package of an authorization server, once per checkout."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

#: oidc-provider 9 calls functions of the runtime that older releases lack.
MINIMUM_NODE: Final = 20
#: Seconds. A cold install of forty small packages takes about 4; a hung registry is given up.
INSTALL_TIMEOUT_S: Final = 300
#: Seconds. `node --version` does no work; a minute means that the machine is stuck.
VERSION_TIMEOUT_S: Final = 60

_REPOSITORY: Final = Path(__file__).resolve().parents[2]
#: Matched by `.venv*/` in .gitignore. Not below node_modules, which `npm ci` empties while it runs.
_LOCAL_CACHE: Final = _REPOSITORY / ".venv-npm-cache"
_STAMP: Final = ".installed"
#: How much of npm's output an error message repeats, in characters, from the end.
_OUTPUT_TAIL: Final = 4000


class NodeMissingError(RuntimeError):
    """Node.js or npm is not there, or too old; the message says what to install."""


class InstallError(RuntimeError):
    """npm is there and could not install the package; the message holds what npm said."""


def require_node(*, search_path: str | None = None) -> Path:
    """Find the `node` to run.

    Args:
        search_path: folders to search, in the form of the PATH variable, which it replaces.

    Raises:
        NodeMissingError: when `node` or `npm` is missing, or `node` is older than `MINIMUM_NODE`.
    """
    found = {name: shutil.which(name, path=search_path) for name in ("node", "npm")}
    node = found["node"]
    if node is None or found["npm"] is None:
        missing = " and ".join(name for name, where in found.items() if where is None)
        message = (
            f"{missing} not found; install Node.js {MINIMUM_NODE} or newer with npm (from nodejs.org, or the packages"
            " nodejs and npm of a distribution that is new enough) and put both on PATH"
        )
        raise NodeMissingError(message)
    answer = subprocess.run([node, "--version"], capture_output=True, text=True, timeout=VERSION_TIMEOUT_S, check=False)
    version = re.match(r"v(\d+)\.", answer.stdout)
    if version is None or int(version[1]) < MINIMUM_NODE:
        message = f"{node} is {answer.stdout.strip() or 'of no known version'}; install Node.js {MINIMUM_NODE} or newer"
        raise NodeMissingError(message)
    return Path(node)


def npm_cache(environ: Mapping[str, str]) -> Path | None:
    """Choose npm's cache folder: None leaves npm its own, below the home folder, where that can be written.

    Args:
        environ: the environment that npm will get; `npm_config_cache` in it is somebody's choice and stands.
    """
    if "npm_config_cache" in environ:
        return None
    home = Path(environ.get("HOME") or os.devnull)
    own = home / ".npm"
    # A `.npm` left behind by root in an ordinary user's home is refused by npm itself.
    if os.access(own if own.exists() else home, os.W_OK | os.X_OK) and home.is_dir():
        return None
    return _LOCAL_CACHE


def install_package(folder: Path, *, environ: Mapping[str, str]) -> Path:
    """Install what `folder`'s package.json and lock ask for, unless that has been done already.

    Processes that ask at the same time wait for the first. Install scripts of packages are not run.

    Args:
        folder: holds package.json, and package-lock.json where there is one.
        environ: npm's environment: PATH, HOME, and whatever says which registry to use.

    Returns:
        The `node_modules` folder.

    Raises:
        NodeMissingError: npm is not on PATH.
        InstallError: npm failed or took longer than `INSTALL_TIMEOUT_S`.
    """
    modules = folder / "node_modules"
    with _only_one(folder):
        wanted = _fingerprint(folder)
        stamp = modules / _STAMP
        if stamp.is_file() and stamp.read_text(encoding="ascii") == wanted:
            return modules
        _run_npm(folder, environ=environ)
        stamp.write_text(wanted, encoding="ascii")
    return modules


@contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    """Hold an exclusive lock on package.json: a file that is there anyway, and that a reader may lock, too."""
    with (folder / "package.json").open("rb") as held:
        # No deadline of its own: whoever holds it is bounded by INSTALL_TIMEOUT_S, and death releases it.
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


def _fingerprint(folder: Path) -> str:
    """Digest what decides the outcome of an install, so that a new pin is installed over an old one."""
    digest = hashlib.sha256()
    for name in ("package.json", "package-lock.json"):
        path = folder / name
        digest.update(path.read_bytes() if path.is_file() else b"")
    return digest.hexdigest()


def _run_npm(folder: Path, *, environ: Mapping[str, str]) -> None:
    npm = shutil.which("npm", path=environ.get("PATH"))
    if npm is None:
        message = f"npm not found; install Node.js {MINIMUM_NODE} or newer with npm and put both on PATH"
        raise NodeMissingError(message)
    verb = "ci" if (folder / "package-lock.json").is_file() else "install"
    environment = {**environ, "npm_config_update_notifier": "false"}
    cache = npm_cache(environ)
    if cache is not None:
        environment["npm_config_cache"] = str(cache)
    command = [npm, verb, "--ignore-scripts", "--no-audit", "--no-fund"]
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=INSTALL_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as late:
        message = f"npm {verb} in {folder} took longer than {INSTALL_TIMEOUT_S} s; check that npm reaches its registry"
        raise InstallError(message) from late
    if done.returncode != 0:
        message = (
            f"npm {verb} in {folder} ended with exit code {done.returncode}; check that npm reaches its registry and"
            f" that the folder can be written. npm said:\n{done.stdout[-_OUTPUT_TAIL:]}"
        )
        raise InstallError(message)
