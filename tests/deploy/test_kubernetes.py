"""The Kubernetes manifests: valid by the API's schemas, hardened, and they refer to what there is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import kubernetes_validate
import pytest
import yaml

from tests.support.dockerfile import ROOT
from worker.settings import load_settings

FOLDER: Final = ROOT / "deploy" / "kubernetes"
KUSTOMIZATION: Final[dict[str, Any]] = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
#: Kinds that no schema of the API itself has.
CUSTOM: Final = {"ServiceMonitor"}


def documents(path: Path) -> list[dict[str, Any]]:
    """Return a file's documents."""
    return [one for one in yaml.safe_load_all(path.read_text()) if one is not None]


def resources() -> list[dict[str, Any]]:
    """Return every resource of the kustomization."""
    return [one for name in KUSTOMIZATION["resources"] for one in documents(FOLDER / name)]


def of_kind(*kinds: str) -> list[dict[str, Any]]:
    """Return the resources of some kinds."""
    return [one for one in resources() if one["kind"] in kinds]


def pods() -> Iterator[tuple[str, dict[str, Any]]]:
    """Return each pod's specification with its workload's name."""
    for one in of_kind("Deployment", "StatefulSet", "Job"):
        yield one["metadata"]["name"], one["spec"]["template"]["spec"]


def test_every_file_belongs_to_the_kustomization() -> None:
    """No manifest lies about unused; the example of the secrets is meant to."""
    there = {path.name for path in FOLDER.glob("*.yaml")} - {"kustomization.yaml", "secret.example.yaml"}
    assert there == set(KUSTOMIZATION["resources"])
    for generated in KUSTOMIZATION["configMapGenerator"]:
        assert all((FOLDER / name).exists() for name in generated.get("files", []))


@pytest.mark.parametrize("version", ["1.30", kubernetes_validate.latest_version()])
def test_the_api_takes_every_resource(version: str) -> None:
    """Each is valid by the schema of the oldest and the newest Kubernetes that is meant, and names nothing unknown."""
    checked = [*resources(), *documents(FOLDER / "secret.example.yaml")]
    for one in checked:
        if one["kind"] not in CUSTOM:
            kubernetes_validate.validate(one, version, strict=True)


@pytest.mark.parametrize(("name", "pod"), list(pods()), ids=[name for name, _ in pods()])
def test_a_pod_can_do_nothing_but_its_work(name: str, pod: dict[str, Any]) -> None:
    """No root, no capability, nothing to write to but its volumes, no token of the cluster, no service links."""
    assert pod["enableServiceLinks"] is False, name
    assert pod["automountServiceAccountToken"] is False
    assert (pod["securityContext"]["runAsNonRoot"], pod["securityContext"]["runAsUser"]) == (True, 10001)
    [container] = pod["containers"]
    held = container["securityContext"]
    assert (held["allowPrivilegeEscalation"], held["readOnlyRootFilesystem"]) == (False, True)
    assert held["capabilities"] == {"drop": ["ALL"]}
    assert container["resources"]["limits"]["memory"]
    if name != "evergrant-migrate":
        assert {"startupProbe", "livenessProbe", "readinessProbe"} <= set(container)


def test_secrets_are_referred_to() -> None:
    """No pod has a secret in its environment; they come as files from Secrets that are named and not held."""
    names = {one["metadata"]["name"] for one in documents(FOLDER / "secret.example.yaml")}
    for name, pod in pods():
        [container] = pod["containers"]
        assert "env" not in container, name
        used = {one["secret"]["secretName"] for one in pod["volumes"] if "secret" in one}
        assert used == names
    assert not of_kind("Secret")
    [environment] = [one for one in KUSTOMIZATION["configMapGenerator"] if "literals" in one]
    given = dict(line.split("=", 1) for line in environment["literals"])
    load_settings({name: value for name, value in given.items() if not name.endswith("_FILE")})
    files = [value for name, value in given.items() if name.endswith("_FILE")]
    held = {key for one in documents(FOLDER / "secret.example.yaml") for key in one["stringData"]}
    assert {Path(value).name for value in files} <= held


def test_what_is_selected_is_there() -> None:
    """Services, budgets, policies, monitors and the autoscaler each mean a workload that there is."""
    workloads = {
        one["metadata"]["name"]: one["spec"]["template"]["metadata"]["labels"]
        for one in of_kind("Deployment", "StatefulSet", "Job")
    }
    labels = [label["app.kubernetes.io/name"] for label in workloads.values()]
    for one in of_kind("Service", "PodDisruptionBudget", "NetworkPolicy", "ServiceMonitor"):
        spec = one["spec"]
        selector = spec["podSelector"] if one["kind"] == "NetworkPolicy" else spec["selector"]
        assert selector.get("matchLabels", selector)["app.kubernetes.io/name"] in labels, one["metadata"]
    for one in of_kind("HorizontalPodAutoscaler"):
        target = one["spec"]["scaleTargetRef"]
        assert (target["kind"], target["name"]) in [(w["kind"], w["metadata"]["name"]) for w in resources()]
    assert {one["metadata"]["name"] for one in of_kind("NetworkPolicy")} == set(workloads)
    ports = {port["name"] for one in of_kind("Service") for port in one["spec"]["ports"]}
    assert {end["port"] for one in of_kind("ServiceMonitor") for end in one["spec"]["endpoints"]} <= ports
