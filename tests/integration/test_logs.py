"""Log lines of real processes: JSON, static event names, and ids that tie a scan to each of its settles."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from tests.conftest import ContainerMaker, WebMaker
from tests.support.deployment import Deployment, deployed
from tests.support.sandbox_clients import SECRET, adopt, register
from tests.support.waiting import until
from worker.domain.secret import Secret
from worker.sandbox.server import RunningSandbox

pytestmark = pytest.mark.anyio

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def lines(deployment: Deployment, name: str) -> list[dict[str, Any]]:
    """Return what a process has logged; every line of it is JSON."""
    return [json.loads(line) for line in deployment.log(name).splitlines()]


async def test_one_line_for_each_outcome_with_the_ids_of_its_way(
    *,
    sandbox: RunningSandbox,
    make_container: ContainerMaker,
    database_url: str,
    broker_url: str,
    keys: Secret,
    tmp_path: Path,
) -> None:
    """Each rotation is one line that names its scan, drain, lease and grant; the scan has a line of its own."""
    client = register(sandbox)
    with deployed(
        tmp_path,
        database_url=database_url,
        broker_url=broker_url,
        keys=keys,
        configuration=client.toml,
        CLIENT_SECRET=SECRET,
        EVERGRANT_LOG_FORMAT="json",
        EVERGRANT_LOG_LEVEL="debug",
    ) as deployment:
        async with make_container(client.toml, **client.environment) as container:
            adopted = await adopt(container, sandbox, client, 5)

            def rotated() -> list[dict[str, Any]]:
                return [line for line in lines(deployment, "worker-1") if line["event"] == "grant_rotated"]

            await until(lambda: len(rotated()) >= 5, 60.0, "five rotations are logged")
        every = lines(deployment, "worker-1")
        outcomes = rotated()

    assert sorted(line["grant"] for line in outcomes) == sorted(str(grant_id) for grant_id, _ in adopted)
    scans = {line["scan"] for line in every if line["event"] == "scanned"}
    for line in outcomes:
        assert line["scan"] in scans
        assert _UUID.fullmatch(line["drain"])
        assert _UUID.fullmatch(line["lease"])
        assert (line["client"], line["generation"], line["level"]) == (client.name, 0, "info")
    assert len({line["lease"] for line in outcomes}) == 5
    for line in every:
        assert {"event", "level", "logger", "timestamp"} <= line.keys()


def test_a_request_is_one_line_without_its_address(make_web: WebMaker) -> None:
    """The web process tells route, status and time, not the query of a callback nor the link of a mail."""
    with capture_logs() as captured, make_web("") as web, httpx.Client(trust_env=False) as http:
        http.get(f"{web.url}/oauth/callback?code=the-code&state=the-state")
        http.get(f"{web.url}/reconsent/the-link")
        http.get(f"{web.url}/healthz")
        http.get(f"{web.url}/there/is/none?secret=the-code")
        seen = [line for line in captured if line["event"] == "request_answered"]

    assert [(line["route"], line["status"], line["log_level"]) for line in seen] == [
        ("/oauth/callback", 400, "info"),
        ("/reconsent/{link}", 404, "info"),
        ("/healthz", 200, "debug"),
        ("none", 404, "info"),
    ]
    assert "the-" not in str(seen)
