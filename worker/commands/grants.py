"""`evergrant grants …` and `evergrant token`."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import fields
from types import MappingProxyType
from typing import Annotated, NoReturn, TypeVar, assert_never
from uuid import UUID

import typer
from pydantic import SecretStr, ValidationError

from worker.bootstrap import Container
from worker.commands.acting import Acting
from worker.commands.console import AsJson, fail, print_json, print_table, text, with_container
from worker.commands.import_grants import import_grants
from worker.domain.adoption import Verdict
from worker.domain.audit import Act
from worker.domain.duration import parse_duration
from worker.domain.grant import GrantState
from worker.domain.outcome import label
from worker.storage.adoptions import Adopted
from worker.storage.grants import GrantView
from worker.usecases.access_token import (
    AccessTokenResult,
    FreshToken,
    HeldBack,
    NoSuchGrant,
    NotKeptAlive,
    RefreshFailed,
    RefusedLately,
    TooEarly,
)
from worker.usecases.adopt import Refused
from worker.usecases.offer import Offer, complaints_in
from worker.usecases.operate import AtProvider, Done, NotPossible

grants = typer.Typer(no_args_is_help=True, help="Adopt, list and look at grants; pause, resume and revoke them.")

T = TypeVar("T")

#: Grants fetched at once while listing.
_PAGE = 500
_LONGEST_TOKEN_LINE = 128 * 1024


@grants.command()
def add(
    client: Annotated[str, typer.Argument(help="The client that the tokens were issued to.")],
    subject: Annotated[str, typer.Argument(help='Your name for the owner, such as "customer-42".')],
    *,
    refresh_token_stdin: Annotated[
        bool, typer.Option("--refresh-token-stdin", help="Read the refresh token from standard input.")
    ] = False,
    access_token_stdin: Annotated[
        bool, typer.Option("--access-token-stdin", help="Read the access token too, from the next line.")
    ] = False,
    expires_in: Annotated[int | None, typer.Option(min=1, help="Seconds that the access token still lives.")] = None,
    email: Annotated[str | None, typer.Option(help="Where the owner can be reached.")] = None,
) -> None:
    """Adopt a grant and print its id. From now on nobody else may refresh it.

    Example: evergrant grants add askara-main customer-42 --refresh-token-stdin < token.txt
    """
    if not refresh_token_stdin:
        raise typer.BadParameter("give --refresh-token-stdin and the token on standard input, never as an argument")
    try:
        offer = Offer(
            client=client,
            subject=subject,
            refresh_token=_read_token("refresh token"),
            access_token=_read_token("access token") if access_token_stdin else None,
            expires_in=expires_in,
            email=email,
        )
    except ValidationError as error:
        raise typer.BadParameter("; ".join(str(complaint) for complaint in complaints_in(error))) from None

    async def work(container: Container) -> Adopted | Refused:
        taken = await container.adoption.take(offer)
        acting.failed = isinstance(taken, Refused) or taken.verdict is not Verdict.CREATE
        acting.grant_id = None if isinstance(taken, Refused) or acting.failed else taken.grant_id
        return taken

    acting = Acting(act=Act.GRANT_ADOPTED, client=client)
    taken = with_container(work, acting)
    if isinstance(taken, Refused):
        fail("; ".join(str(complaint) for complaint in taken.complaints))
    match taken.verdict:
        case Verdict.CREATE:
            typer.echo(taken.grant_id)
        case Verdict.TAKEN:
            fail(f"this refresh token was adopted before, as grant {taken.grant_id}: it cannot be kept alive twice")
        case Verdict.SAME | Verdict.OTHER_TOKEN | Verdict.REPLACE | Verdict.NOT_NEWER | Verdict.OTHER_ACCOUNT:
            fail(f"{client} has a grant for {subject!r} already: {taken.grant_id}; nothing was changed")


grants.command(name="import")(import_grants)


@grants.command(name="list")
def list_grants(
    *,
    client: Annotated[str | None, typer.Option(help="Only this client's.")] = None,
    state: Annotated[GrantState | None, typer.Option(help="Only those in this state.")] = None,
    as_json: AsJson = False,
) -> None:
    """List grants.

    Example: evergrant grants list --state reconsent_required
    """

    async def work(container: Container) -> list[GrantView]:
        found: list[GrantView] = []
        after: tuple[str, str] | None = None
        while True:
            page = await container.grants.list(client=client, state=state, after=after, limit=_PAGE)
            found += page
            if len(page) < _PAGE:
                return found
            after = (page[-1].client, page[-1].subject)

    views = with_container(work)
    if as_json:
        print_json(views)
        return
    print_table(
        ["ID", "CLIENT", "SUBJECT", "STATE", "REASON", "GENERATION", "DUE", "ACCESS TOKEN ENDS"],
        [
            [
                view.id,
                view.client,
                view.subject,
                view.state,
                view.state_reason,
                view.generation,
                view.rotate_at,
                view.access_expires_at,
            ]
            for view in views
        ],
    )


@grants.command()
def show(grant_id: UUID, *, as_json: AsJson = False) -> None:
    """Show one grant, without its tokens.

    Example: evergrant grants show 018f3c5e-0000-4000-8000-000000000000
    """
    view = with_container(lambda container: container.grants.show(grant_id))
    if view is None:
        fail(f"there is no grant {grant_id}")
    if as_json:
        print_json(view)
        return
    width = max(len(field.name) for field in fields(view))
    for field in fields(view):
        typer.echo(f"{field.name.ljust(width)}  {text(getattr(view, field.name))}")


@grants.command()
def refresh(grant_id: UUID) -> None:
    """Refresh one grant now.

    Example: evergrant grants refresh 018f3c5e-0000-4000-8000-000000000000
    """
    result = _act(Act.GRANT_REFRESHED, grant_id, lambda container: container.access_tokens.refresh(grant_id))
    if isinstance(result, FreshToken):
        typer.echo(f"refreshed: generation {result.generation}, access token ends {text(result.expires_at)}")
    else:
        _explain(grant_id, result)


@grants.command()
def pause(grant_id: UUID) -> None:
    """Stop refreshing one grant, until `grants resume`. What is under way is stored all the same.

    Example: evergrant grants pause 018f3c5e-0000-4000-8000-000000000000
    """
    changed = _done(grant_id, _act(Act.GRANT_PAUSED, grant_id, lambda container: container.operations.pause(grant_id)))
    typer.echo(f"{grant_id} is paused" if changed else f"{grant_id} was paused already")


@grants.command()
def resume(grant_id: UUID) -> None:
    """Let a paused grant go on: it is due when it would have been.

    Example: evergrant grants resume 018f3c5e-0000-4000-8000-000000000000
    """
    changed = _done(
        grant_id, _act(Act.GRANT_RESUMED, grant_id, lambda container: container.operations.resume(grant_id))
    )
    typer.echo(f"{grant_id} is refreshed again" if changed else f"{grant_id} was not paused")


@grants.command()
def revoke(
    grant_id: UUID,
    *,
    force: Annotated[
        bool, typer.Option("--force", help="Erase its tokens even where the provider has not confirmed the end.")
    ] = False,
) -> None:
    """End one grant on purpose, here and, where it offers that, at its provider. It may be repeated.

    Until the provider has confirmed it, the tokens are kept for the next try; with --force they are not.

    Example: evergrant grants revoke 018f3c5e-0000-4000-8000-000000000000
    """
    result = _act(
        Act.GRANT_REVOKED,
        grant_id,
        lambda container: container.operations.revoke(grant_id, force=force),
        details={"forced": True} if force else {},
    )
    if isinstance(result, NoSuchGrant):
        fail(f"there is no grant {grant_id}")
    match result.at_provider:
        case AtProvider.REVOKED:
            typer.echo(f"{grant_id} is revoked, here and at its provider")
        case AtProvider.NOT_OFFERED:
            typer.echo(f"{grant_id} is revoked here; its provider has no endpoint to revoke it at")
        case AtProvider.ERASED:
            typer.echo(f"{grant_id} was revoked before, and its tokens are erased")
        case AtProvider.CONSENTED_AGAIN:
            fail(f"grant {grant_id} was consented to again at this moment, and is alive: revoke it once more to end it")
        case AtProvider.NOT_CONFIRMED if result.erased:
            typer.echo(f"{grant_id} is revoked here and its tokens are erased; its provider has not confirmed it")
        case AtProvider.NOT_CONFIRMED:
            fail(f"grant {grant_id} is revoked here, and its provider has not confirmed it: try again")


@grants.command(name="forget-account")
def forget_account(grant_id: UUID) -> None:
    """Let the next consent of one grant be for another account, which is refused otherwise.

    Example: evergrant grants forget-account 018f3c5e-0000-4000-8000-000000000000
    """

    async def work(container: Container) -> tuple[bool, bool]:
        changed = await container.operations.acts.set_account(grant_id, None)
        return await container.grants.show(grant_id) is not None, changed

    exists, changed = _act(Act.ACCOUNT_FORGOTTEN, grant_id, work)
    if not exists:
        fail(f"there is no grant {grant_id}")
    typer.echo(
        f"{grant_id}: the next consent may be for any account" if changed else f"{grant_id}: no account was known"
    )


def token(
    grant: Annotated[str, typer.Argument(metavar="ID|CLIENT", help="A grant's id, or a client before a subject.")],
    subject: Annotated[str | None, typer.Argument(help="The subject, after a client.")] = None,
    *,
    min_ttl: Annotated[str, typer.Option(help="How long the token must still live, such as 60s or 10m.")] = "60s",
) -> None:
    """Print an access token that is valid for at least --min-ttl, refreshing the grant first where needed.

    Example: evergrant token askara-main customer-42 --min-ttl 5m
    """
    try:
        least = parse_duration(min_ttl)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None

    async def work(container: Container) -> tuple[UUID | None, AccessTokenResult]:
        grant_id = await _grant_id(container, grant, subject)
        if grant_id is None:
            acting.failed = True
            return None, NoSuchGrant()
        acting.grant_id = grant_id
        result = await container.access_tokens.fresh(grant_id, least)
        acting.failed = not isinstance(result, FreshToken)
        return grant_id, result

    acting = Acting(act=Act.ACCESS_TOKEN_GIVEN, client=grant if subject is not None else None)
    grant_id, result = with_container(work, acting)
    if isinstance(result, FreshToken):
        typer.echo(result.access_token.reveal())
    else:
        _explain(grant_id or f"{grant} {subject or ''}".strip(), result)


def _act(
    act: Act,
    grant_id: UUID,
    do: Callable[[Container], Awaitable[T]],
    details: Mapping[str, object] = MappingProxyType({}),
) -> T:
    """Do something to one grant, written down as what it is."""

    async def work(container: Container) -> T:
        result = await do(container)
        acting.failed = isinstance(
            result, NotPossible | NoSuchGrant | NotKeptAlive | HeldBack | TooEarly | RefusedLately | RefreshFailed
        )
        return result

    acting = Acting(act=act, grant_id=grant_id, details=dict(details))
    return with_container(work, acting)


async def _grant_id(container: Container, grant: str, subject: str | None) -> UUID | None:
    if subject is not None:
        container.configuration.registry.client(grant)
        found = await container.grants.find(grant, subject)
        return found.id if found is not None else None
    try:
        return UUID(grant)
    except ValueError:
        raise typer.BadParameter(f"{grant!r} is not a grant's id; give an id, or a client and a subject") from None


def _done(grant_id: UUID, result: Done | NotPossible | NoSuchGrant) -> bool:
    match result:
        case NotPossible(state=state):
            fail(f"grant {grant_id} is {state}: see `evergrant grants show`")
        case NoSuchGrant():
            fail(f"there is no grant {grant_id}")
        case Done():
            pass
    return result.changed


def _explain(
    grant: object, result: NoSuchGrant | NotKeptAlive | HeldBack | TooEarly | RefusedLately | RefreshFailed
) -> NoReturn:
    match result:
        case NoSuchGrant():
            fail(f"there is no grant {grant}")
        case NotKeptAlive(state=state, reason=reason):
            fail(f"grant {grant} is {state}{f' ({reason})' if reason else ''}: see `evergrant grants show`")
        case HeldBack(client=client):
            fail(f"client {client} is held back now (paused, throttled or its breaker is open): try again later")
        case TooEarly(at=at):
            fail(
                f"grant {grant} is not refreshed before {text(at)}: its provider would refuse; its token is still good"
            )
        case RefusedLately(until=until):
            fail(
                f"grant {grant} was refused by its provider, which may be an error: it is asked again at {text(until)}"
            )
        case RefreshFailed(outcome=outcome):
            fail(f"grant {grant} was not refreshed: {label(outcome)}, see `evergrant grants show`")
        case _:
            assert_never(result)


def _read_token(what: str) -> SecretStr:
    line = sys.stdin.readline(_LONGEST_TOKEN_LINE).strip()
    if not line:
        fail(f"no {what} on standard input")
    return SecretStr(line)
