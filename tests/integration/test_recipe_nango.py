"""The recipe for Nango: held to the types of Nango's own package, and run with its client against a stand-in."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.authorization_servers.fixtures import without_node
from tests.authorization_servers.npm_package import NodeMissingError, install_package, require_node
from tests.support.command_line import ROOT
from tests.support.installation import Installation, installed
from worker.sandbox.control import SeededGrant

pytestmark = pytest.mark.node

RECIPE = ROOT / "deploy" / "recipes" / "nango.mjs"
PACKAGE = ROOT / "tests" / "exports" / "nango"
API_KEY = "the key of one environment of Nango's"
#: Seconds for what takes a few.
LIMIT = 120.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Put the recipe and the stand-in beside Nango's package, as whoever exports has the recipe."""
    try:
        require_node()
    except NodeMissingError as missing:
        without_node(missing)
    found = tmp_path_factory.mktemp("nango")
    (found / "node_modules").symlink_to(install_package(PACKAGE, environ=os.environ))
    for source in (RECIPE, PACKAGE / "server.mjs", PACKAGE / "package.json", PACKAGE / "tsconfig.json"):
        shutil.copy(source, found)
    return found


@contextmanager
def nango(folder: Path, grants: list[dict[str, Any]], *, others: int) -> Iterator[str]:
    """Run the stand-in and give its address."""
    with subprocess.Popen(
        [require_node(), "server.mjs"], cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            with process.stdin:
                process.stdin.write(json.dumps({"apiKey": API_KEY, "others": others, "grants": grants}))
            yield process.stdout.readline().strip()
        finally:
            process.kill()


def export(folder: Path, host: str, *arguments: str, api_key: str = API_KEY) -> subprocess.CompletedProcess[str]:
    """Run the recipe."""
    return subprocess.run(
        [require_node(), "nango.mjs", *arguments],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "NANGO_API_KEY": api_key, "NANGO_HOST": host},
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT,
    )


def connection(number: int, credentials: dict[str, Any] | None, **more: Any) -> dict[str, Any]:
    """Return a connection of our integration; without credentials it cannot be read."""
    return {
        "id": f"connection-{number}",
        "end_user": f"customer-{number}",
        "email": f"owner-{number}@example.com",
        "integration": "acme",
        "config": {"subdomain": f"shop-{number}"},
        "credentials": credentials,
        **more,
    }


def oauth2(grant: SeededGrant) -> dict[str, Any]:
    """Return the credentials of a connection that Nango has made with OAuth 2.0."""
    end = datetime.fromtimestamp(time.time() + grant.expires_in, UTC)  # noqa: TID251 -- another system's clock
    return {
        "type": "OAUTH2",
        "access_token": grant.access_token.reveal(),
        "refresh_token": grant.refresh_token.reveal(),
        "expires_at": end.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "raw": {"scope": "profile organization", "token_type": "bearer"},
    }


def test_recipe_and_stand_in_keep_to_the_types_of_the_package(folder: Path) -> None:
    """Every field that is read or answered is one of Nango's, by TypeScript's compiler; a wrong name is found."""
    compiler = [str(require_node()), "node_modules/typescript/bin/tsc"]

    checked = subprocess.run(compiler, cwd=folder, capture_output=True, text=True, check=False, timeout=LIMIT)
    wrong = folder / "wrong.mjs"
    wrong.write_text(RECIPE.read_text("utf-8").replace("connection.end_user", "connection.owner"), encoding="utf-8")
    refused = subprocess.run(compiler, cwd=folder, capture_output=True, text=True, check=False, timeout=LIMIT)
    wrong.unlink()

    assert (checked.returncode, checked.stdout) == (0, "")
    assert refused.returncode != 0
    assert "Property 'owner' does not exist" in refused.stdout


def test_what_nango_keeps_is_exported_and_adopted(
    folder: Path, tmp_path: Path, database_server: str, migrated_template: str
) -> None:
    """Connections of the named integration come over with what is known of them, from behind ten thousand others."""
    with installed(tmp_path, database_server, migrated_template) as installation:
        first, second = installation.seed(), installation.seed()
        basic = {"type": "BASIC", "username": "ada", "password": "secret", "raw": {}}
        grants = [
            connection(1, oauth2(first)),
            connection(2, oauth2(second)),
            connection(3, basic),
            connection(4, {**oauth2(first), "refresh_token": None}),
            connection(5, None),
            connection(6, oauth2(first), integration="another"),
        ]
        with nango(folder, grants, others=9_998) as host:
            exported = export(folder, host, f"acme={installation.client}", "--capture", "shop=subdomain")
            by_owner = export(folder, host, f"acme={installation.client}", "--subject", "end_user")
        lines = sorted((json.loads(line) for line in exported.stdout.splitlines()), key=lambda line: line["subject"])
        without_shop = [{name: value for name, value in line.items() if name != "captured"} for line in lines]
        imported = installation.run(
            "grants", "import", "-", stdin="".join(json.dumps(line) + "\n" for line in without_shop)
        )

        assert exported.stderr.splitlines() == [
            "connection connection-5 was not read (404)",
            "2 grants written, 2 connections without a refresh token left out",
        ]
        assert (exported.returncode, by_owner.returncode) == (1, 1)
        assert [line["captured"] for line in lines] == [{"shop": "shop-1"}, {"shop": "shop-2"}]
        assert {json.loads(line)["subject"] for line in by_owner.stdout.splitlines()} == {"customer-1", "customer-2"}
        assert (imported.code, imported.err) == (0, "")
        check_alive(installation, first, "connection-1")
        check_alive(installation, second, "connection-2")


def check_alive(installation: Installation, grant: SeededGrant, subject: str) -> None:
    """See that a grant came with all that Nango had of it, and that the provider takes its refresh token."""
    [(grant_id, email, scopes, left)] = installation.query(
        f"SELECT id, email, scopes, access_expires_at - created_at FROM grants WHERE subject = '{subject}'"
    )
    assert (email, scopes) == (f"owner-{subject[-1]}@example.com", ["profile", "organization"])
    assert abs(left.total_seconds() - grant.expires_in) < LIMIT
    assert installation.run_quickly("grants", "refresh", str(grant_id)).code == 0


def test_a_wrong_key_and_wrong_use_are_said_without_the_key(folder: Path) -> None:
    """What Nango refuses ends the export with a message that has no key in it; so does an argument without a client."""
    with nango(folder, [], others=0) as host:
        refused = export(folder, host, "acme=acme-main", api_key="another key of mine")
        wrong = export(folder, host, "acme")

    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr == "nango.mjs: the connections cannot be listed (401)\n"
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "each of these must be NAME=NAME" in wrong.stderr
