"""The audit log: what API, pages and command line do is in it, with tokens that were given out; nothing leaves it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from tests.conftest import ContainerMaker, WebMaker
from tests.support.api import api, once
from tests.support.database import everything_in, execute, rows, value
from tests.support.installation import Installation, installed, lines
from tests.support.running_web import RunningWeb
from tests.support.sandbox_clients import SandboxClient, adopt, register
from tests.support.signing_in import signed_in
from tests.support.waiting import wait_until
from worker.domain.audit import Act, Actor, AuditEntry
from worker.domain.roles import CallerKind, Role
from worker.sandbox.server import RunningSandbox


@pytest.fixture
def client(sandbox: RunningSandbox) -> SandboxClient:
    """Register the one client that there is."""
    return register(sandbox, name="ours")


@pytest.fixture
def web(client: SandboxClient, make_web: WebMaker) -> Iterator[RunningWeb]:
    """Serve an installation with one client, which believes a proxy on this machine."""
    toml = f'{client.toml}\n[web]\ntrusted_proxies = ["127.0.0.0/8"]\n'
    with make_web(toml, **client.environment) as running:
        yield running


@pytest.fixture(scope="module")
def command_line(
    tmp_path_factory: pytest.TempPathFactory, database_server: str, migrated_template: str
) -> Iterator[Installation]:
    """Give an installation with its command line."""
    folder: Path = tmp_path_factory.mktemp("audited")
    with installed(folder, database_server, migrated_template) as installation:
        yield installation


def entries(web: RunningWeb) -> list[tuple[Any, ...]]:
    """Return who did what, as it stands in the log."""
    query = "SELECT kind, actor, act, outcome, client, subject, count, details FROM audit_log ORDER BY id"
    return [tuple(row) for row in web.run(rows(web.container, query))]


def entry(act: Act = Act.GRANT_PAUSED) -> AuditEntry:
    """Return an entry to be written."""
    actor = Actor(kind=CallerKind.PERSON, id=uuid4(), name="Ada", role=Role.ADMIN, address="192.0.2.1")
    return AuditEntry(actor=actor, act=act)


def test_acts_over_the_api_are_written_down_with_what_came_of_them(
    web: RunningWeb, sandbox: RunningSandbox, client: SandboxClient
) -> None:
    """Done, refused for the role, or failed: each names who, the grant's client and subject; reading leaves nothing."""
    [(grant_id, grant)] = web.run(adopt(web.container, sandbox, client, due=False))
    with api(web, Role.OPERATOR) as operator, api(web, Role.READER) as reader:
        assert operator.post(f"/v1/grants/{grant_id}/pause", headers=once()).status_code == 200
        assert reader.post(f"/v1/grants/{grant_id}/resume", headers=once()).status_code == 403
        assert operator.post(f"/v1/grants/{uuid4()}/pause", headers=once()).status_code == 404
        assert operator.patch(f"/v1/grants/{grant_id}", json={"email": "a@example.com"}).status_code == 200
        assert operator.post("/v1/clients/%1b%5b2Jx/pause", headers=once()).status_code == 404
        assert operator.get(f"/v1/grants/{grant_id}").status_code == 200
    who = ("api_token", "a test's")
    assert entries(web) == [
        (*who, "grant.pause", "done", "ours", grant.account, 1, {}),
        (*who, "grant.resume", "refused", "ours", grant.account, 1, {}),
        (*who, "grant.pause", "failed", None, None, 1, {}),
        (*who, "grant.change", "done", "ours", grant.account, 1, {"changed": ["email"]}),
        (*who, "client.pause", "failed", "?[2Jx", None, 1, {}),
    ]


def test_access_tokens_that_were_given_out_are_counted_and_never_written(
    web: RunningWeb, sandbox: RunningSandbox, client: SandboxClient
) -> None:
    """By id and by subject, five times and a refusal: two entries a second later, with no token in any of them."""
    [(grant_id, grant)] = web.run(adopt(web.container, sandbox, client, due=False))
    tokens = set()
    with api(web, Role.TOKEN) as http, api(web, Role.READER) as reader:
        for _ in range(4):
            tokens.add(http.get(f"/v1/grants/{grant_id}/access-token").json()["access_token"])
        by_subject = {"client": "ours", "subject": grant.account}
        tokens.add(http.get("/v1/access-token", params=by_subject).json()["access_token"])
        assert reader.get(f"/v1/grants/{grant_id}/access-token").status_code == 403
        query = "SELECT coalesce(sum(count), 0) FROM audit_log WHERE act = 'access_token.give' AND outcome = :outcome"
        wait_until(lambda: web.run(value(web.container, query, outcome="done")) == 5, 20, "the tokens are written down")
        wait_until(lambda: web.run(value(web.container, query, outcome="refused")) == 1, 20, "so is the refusal")
    assert {found[5] for found in entries(web)} == {grant.account}
    written = web.run(everything_in(web.container, "audit_log"))
    assert tokens
    assert not any(token in written for token in tokens)


def test_access_tokens_push_nothing_else_off_the_pages(
    web: RunningWeb, sandbox: RunningSandbox, client: SandboxClient
) -> None:
    """A grant's page tells the last one in a line of its own, the audit log those that are asked for by that act."""
    [(grant_id, _)] = web.run(adopt(web.container, sandbox, client, due=False))
    with signed_in(web) as http:
        http.post(f"/grants/{grant_id}/pause")
        given = replace(entry(Act.ACCESS_TOKEN_GIVEN), client="ours", grant_id=grant_id)
        web.run(web.container.audit.write(*[given] * 200))
        page, log = http.get(f"/grants/{grant_id}").text, http.get("/access/audit").text
        assert ("Ada paused it" in page, "by <bdi>Ada</bdi>" in page) == (True, True)
        assert ("paused a grant" in cells(log), "got an access token" in cells(log)) == (True, False)
        assert "got an access token" in cells(http.get("/access/audit", params={"act": "access_token.give"}).text)


