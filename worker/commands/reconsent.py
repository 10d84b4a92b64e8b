"""`evergrant reconsent …`: the mails that ask owners to authorize again."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated
from uuid import UUID

import typer

from worker.audit_entries import write_down_each
from worker.bootstrap import Container
from worker.commands.acting import Acting, command_line_actor
from worker.commands.console import AsJson, fail, print_json, print_table, with_container
from worker.domain.audit import Act
from worker.domain.errors import ConfigurationError
from worker.domain.reconsent import EXPLAINED, Asker, MailState, WhyNot
from worker.mail.bounce import read_bounce
from worker.storage.mail_bounce import note_bounce
from worker.storage.mail_list import MailView, list_mails
from worker.usecases.ask_owners import Asked, MailRequests

reconsent = typer.Typer(no_args_is_help=True, help="The mails that ask owners to authorize again.")

#: Mails fetched at once while listing.
_PAGE = 500
#: A report with the whole mail in it; what is longer is cut, for what counts stands at its beginning.
_LONGEST_REPORT = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What `send` says of one grant."""

    grant: UUID
    client: str
    subject: str
    recipient: str | None
    mail: UUID | None  #: null in a dry run, and where none is sent
    held: bool  #: it waits until the client's brake is off
    why_not: WhyNot | None


