"""compose.yaml: valid by the Compose specification, hardened, and whatever it refers to is there."""

from __future__ import annotations

import re
import subprocess
import sys
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
OPERATORS_OWN: Final = {"./evergrant.toml", "./client-secrets"}


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
        assert {one["source"] for one in service.get("configs", [])} <= set(FILE["configs"])
        for volume in service.get("volumes", []):
            source = re.sub(r"\$\{\w+:-(.*?)\}", r"\1", volume).partition(":")[0]
            if source.startswith("."):
                assert source in OPERATORS_OWN or (DEPLOY / source).exists(), source
            else:
                assert source in FILE["volumes"]


def test_our_settings_are_settings() -> None:
    """What our services get from the environment is taken by the loader, secrets as files."""
    environment = FILE["x-evergrant"]["environment"]
    given = {name: re.sub(r"\$\{\w+:-(.*)\}", r"\1", value) for name, value in environment.items()}
    plain = {name: value for name, value in given.items() if not name.endswith("_FILE")}
    assert load_settings(plain).smtp_url is not None
    assert {name for name in given if name.endswith("_FILE")} == {"EVERGRANT_DATABASE_URL_FILE", "EVERGRANT_KEYS_FILE"}


def test_the_files_within_are_yaml() -> None:
    """Prometheus asks for our services' ports, and Grafana asks Prometheus."""
    held = {name: yaml.safe_load(one["content"]) for name, one in FILE["configs"].items()}
    jobs = {job["job_name"]: job for job in held["prometheus"]["scrape_configs"]}
    assert jobs["evergrant-web"]["static_configs"][0]["targets"] == ["web:8080"]
    assert jobs["evergrant-worker"]["dns_sd_configs"][0]["names"] == ["worker"]
    [datasources] = (DEPLOY / "grafana" / "provisioning" / "datasources").iterdir()
    assert yaml.safe_load(datasources.read_text())["datasources"][0]["url"] == "http://prometheus:9090"
