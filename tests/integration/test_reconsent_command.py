"""`evergrant reconsent`: a dry run that names who would get what, mails that workers send, and what became of each."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from tests.conftest import ContainerMaker
from tests.support.command_line import CommandLine, Ended
from tests.support.database import execute, rows
from tests.support.loaded_command_line import LoadedCommandLine
from tests.support.mail_server import MailServer
from tests.support.mailing import CONFIGURATION, ROUND, bounce_of, dead, later
from worker.bootstrap import Container
from worker.domain.secret import Secret

pytestmark = pytest.mark.anyio

MANUAL = CONFIGURATION.replace('client_id = "acme-main"', 'client_id = "a"\nreconsent_mails = "manual"')

NOBODY = "018f3c5e-0000-4000-8000-000000000000"


@pytest.fixture
def server() -> Iterator[MailServer]:
    """Run a mail server."""
    with MailServer() as running:
        yield running


async def test_from_dry_run_to_list(
    make_container: ContainerMaker, server: MailServer, database_url: str, keys: Secret, tmp_path: Path
) -> None:
    """It names who would be mailed, together with what and why not others; then asks, and lists what became of it."""
    with LoadedCommandLine() as loaded:
        async with make_container(MANUAL, smtp_url=server.url) as container:
            await _from_dry_run_to_list(
                container, server, loaded, _command_line(tmp_path, database_url, keys, server.url)
            )


async def _from_dry_run_to_list(
    container: Container, server: MailServer, loaded: LoadedCommandLine, command_line: CommandLine
) -> None:
    def typed(*arguments: str, stdin: str = "") -> Ended:
        return loaded.run(command_line, "reconsent", *arguments, stdin=stdin)

    for subject in ("one", "two"):
        await dead(container, subject, email="ada@example.com", since=timedelta(days=30))
    wrong = await dead(container, "wrong")
    without = await dead(container, "without", email=None)
    await dead(container, "held", client="acme-crm")
    await execute(container, "INSERT INTO client_status (client, braked_at) VALUES ('acme-crm', now())")
    plan = typed("send", "--all", "--dry-run")
    assert (plan.code, plan.err) == (0, "")
    assert plan.out.count("yes, one mail about 2") == 2
    assert "yes, once the brake of its client is off" in plan.out
    assert "no: nobody to write to: set the grant's email" in plan.out
    assert "4 of 5 grants would be mailed about, in 3 mails; nothing was changed" in plan.out
    assert json.loads(typed("list", "--json").out) == []

    server.faults.at_recipient = lambda address: "550 5.1.1 unknown here" if "wrong" in address else None
    done = typed("send", "--client", "acme-main")
    assert (done.code, done.err) == (0, "")
    assert "mails about 3 of 4 grants were asked for" in done.out
    assert "not 1: nobody to write to" in done.out
    await container.mails.round(ROUND)
    assert [received.recipients for received in server.received] == [("ada@example.com",)]

    listed = json.loads(typed("list", "--client", "acme-main", "--json").out)
    assert {(mail["subject"], mail["state"], mail["last_error_status"]) for mail in listed} == {
        ("one", "sent", None),
        ("two", "sent", None),
        ("wrong", "refused", 550),
    }
    assert "550 5.1.1 unknown here" in typed("list", "--state", "refused").out

    named = typed("send", str(wrong), str(without), "--json")
    assert named.code == 1
    assert {row["why_not"] for row in json.loads(named.out)} == {None, "no_address"}
    assert typed("send", str(without)).code == 1
    query = "SELECT client, subject, outcome, details FROM audit_log WHERE act = 'reconsent.send' ORDER BY id"
    assert [tuple(entry) for entry in await rows(container, query)] == [
        *(("acme-main", subject, "done", {}) for subject in ("one", "two", "wrong")),
        ("acme-main", None, "done", {"mails": 3}),
        ("acme-main", "wrong", "done", {}),
        (None, None, "done", {"mails": 1}),
        ("acme-main", "without", "failed", {"mails": 0}),
    ]

    report = bounce_of(server.received[0].message["Message-ID"])
    assert "noted for 2 grants: 5.2.1 mailbox closed" in typed("bounced", stdin=report).out
    assert "was noted before" in typed("bounced", stdin=report).out
    assert "nothing was changed" in typed("bounced", stdin="Subject: hello\n\nWorld\n").out
    bounced = json.loads(typed("list", "--state", "bounced", "--json").out)
    assert {mail["subject"] for mail in bounced} == {"one", "two"}
    await later(container, timedelta(days=1))
    told = typed("send", "--client", "acme-main", "--dry-run").out
    assert told.count("no: the address was refused: correct the grant's email") == 2


def test_wrong_use_is_one_line(database_url: str, keys: Secret, tmp_path: Path) -> None:
    """Nothing to do, two things at once, an unknown client or grant, no mail server: each is said in a line."""
    (tmp_path / "evergrant.toml").write_text(MANUAL, encoding="utf-8")
    typed = _command_line(tmp_path, database_url, keys, "smtp://localhost:1")
    no_server: dict[str, str | None] = {"EVERGRANT_SMTP_URL": None, "EVERGRANT_MAIL_FROM": None}
    cases: list[tuple[tuple[str, ...], dict[str, str | None], int, str]] = [
        ((), {}, 2, "give ids, or --client, or --all"),
        (("--all", "--client", "acme-main"), {}, 2, "give ids, or --client, or --all"),
        (("--client", "acme-mian"), {}, 2, "client 'acme-mian' is not configured (did you mean 'acme-main'?)"),
        (("--all",), no_server, 2, "there is no mail server: set EVERGRANT_SMTP_URL and EVERGRANT_MAIL_FROM"),
        (("--all",), {"EVERGRANT_SMTP_URL": "smtp://u:hunter2@"}, 2, "EVERGRANT_SMTP_URL: is not of the form"),
        ((NOBODY,), {}, 1, f"there is no grant {NOBODY}"),
    ]

    with LoadedCommandLine() as loaded:
        for arguments, changes, code, said in cases:
            ended = loaded.run(typed.having(**changes), "reconsent", "send", *arguments)
            assert (ended.code, said in ended.err) == (code, True), ended
            assert "hunter2" not in ended.err
        dry = loaded.run(typed.having(**no_server), "reconsent", "send", "--all", "--dry-run")
        assert (dry.code, dry.err) == (0, "")


def _command_line(folder: Path, database_url: str, keys: Secret, smtp_url: str) -> CommandLine:
    return CommandLine(
        folder=folder,
        environment={
            "EVERGRANT_DATABASE_URL": database_url,
            "EVERGRANT_KEYS": keys.reveal(),
            "EVERGRANT_CONFIG": str(folder / "evergrant.toml"),
            "EVERGRANT_SMTP_URL": smtp_url,
            "EVERGRANT_MAIL_FROM": "tokens@example.com",
        },
    )