@reconsent.command(name="list")
def list_command(
    *,
    client: Annotated[str | None, typer.Option(help="Only this client's.")] = None,
    state: Annotated[MailState | None, typer.Option(help="Only those that stand there.")] = None,
    grant: Annotated[UUID | None, typer.Option(help="Only those about this grant.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the mails, with what became of each.

    Example: evergrant reconsent list --state refused
    """

    async def work(container: Container) -> list[MailView]:
        found: list[MailView] = []
        after: tuple[datetime, UUID] | None = None
        while True:
            page = await list_mails(
                container.engine, client=client, state=state, grant_id=grant, after=after, limit=_PAGE
            )
            found += page
            if len(page) < _PAGE:
                return found
            after = (page[-1].created_at, page[-1].id)

    views = with_container(work)
    if as_json:
        print_json(views)
        return
    print_table(
        ["GRANT", "CLIENT", "SUBJECT", "TO", "KIND", "STATE", "SENT OR DUE", "TRIED", "LAST ERROR"],
        [
            [
                view.grant_id,
                view.client,
                view.subject,
                view.recipient,
                view.kind,
                view.state,
                view.sent_at or view.due_at,
                view.attempts,
                _error(view),
            ]
            for view in views
        ],
    )


@reconsent.command()
def send(
    grant_ids: Annotated[list[UUID] | None, typer.Argument(metavar="ID", help="Grants, by their ids.")] = None,
    *,
    client: Annotated[str | None, typer.Option(help="All of this client that need their owner.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All that need their owner.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say who would get what, and who not.")] = False,
    as_json: AsJson = False,
) -> None:
    """Have owners mailed a link to authorize again; workers send the mails.

    Grants that are named are mailed whatever the cool-down, and every one is left alone for some minutes after a mail.

    Example: evergrant reconsent send --client askara-main --dry-run
    """
    ids = list(dict.fromkeys(grant_ids or ()))
    if sum((bool(ids), client is not None, everything)) != 1:
        raise typer.BadParameter("give ids, or --client, or --all")

    async def work(container: Container) -> list[Row]:
        requests = container.mails.requests
        if not requests.sends and not dry_run:
            raise ConfigurationError(
                "there is no mail server: set EVERGRANT_SMTP_URL and EVERGRANT_MAIL_FROM, as config/example.env says"
            )
        found: list[Row] = []
        async for page in _asked(requests, ids, client, dry_run=dry_run):
            rows = _rows(page)
            found += rows
            # Page by page: whatever happens to the next one, these mails are asked for.
            acting.details["mails"] = sum(row.why_not is None for row in found)
            if not dry_run and acting.grant_id is None:  # one that is named alone stands in the command's own entry
                mailed = [(row.client, row.grant) for row in rows if row.why_not is None]
                await write_down_each(container.audit, command_line_actor(), acting.act, mailed)
            _progress(len(found))
        _progress(None)
        acting.failed = acting.grant_id is not None and not acting.details["mails"]
        return found

    acting = Acting(
        act=Act.RECONSENT_SENT, client=client, grant_id=ids[0] if len(ids) == 1 else None, details={"mails": 0}
    )
    rows = with_container(work, None if dry_run else acting)
    if as_json:
        print_json(rows)
    elif dry_run:
        _print_plan(rows)
    else:
        _print_done(rows, named=bool(ids))
    missing = [grant_id for grant_id in ids if grant_id not in {row.grant for row in rows}]
    if missing:
        fail(f"there is no grant {missing[0]}" if len(missing) == 1 else f"there are no grants {_listed(missing)}")
    if ids and not dry_run and any(row.why_not is not None for row in rows):
        raise typer.Exit(1)


@reconsent.command()
def bounced() -> None:
    """Note a bounce, read from standard input: a report that a mail could not be delivered (RFC 3464).

    Let the mailbox of EVERGRANT_MAIL_FROM pipe what it gets into this command. What is no such report is passed over.

    Example: evergrant reconsent bounced < report.eml
    """
    report = read_bounce(sys.stdin.buffer.read(_LONGEST_REPORT))
    if report is None:
        typer.echo("this is no report that a mail of ours was not delivered; nothing was changed")
        return

    async def work(container: Container) -> list[str]:
        return await note_bounce(container.engine, report.message_id, status=report.status, reply=report.reply)

    noted = with_container(work, Acting(act=Act.MAIL_BOUNCED, details={"message": str(report.message_id)}))
    unknown = "this bounce was noted before, or its mail is not known"
    typer.echo(f"noted for {len(noted)} grants: {report.reply}" if noted else unknown)


async def _asked(
    requests: MailRequests, ids: Sequence[UUID], client: str | None, *, dry_run: bool
) -> AsyncIterator[list[Asked]]:
    """Ask about the grants that are named, or about all, some hundreds at a time."""
    if ids:
        yield await requests.ask(ids, Asker.OPERATOR_BY_NAME, dry_run=dry_run)
        return
    async for page in requests.ask_all(client, dry_run=dry_run):
        yield page


def _rows(asked: Sequence[Asked]) -> list[Row]:
    return [
        Row(
            grant=one.candidate.grant_id,
            client=one.candidate.client,
            subject=one.candidate.subject,
            recipient=one.candidate.addressee.recipient,
            mail=one.mail_id,
            held=one.candidate.braked,
            why_not=one.why_not,
        )
        for one in asked
    ]


def _print_plan(rows: Sequence[Row]) -> None:
    together = Counter(row.recipient for row in rows if row.why_not is None)
    print_table(
        ["GRANT", "CLIENT", "SUBJECT", "TO", "WOULD BE MAILED"],
        [[row.grant, row.client, row.subject, row.recipient, _plan(row, together[row.recipient])] for row in rows],
    )
    mailed = sum(together.values())
    typer.echo(f"{mailed} of {len(rows)} grants would be mailed about, in {len(together)} mails; nothing was changed")


def _plan(row: Row, together: int) -> str:
    if row.why_not is not None:
        return f"no: {EXPLAINED[row.why_not]}"
    what = "yes" if together == 1 else f"yes, one mail about {together}"
    return f"{what}, once the brake of its client is off" if row.held else what


def _print_done(rows: Sequence[Row], *, named: bool) -> None:
    mailed = [row for row in rows if row.why_not is None]
    held = sum(row.held for row in mailed)
    typer.echo(f"mails about {len(mailed)} of {len(rows)} grants were asked for; `evergrant reconsent list` tells on")
    if held:
        typer.echo(f"{held} of them wait until the brake of their client is off")
    if named:
        for row in rows:
            if row.why_not is not None:
                typer.echo(f"not {row.grant}: {EXPLAINED[row.why_not]}")
        return
    for reason, count in Counter(row.why_not for row in rows if row.why_not is not None).most_common():
        typer.echo(f"not {count}: {EXPLAINED[reason]}")


def _progress(done: int | None) -> None:
    """Show how far it is, to a person at a terminal alone; None: it is done."""
    if sys.stderr.isatty():
        sys.stderr.write("\r\033[K" if done is None else f"\r{done} grants looked at")
        sys.stderr.flush()


def _listed(ids: Sequence[UUID]) -> str:
    return ", ".join(str(grant_id) for grant_id in ids)


def _error(view: MailView) -> str | None:
    status = f"{view.last_error_status} " if view.last_error_status is not None else ""
    return f"{status}{view.last_error}" if view.last_error is not None else None