def cells(page: str) -> str:
    """Return the entries of the page: what stands in its table."""
    return page.partition("<tbody>")[2]


def test_what_was_given_out_is_written_down_before_the_process_ends(
    make_web: WebMaker, sandbox: RunningSandbox, client: SandboxClient, database_url: str
) -> None:
    """A web process that is stopped in the second between loses nothing of what it counted."""
    with make_web(client.toml, **client.environment) as web:
        [(grant_id, _)] = web.run(adopt(web.container, sandbox, client, due=False))
        with api(web, Role.TOKEN) as http:
            assert http.get(f"/v1/grants/{grant_id}/access-token").status_code == 200
    with psycopg.connect(database_url) as connection:
        assert connection.execute("SELECT act, count, grant_id FROM audit_log").fetchall() == [
            ("access_token.give", 1, grant_id)
        ]


def test_the_address_is_the_one_that_our_own_proxy_tells(web: RunningWeb, make_web: WebMaker) -> None:
    """What a configured proxy adds is believed, what was written before it and what others write is not."""
    forged = {"X-Forwarded-For": "198.51.100.7, 192.0.2.1"}
    query = "SELECT address FROM audit_log WHERE act = 'sign_out' ORDER BY id DESC LIMIT 1"
    with signed_in(web) as http:
        http.post("/sign-out", headers=forged)
    assert web.run(value(web.container, query)) == "192.0.2.1"
    with make_web("") as strict:
        with signed_in(strict) as http:
            http.post("/sign-out", headers=forged)
        assert strict.run(value(strict.container, query)) == "127.0.0.1"


@pytest.mark.anyio
async def test_nothing_changes_or_leaves_the_log_but_by_its_age(make_container: ContainerMaker) -> None:
    """UPDATE, DELETE and TRUNCATE are refused; pruning never takes what is younger than 30 days."""
    async with make_container("") as container:
        await container.audit.write(entry(), entry(Act.GRANT_RESUMED))
        for statement in (
            "UPDATE audit_log SET actor = 'somebody else'",
            "DELETE FROM audit_log",
            "TRUNCATE audit_log",
            "INSERT INTO audit_log (kind, act, outcome) VALUES ('person', 'x', 'x')",
        ):
            with pytest.raises(Exception, match="audit_log"):
                await execute(container, statement)
        assert await container.dispatch.prune() == 0
        assert await value(container, "SELECT prune_audit_log('0 s', 1000)") == 0
        found = await container.audit.list(limit=10)
        assert [line.act for line in found] == ["grant.resume", "grant.pause"]
        assert len(await container.audit.list(limit=10, act=Act.GRANT_RESUMED)) == 1


@pytest.mark.anyio
async def test_old_entries_are_pruned_from_the_front(make_container: ContainerMaker) -> None:
    """An entry older than a year leaves; the one of yesterday stays."""
    async with make_container("") as container:
        await execute(
            container,
            "INSERT INTO audit_log (at, kind, act, outcome) "
            "SELECT now() - age * interval '1 day', 'person', 'grant.pause', 'done' FROM unnest(ARRAY[400, 1]) AS age",
        )
        assert await container.dispatch.prune() == 1
        assert await value(container, "SELECT count(*) FROM audit_log WHERE at > now() - interval '2 days'") == 1


def test_the_command_line_is_written_down_and_lists_the_log(command_line: Installation) -> None:
    """What a command did, or could not do, names the user of this machine; a token that was printed is not in it."""
    grant = command_line.seed()
    added = command_line.run_quickly(
        *("grants", "add", command_line.client, grant.account),
        *("--refresh-token-stdin", "--access-token-stdin", "--expires-in", "3600"),
        stdin=lines(grant),
    )
    grant_id = added.out.strip()
    assert str(UUID(grant_id)) == grant_id
    command_line.run_quickly("grants", "pause", grant_id)
    command_line.run_quickly("grants", "pause", str(uuid4()))
    command_line.run_quickly("clients", "pause", command_line.client)
    command_line.run_quickly("token", command_line.client, grant.account)
    token = command_line.run_quickly("api-tokens", "create", "--role", "reader", "--name", "billing").out.strip()
    link = command_line.run_quickly("console", "link", "--name", "ada", "--role", "reader").out.strip()

    listed = command_line.run_quickly("audit", "--json", "--limit", "10").out
    found = [(line["act"], line["outcome"], line["subject"]) for line in reversed(json.loads(listed))]
    assert found == [
        ("grant.adopt", "done", grant.account),
        ("grant.pause", "done", grant.account),
        ("grant.pause", "failed", None),
        ("client.pause", "done", None),
        ("access_token.give", "failed", grant.account),  # it is paused
        ("api_token.make", "done", None),
        ("sign_in_link.make", "done", None),
    ]
    assert {line["kind"] for line in json.loads(listed)} == {"command_line"}
    assert token not in listed
    assert link.rsplit("/", 1)[1] not in listed
    table = command_line.run_quickly("audit", "--grant", grant_id, "--act", "grant.pause").out
    assert len(table.splitlines()) == 2
