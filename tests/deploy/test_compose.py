"""compose.yaml: valid by the Compose specification, hardened, and whatever it refers to is there."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.support.dockerfile import ROOT
from worker.settings import load_settings

DEPLOY: Final = ROOT / "deploy"
COMPOSE: Final = DEPLOY / "compose.yaml"
TEXT: Final = COMPOSE.read_text()
FILE: Final[dict[str, Any]] = yaml.safe_load(TEXT)
#: What only the operator can bring.
OPERATORS_OWN: Final = {"./evergrant.toml", "./client-secrets", "./secrets/keys", "./secrets/database_url"}


def test_it_is_valid_by_the_specification() -> None:
    """The Compose specification's own schema takes it."""
    checker = Path(sys.executable).with_name("check-jsonschema")
    done = subprocess.run(
        [checker, "--builtin-schema", "vendor.compose-spec", COMPOSE], capture_output=True, check=False, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", sorted(FILE["services"]))
def test_no_service_has_more_than_it_needs(name: str) -> None:
    """Ports are open to this machine alone, images have a version, and ours can write to their own folder only."""
    service = FILE["services"][name]
    assert all(str(port).startswith("127.0.0.1:") for port in service.get("ports", []))
    assert ":" in service["image"]
    assert service["networks"]
    if service.get("build"):
        assert (service["read_only"], service["cap_drop"], service["user"]) == (True, ["ALL"], "10001:10001")
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert [volume for volume in service["volumes"] if not volume.endswith(":ro")] == ["escrow:/var/lib/evergrant"]


def test_what_it_refers_to_is_there() -> None:
    """Networks, volumes, secrets, configs and services that are named are defined, and mounted files exist."""
    for service in FILE["services"].values():
        assert set(service.get("depends_on", {})) <= set(FILE["services"])
        assert set(service["networks"]) <= set(FILE["networks"])
        assert set(service.get("secrets", [])) <= set(FILE["secrets"])
        assert set(service.get("configs", [])) <= set(FILE.get("configs", {}))
        for volume in service.get("volumes", []):
            source = _parts(volume)[0]
            if source.startswith("."):
                assert source in OPERATORS_OWN or (DEPLOY / source).exists(), source
            else:
                assert source in FILE["volumes"]


def _parts(volume: str) -> list[str]:
    return re.sub(r"\$\{\w+:-(.*?)\}", r"\1", volume).split(":")


def test_what_a_read_only_service_gets_is_mounted() -> None:
    """Compose copies what is no file into the container, and refuses to where its file system is read-only."""
    read_only = {name: one for name, one in FILE["services"].items() if one.get("read_only")}
    assert {"migrate", "worker", "beat", "web", "prometheus"} <= set(read_only)
    for name, service in read_only.items():
        for kind in ("secrets", "configs"):
            for one in service.get(kind, []):
                held = FILE[kind][one if isinstance(one, str) else one["source"]]
                assert set(held) == {"file"}, (name, one)
                assert held["file"] in OPERATORS_OWN


def test_clients_secrets_are_where_the_example_names_them() -> None:
    """The README begins with Kubernetes' `evergrant.toml`, so its `file:` references must hold here too."""
    clients = tomllib.loads((DEPLOY / "kubernetes" / "evergrant.toml").read_text())["clients"]
    named = {str(Path(one["client_secret"].removeprefix("file:")).parent) for one in clients.values()}
    assert named == {_parts(one)[1] for one in FILE["x-evergrant"]["volumes"] if "./client-secrets" in one}


def test_our_settings_are_settings() -> None:
    """What our services get from the environment is taken by the loader, secrets as files."""
    environment = FILE["x-evergrant"]["environment"]
    given = {name: re.sub(r"\$\{\w+:-(.*)\}", r"\1", value) for name, value in environment.items()}
    plain = {name: value for name, value in given.items() if not name.endswith("_FILE")}
    assert load_settings(plain).smtp_url is not None
    assert {name for name in given if name.endswith("_FILE")} == {"EVERGRANT_DATABASE_URL_FILE", "EVERGRANT_KEYS_FILE"}


def test_what_watches_finds_what_it_watches() -> None:
    """Prometheus asks for our services' ports, and Grafana asks Prometheus, exemplars included."""
    service = FILE["services"]["prometheus"]
    [mounted] = [_parts(one) for one in service["volumes"] if one.endswith(":ro")]
    [named] = [word.partition("=")[2] for word in service["command"] if word.startswith("--config.file=")]
    config = yaml.safe_load((DEPLOY / mounted[0] / Path(named).relative_to(mounted[1])).read_text())
    assert all((DEPLOY / mounted[0] / name).exists() for name in config["rule_files"])
    assert "--enable-feature=exemplar-storage" in service["command"]
    jobs = {job["job_name"]: job for job in config["scrape_configs"]}
    assert jobs["evergrant-web"]["static_configs"][0]["targets"] == ["web:9100"]
    assert jobs["evergrant-worker"]["dns_sd_configs"][0]["names"] == ["worker"]
    [datasources] = (DEPLOY / "grafana" / "provisioning" / "datasources").iterdir()
    assert yaml.safe_load(datasources.read_text())["datasources"][0]["url"] == "http://prometheus:9090"
