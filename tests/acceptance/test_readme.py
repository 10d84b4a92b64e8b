"""Everything README shows is true today: each command is run here, or it is said where it is run, or why it is not."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import typer
from prometheus_client import CollectorRegistry

from tests.support.command_line import ROOT, Ended
from tests.support.installation import Installation, installed, lines
from tests.support.readme_blocks import blocks, commands
from worker.commands.every import every
from worker.configuration import load_configuration
from worker.metrics import Metrics
from worker.settings import Settings
from worker.storage.sealing import generate_key

README: Final = ROOT / "README.md"
DEPLOY: Final = ROOT / "deploy" / "README.md"
SCALING: Final = ROOT / "deploy" / "scaling.md"
#: Run by this file, in this order: what the command is, and how it ends.
RUN: Final = {
    "evergrant grants add acme-main customer-42 --refresh-token-stdin < refresh-token.txt": 0,
    "evergrant token acme-main customer-42 --min-ttl 5m": 0,
    "evergrant grants import grants.jsonl --dry-run": 0,
    "evergrant grants import grants.jsonl --errors bad-lines.txt": 0,
    "evergrant keys add 2026-12": 0,
    "evergrant keys promote 2026-12": 0,
    "evergrant keys rotate": 0,
    "evergrant keys retire 2026-11": 0,
    "evergrant doctor": 1,  # the example shows an error, and so it is here: there is no broker
    "evergrant db upgrade": 0,
    "evergrant plan --grants 1000000 --access-lifetime 3600 --latency 200": 0,
}
#: Not run by this file: where it is, or why nowhere.
ELSEWHERE: Final = {
    "make run": "the gate begins with it: tests/acceptance/first_minutes.py",
    "make test": "the gate; a test that runs all tests would not end",
    "make check": "the gate",
    "make audit": "the gate; tests/supply_chain",
    "make sbom": "likewise",
    "make fuzz": "tests/contract/test_fuzzed_answers.py is what it runs, for a shorter time",
    "make drill": "tests/faults/test_drill.py runs the campaign with fewer faults",
    "make bench": "forty minutes; tests/bench has tests of its parts",
    ".ci/run": "the gate itself",
    "export EVERGRANT_SMTP_URL=smtp://tokens:secret%40word@mail.example:587 "
    'EVERGRANT_MAIL_FROM="Tokens <tokens@example.com>"': "test_the_variables_are_settings",
    "export EVERGRANT_DATABASE_URL=postgresql://… EVERGRANT_BROKER_URL=redis://… "
    "EVERGRANT_KEYS_FILE=/run/secrets/keys": "every test sets these, to what it started itself",
    "evergrant worker": "tests/deploy/test_image.py",
    "evergrant beat": "tests/deploy/test_image.py",
    "evergrant web": "tests/deploy/test_image.py",
    "evergrant providers check homegrown": "test_a_provider_of_ones_own_is_checked_as_shown",
    "evergrant providers check": "test_a_slip_is_told_as_shown",
    """echo '{"ok": true, "result": {"tokens": {"access_token": "a", "refresh_token": "r"}}}'"""
    " | evergrant providers check homegrown --answer -": "test_an_answer_is_read_as_shown",
    """echo '{"ok": false, "error_number": 17}' | evergrant providers check homegrown --answer -""": "likewise",
    "docker build -f deploy/Dockerfile -t evergrant .": "no container engine: tests/deploy/test_image.py",
    "cd deploy && mkdir -p secrets client-secrets && cp kubernetes/evergrant.toml evergrant.toml": (
        "the operator's files; tests/deploy/test_compose.py compares their paths"
    ),
    "(umask 077; password=$(openssl rand -hex 24)": "needs the image",
    "sudo chown -R 10001:10001 secrets client-secrets && sudo chmod -R go= secrets client-secrets": "needs root",
    "docker compose up -d": "no container engine: tests/deploy/test_compose.py, test_image.py",
    "kubectl create namespace evergrant": "no cluster: tests/deploy/test_kubernetes.py",
    "kubectl -n evergrant create secret generic evergrant-secrets --from-file=keys --from-file=database_url "
    "--from-file=broker_url": "no cluster; the names are compared in tests/deploy/test_kubernetes.py",
    "kubectl -n evergrant create secret generic evergrant-clients --from-file=askara_main": "likewise",
    "kubectl apply -k deploy/kubernetes": "likewise",
    "useradd --system --home-dir /var/lib/evergrant --shell /usr/sbin/nologin evergrant": "changes the machine",
    "python3 -m venv /opt/evergrant-0.1.0 && ln -sfn /opt/evergrant-0.1.0 /opt/evergrant": "likewise",
    "/opt/evergrant/bin/pip install --require-hashes -r requirements-base.lock": (
        "changes the machine; the image's build does the same in tests/deploy/test_image.py"
    ),
    "/opt/evergrant/bin/pip install --no-deps .": "likewise",
    "install -d -m 0755 /etc/evergrant && install -m 0600 keys database_url environment /etc/evergrant/": (
        "changes the machine; tests/deploy/test_image.py compares it with the units"
    ),
    "install -m 0644 evergrant.toml /etc/evergrant/": "likewise",
    "install -d -m 0750 -g evergrant /etc/evergrant/clients && install -m 0640 -g evergrant askara_main "
    "/etc/evergrant/clients/": "changes the machine",
    "cp deploy/systemd/* /etc/systemd/system/ && systemctl daemon-reload && systemctl enable --now evergrant.target": (
        "changes the machine; tests/deploy/test_image.py has systemd verify the units"
    ),
    "evergrant() { systemd-run --quiet --wait --pipe --collect --unit=evergrant-command --uid=evergrant "
    "--gid=evergrant \\": "no running systemd; tests/deploy/test_image.py compares it with the units",
    "python3 -m venv /opt/evergrant-0.2.0 && /opt/evergrant-0.2.0/bin/pip install --require-hashes "
    "-r requirements-base.lock": "changes the machine",
    "/opt/evergrant-0.2.0/bin/pip install --no-deps .": "likewise",
    "ln -sfn /opt/evergrant-0.2.0 /opt/evergrant && systemctl restart evergrant-migrate": "likewise",
    "systemctl restart evergrant-web && systemctl restart evergrant-beat": "likewise",
    "for n in 1 2; do systemctl restart evergrant-worker@$n; until /opt/evergrant/bin/evergrant health --port 910$n "
    "--ready; do sleep 1; done; done": "likewise",
}


@pytest.fixture(scope="module")
def installation(
    tmp_path_factory: pytest.TempPathFactory, database_server: str, migrated_template: str
) -> Iterator[Installation]:
    """Set up one client, a database and a key ring."""
    with installed(tmp_path_factory.mktemp("readme"), database_server, migrated_template) as ready:
        yield ready


def _shown() -> dict[str, str]:
    return {
        one.line.replace(".venv/bin/evergrant", "evergrant"): one.output
        for path in (README, DEPLOY, SCALING)
        for one in commands(path)
    }


def test_every_command_is_run_or_it_is_said_why_not() -> None:
    """A command that README gains or changes must be looked after, and what it loses must leave the lists."""
    assert set(_shown()) == {*RUN, *ELSEWHERE}
    assert not set(RUN) & set(ELSEWHERE)


@pytest.mark.slow
def test_the_commands_do_what_is_said(installation: Installation, tmp_path: Path) -> None:
    """One after the other, on a real database and before a real authorization server, each ends as it should."""
    keys = tmp_path / "keys"
    keys.write_text(generate_key("2026-11", bytes).reveal())
    keys.chmod(0o644)
    ours = installation.on_a_database_of_its_own().having(EVERGRANT_KEYS=None, EVERGRANT_KEYS_FILE=str(keys))
    own, imported = ours.seed(), ours.seed()
    (tmp_path / "refresh-token.txt").write_text(lines(own))
    example = json.loads(next(block for block in blocks(README, "json") if '"refresh_token"' in block))
    line = {
        **example,
        "client": ours.client,
        "subject": "customer-43",
        "refresh_token": imported.refresh_token.reveal(),
        "access_token": imported.access_token.reveal(),
    }
    (tmp_path / "grants.jsonl").write_text(json.dumps(line))

    for command, code in RUN.items():
        ended = _run(ours, command, tmp_path)
        assert ended.code == code, (command, ended)
    assert "everybody on this machine can read it (0644)" in ended_of(ours, "doctor").out


def ended_of(ours: Installation, *arguments: str) -> Ended:
    """Return how a command ends."""
    return ours.command_line.run(*arguments)


def _run(ours: Installation, command: str, folder: Path) -> Ended:
    words, _, stdin = command.partition(" < ")
    arguments = [
        str(folder / word) if word.endswith((".jsonl", "bad-lines.txt")) else word.replace("acme-main", ours.client)
        for word in shlex.split(words)[1:]
    ]
    return ours.command_line.run(*arguments, stdin=(folder / stdin).read_text() if stdin else "")


def test_the_variables_are_settings(installation: Installation) -> None:
    """The mail server that README shows is taken as it stands."""
    [line] = [one for one in ELSEWHERE if one.startswith("export EVERGRANT_SMTP_URL")]
    changes = dict(word.split("=", 1) for word in shlex.split(line)[1:])
    assert installation.run_quickly("grants", "list", changes=dict(changes)).code == 0


def _homegrown() -> str:
    return next(block for block in blocks(README, "toml") if "[providers.homegrown]" in block)


def test_a_provider_of_ones_own_is_checked_as_shown(installation: Installation, tmp_path: Path) -> None:
    """`providers check homegrown` prints what README shows, letter by letter."""
    (tmp_path / "evergrant.toml").write_text(_homegrown())
    changes = {"EVERGRANT_CONFIG": str(tmp_path / "evergrant.toml"), "HOMEGROWN_SECRET": "s"}
    said = installation.run_quickly("providers", "check", "homegrown", changes=changes)
    assert (said.code, said.out) == (0, _shown()["evergrant providers check homegrown"])


def test_an_answer_is_read_as_shown(installation: Installation, tmp_path: Path) -> None:
    """Both answers of README mean what it shows below what the client sends."""
    (tmp_path / "evergrant.toml").write_text(_homegrown())
    changes = {"EVERGRANT_CONFIG": str(tmp_path / "evergrant.toml"), "HOMEGROWN_SECRET": "s"}
    piped = {line: shown for line, shown in _shown().items() if line.endswith("--answer -")}
    assert len(piped) == 2
    for line, shown in piped.items():
        answer, _, command = line.removeprefix("echo ").partition(" | evergrant ")
        said = installation.run_quickly(*shlex.split(command), changes=changes, stdin=shlex.split(answer)[0])
        sent, _, meant = shown.partition("…\n")
        assert (said.code, sent) == (0, "")
        assert said.out == _shown()["evergrant providers check homegrown"] + meant


def test_a_slip_is_told_as_shown(installation: Installation, tmp_path: Path) -> None:
    """A misspelt key is told as README shows it."""
    path = tmp_path / "evergrant.toml"
    path.write_text(_homegrown().replace("\nomit = ", "\nomitt = "))
    said = installation.run_quickly("providers", "check", changes={"EVERGRANT_CONFIG": str(path)})
    assert said.code == 2
    assert said.err.replace(str(path), "config/evergrant.toml") == _shown()["evergrant providers check"]


def test_every_toml_is_a_configuration(tmp_path: Path) -> None:
    """Each piece of configuration is taken as it stands, beside the client that it speaks of."""
    acme = next(block for block in blocks(README, "toml") if "[clients.acme-main]" in block)
    for number, block in enumerate(blocks(README, "toml")):
        path = tmp_path / f"{number}.toml"
        tables = tomllib.loads(block)
        names_acme = "acme" in tables.get("providers", {}) or "acme-main" in tables.get("clients", {})
        path.write_text(block if names_acme else f"{acme}\n{block}")
        environment = dict.fromkeys(re.findall(r"env:(\w+)", path.read_text()), "whsec_" + "QUFB" * 11)
        load_configuration(Settings(config=path, public_url="https://tokens.example"), environment)


def _paths(command: Any, above: str = "") -> Iterator[str]:
    below = getattr(command, "commands", None)
    if below is None:
        yield above
    else:
        for name, one in below.items():
            yield from _paths(one, f"{above} {name}".strip())


def test_the_table_of_commands_has_each_of_them() -> None:
    """No command that is not there, and none left out: `grants add/list` stands for two."""
    table = README.read_text(encoding="utf-8").partition("| command | does |")[2].partition("\n\n")[0]
    shown = set()
    for cell in (row.split("|")[1] for row in table.splitlines() if row.startswith("| `")):
        for group, several in re.findall(r"`([a-z-]+)(?: ([a-z/-]+))?[^`]*`", cell):
            shown |= {f"{group} {one}" for one in several.split("/")} if several else {group}
    assert shown == set(_paths(typer.main.get_command(every)))


def test_the_list_of_metrics_has_each_of_them() -> None:
    """As the code names them, each with its labels; those of webhooks are one entry."""
    text = README.read_text(encoding="utf-8").partition("**Metrics.**")[2].partition("\n\n")[0]
    registry = CollectorRegistry()
    Metrics(registry, lambda: 0.0)
    counted = {f"{one.name}{'_total' if one.type == 'counter' else ''}" for one in registry.collect()}
    families = (ROOT / "worker" / "web" / "gauge_families.py").read_text(encoding="utf-8")
    names = counted | set(re.findall(r'"(evergrant_\w+)"', families))
    shown = set(re.findall(r"`(evergrant_\w+)", text))
    assert {name for name in names if not name.startswith("evergrant_webhook_")} == shown - {"evergrant_webhook_"}


def test_every_json_and_python_can_be_read() -> None:
    """The examples of JSON are JSON, and the Python is Python; tests/integration/test_client_auth.py runs its like."""
    for block in blocks(README, "json"):
        json.loads(block)
    for block in blocks(README, "python"):
        compile(block, "README.md", "exec")
