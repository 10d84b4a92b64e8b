"""The OpenAPI document is true: whatever schemathesis makes of it, the API answers as the document says."""

from __future__ import annotations

import os
import subprocess
import sys
from http.client import HTTPConnection
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import httpx
import pytest

from tests.conftest import WebMaker
from tests.support.api import api, make_token
from tests.support.command_line import ROOT
from tests.support.sandbox_clients import adopt, register
from worker.sandbox.server import RunningSandbox
from worker.web.api.access import NEEDED
from worker.web.api.problems import Kind

#: Seconds in which values are made; longer finds no more than another seed does.
_SECONDS: Final = 30
#: The same values in every run, so that a failure comes again; EVERGRANT_TEST_SEED looks at others.
_SEED: Final = "6749"
_LIMIT_S: Final = 120.0  # it keeps to its time; this only turns a hang into an error

#: A 503 is documented, and what must be answered while a client is paused.
_CONFIGURATION: Final = """
[checks.not_a_server_error]
expected-statuses = ["2xx", "3xx", "4xx", 503]
[auth.openapi.apiToken]
bearer = "${API_TOKEN}"
[[operations]]
include-name = "GET /v1/access-token"
parameters = { client = "askara-test", subject = "account-1" }
"""
#: A revoked grant can still be read: it keeps its history, and comes back when its owner authorizes again.
_NOT_SO_HERE: Final = "use_after_free"


def test_the_document_names_every_route_with_its_errors(make_web: WebMaker) -> None:
    """Every route stands in it with the bearer scheme and problem documents, and so does every kind of problem."""
    with make_web("") as web:
        document = httpx.get(f"{web.url}/openapi.json", trust_env=False).json()

    found = {
        (method.upper(), path): route for path, item in document["paths"].items() for method, route in item.items()
    }
    assert set(found) == set(NEEDED)
    for route in found.values():
        assert route["security"] == [{"apiToken": []}]
        assert set(route["responses"]) >= {"401", "403", "422", "500", "503"}
        for status, answer in route["responses"].items():
            media_type = "application/json" if status.startswith("2") else "application/problem+json"
            if status == "400":  # the HTTP server's own
                media_type = "text/plain"
            assert list(answer["content"]) == [media_type], (route["operationId"], status)
    assert document["components"]["securitySchemes"]["apiToken"]["scheme"] == "bearer"
    kinds = document["components"]["schemas"]["Problem"]["properties"]["type"]["enum"]
    assert kinds == [f"urn:evergrant:problem:{kind}" for kind in Kind]
    posts = [route for (method, _path), route in found.items() if method == "POST"]
    assert all(set(route["responses"]) >= {"409", "413"} for route in posts)
    assert all("Idempotency-Key" in {parameter["name"] for parameter in route["parameters"]} for route in posts)


def test_an_address_of_any_length_is_answered(make_web: WebMaker) -> None:
    """What is longer than the HTTP server reads gets the answer that the document has for it."""
    with make_web("") as web:
        parts = urlsplit(web.url)
        connection = HTTPConnection(parts.hostname or "", parts.port, timeout=30)
        connection.request("GET", f"/v1/grants?cursor={'x' * 80_000}")
        answer = connection.getresponse()
        connection.close()
    assert (answer.status, answer.headers.get_content_type()) == (400, "text/plain")


@pytest.mark.slow
def test_schemathesis_finds_no_failure(sandbox: RunningSandbox, make_web: WebMaker, tmp_path: Path) -> None:
    """Values that fit the document are taken, those that do not are refused, and every answer is one that it has."""
    client = register(sandbox)
    with make_web(client.toml, **client.environment) as web, api(web) as http:
        web.run(adopt(web.container, sandbox, client, 20, due=False))
        configuration = tmp_path / "schemathesis.toml"
        configuration.write_text(_CONFIGURATION, encoding="utf-8")
        done = subprocess.run(
            [
                *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(configuration)),
                *(
                    "run",
                    f"{web.url}/openapi.json",
                    "--max-time",
                    str(_SECONDS),
                    "--seed",
                    os.environ.get("EVERGRANT_TEST_SEED", _SEED),
                    "--checks",
                    "all",
                    "--exclude-checks",
                    _NOT_SO_HERE,
                ),
            ],
            cwd=tmp_path,
            env={
                **os.environ,
                "API_TOKEN": make_token(web),
                "PYTHONPATH": str(ROOT),
                "SCHEMATHESIS_HOOKS": "tests.support.openapi_formats",
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=_LIMIT_S,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert http.get("/v1/grants").status_code == 200
