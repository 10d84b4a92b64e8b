"""The audit fails where a vulnerability is known and says where nobody can be asked; the bill of materials is whole."""

from __future__ import annotations

import json
import re
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import pytest

from tests.supply_chain.audit import main
from tests.supply_chain.sbom import LOCK, write
from tests.support.command_line import ROOT

pytestmark = pytest.mark.slow

_ADVISORY: Final = {
    "id": "GHSA-xxxx-yyyy-zzzz",
    "summary": "Tasks of others are run.",
    "affected": [
        {
            "package": {"name": "celery", "ecosystem": "PyPI"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "99.1"}]}],
        }
    ],
}


@pytest.fixture(scope="module", autouse=True)
def _installed() -> None:
    """Install the tools, as `make audit` does."""
    subprocess.run(["make", ".venv/installed-supply"], cwd=ROOT, check=True, capture_output=True, timeout=300)


@contextmanager
def advisories(affected: str | None, status: int = 200) -> Iterator[str]:
    """Serve a database of vulnerabilities that knows one of a package; gives its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["package"]["name"]
            body: dict[str, Any] = {"vulns": [_ADVISORY]} if asked == affected else {}
            sent = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(sent)))
            self.end_headers()
            self.wfile.write(sent)

        def log_message(self, *_arguments: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/v1/query"
        server.shutdown()
        thread.join(10.0)


@pytest.mark.parametrize(
    ("affected", "code", "said"),
    [
        ("celery", 1, r"celery [\d.]+: GHSA-xxxx-yyyy-zzzz, fixed in: 99.1\n.*1 known vulnerabilities\n$"),
        (None, 0, r"^\d\d+ packages audited, 0 known vulnerabilities\n$"),
    ],
)
def test_a_known_vulnerability_fails(
    affected: str | None, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """One of a package that is locked is told and ends with 1; with none every package was asked for."""
    with advisories(affected) as url:
        assert main(["--osv-url", url]) == code
    assert re.search(said, capsys.readouterr().out, re.DOTALL)


def test_a_vulnerability_that_was_looked_at_passes(capsys: pytest.CaptureFixture[str]) -> None:
    """`--ignore-vuln` names it."""
    with advisories("celery") as url:
        assert main(["--osv-url", url, "--ignore-vuln", "GHSA-xxxx-yyyy-zzzz"]) == 0
    assert "0 known vulnerabilities" in capsys.readouterr().out


def test_nobody_to_ask_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    """Without an answer, or with an error for one, nothing is called audited, and the gate goes on."""
    with advisories(None, status=503) as url:
        assert main(["--osv-url", url]) == 0
    assert capsys.readouterr().out == f"no advisory data reachable, not audited: {url} answers 503\n"
    assert main(["--osv-url", url]) == 0
    assert capsys.readouterr().out == f"no advisory data reachable, not audited: {url}: ConnectError\n"


def test_the_bill_of_materials_lists_every_locked_package(tmp_path: Path) -> None:
    """Each with its version and the hashes of the lock, valid by the schema, and the same bytes each time."""
    paths = [tmp_path / "one.json", tmp_path / "two" / "again.json"]
    assert [write(path) for path in paths] == [None, None]
    assert paths[0].read_bytes() == paths[1].read_bytes()
    bill = json.loads(paths[0].read_text())
    lock = (ROOT / LOCK).read_text()
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    assert bill["metadata"]["component"]["name"] == "evergrant"
    assert {f"{one['name']}=={one['version']}" for one in bill["components"]} == set(
        re.findall(r"^[a-z0-9._-]+==[^ ]+", lock, re.MULTILINE)
    )
    hashes = {
        held["content"] for one in bill["components"] for ref in one["externalReferences"] for held in ref["hashes"]
    }
    assert hashes == set(re.findall(r"sha256:([0-9a-f]{64})", lock))
