"""`evergrant webhooks …`: the endpoints that events are sent to, what they have not taken, and sending it again."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from typing import Annotated, Final

import typer

from worker.bootstrap import Container
from worker.commands.acting import Acting
from worker.commands.console import AsJson, fail, print_json, print_table, text, with_container
from worker.domain.audit import Act
from worker.domain.duration import parse_duration
from worker.domain.errors import ConfigurationError
from worker.domain.webhook import Delivered, Failed, Gone
from worker.oauth.complaints import nearest
from worker.storage.webhook_endpoints import DeadDelivery, EndpointStatus
from worker.webhooks.endpoint import Endpoint, generate_secret
from worker.webhooks.sender import Sent

webhooks = typer.Typer(no_args_is_help=True, help="Events sent to endpoints of yours, as Standard Webhooks.")

EndpointName = Annotated[str, typer.Argument(help="The endpoint's name in the configuration.")]
MaybeEndpointName = Annotated[str | None, typer.Argument(help="The endpoint's name; else all of them.")]
#: Dead deliveries that a list shows unless asked for more.
_SHOWN: Final = 200


@webhooks.command(name="list")
def list_endpoints(*, as_json: AsJson = False) -> None:
    """List the endpoints: what has arrived, what waits, what is dead, and the last error.

    Example: evergrant webhooks list
    """

    async def work(container: Container) -> tuple[list[EndpointStatus], set[str]]:
        return await container.webhooks.statuses(), set(container.webhooks.endpoints)

    statuses, configured = with_container(work)
    if as_json:
        print_json(statuses)
        return
    print_table(
        ["ENDPOINT", "STATE", "DELIVERED", "WAITING", "SINCE", "DEAD", "LAST ERROR", "AT"],
        [
            [
                status.name,
                _state(status, is_configured=status.name in configured),
                status.delivered,
                status.waiting,
                status.oldest_waiting_at,
                status.dead,
                status.last_error,
                status.last_error_at,
            ]
            for status in statuses
        ],
    )


@webhooks.command()
def dead(
    endpoint: MaybeEndpointName = None,
    *,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="At most so many.")] = _SHOWN,
    as_json: AsJson = False,
) -> None:
    """List the events that an endpoint has not taken and that are not tried any more, with the reason.

    Example: evergrant webhooks dead billing
    """

    async def work(container: Container) -> Sequence[DeadDelivery]:
        names = [found.name for found in _chosen(container, endpoint)]
        return await container.webhooks.overview.dead(names, limit)

    found = with_container(work)
    if as_json:
        print_json(found)
        return
    print_table(
        ["ENDPOINT", "EVENT", "TYPE", "CLIENT", "GRANT", "HAPPENED", "ATTEMPTS", "DEAD SINCE", "LAST ERROR"],
        [
            [
                *(one.endpoint, one.event, one.type, one.client, one.grant),
                *(one.at, one.failures, one.dead_at, one.last_error),
            ]
            for one in found
        ],
    )


@webhooks.command()
def replay(
    endpoint: MaybeEndpointName = None,
    *,
    event: Annotated[int | None, typer.Option(min=1, help="This event, by its id in the event log.")] = None,
    since: Annotated[
        str | None, typer.Option(help="What happened since: a duration such as 2h, or an instant with its offset.")
    ] = None,
    only_dead: Annotated[bool, typer.Option("--dead", help="What is dead.")] = False,
) -> None:
    """Send events once more, whether they have arrived or not. Receivers know them by the same webhook-id.

    Example: evergrant webhooks replay billing --dead
    """
    if sum((event is not None, since is not None, only_dead)) != 1:
        raise typer.BadParameter("say what to send again, by one of --event, --since and --dead")
    length, instant = _since(since)
    asked: dict[str, object] = {"endpoint": endpoint, "event": event, "since": since, "dead": only_dead}

    async def work(container: Container) -> dict[str, int]:
        hooks, begin = container.webhooks, instant
        if length is not None:
            begin = await container.grants.now() - length
        await hooks.due()  # an endpoint that nothing was ever sent to is known from here on
        counts = {}
        for found in _chosen(container, endpoint):
            if only_dead:
                counts[found.name] = await hooks.overview.replay_dead(found.name)
            else:
                counts[found.name] = await hooks.overview.replay(hooks.wanted(found), event=event, since=begin)
        return counts

    counts = with_container(work, Acting(act=Act.WEBHOOK_REPLAYED, details=asked))
    for name, count in counts.items():
        typer.echo(f"{name}: {count} {'event' if count == 1 else 'events'} to be sent again")
    if event is not None and not any(counts.values()):
        fail(f"there is no event {event} that this was to be sent to: is it of a type and a client that are chosen?")


@webhooks.command()
def test(endpoint: EndpointName) -> None:
    """Send an endpoint a signed message of type webhook.test, and say what it answered.

    Example: evergrant webhooks test billing
    """

    async def work(container: Container) -> Sent:
        [found] = _chosen(container, endpoint)
        return await container.webhooks.test(found)

    sent = with_container(work, Acting(act=Act.WEBHOOK_TESTED, details={"endpoint": endpoint}))
    took = f"{sent.seconds * 1000:.0f} ms"
    match sent.attempt:
        case Delivered():
            typer.echo(f"{endpoint} answered {sent.status} in {took}")
        case Gone():
            fail(f"{endpoint}: it answered 410 Gone: it wants no events any more")
        case Failed(error=error):
            fail(f"{endpoint}: {error} ({took})")


@webhooks.command()
def pause(endpoint: EndpointName) -> None:
    """Send nothing to an endpoint until it is resumed. What happens meanwhile is kept for it.

    Example: evergrant webhooks pause billing
    """
    changed = _change(endpoint, Act.WEBHOOK_PAUSED, lambda container: container.webhooks.overview.pause(endpoint))
    typer.echo(f"{endpoint} is paused" if changed else f"{endpoint} was paused already")


@webhooks.command()
def resume(endpoint: EndpointName) -> None:
    """Let an endpoint have its events again, also one that has answered 410 Gone.

    Example: evergrant webhooks resume billing
    """
    changed = _change(endpoint, Act.WEBHOOK_RESUMED, lambda container: container.webhooks.overview.resume(endpoint))
    typer.echo(f"{endpoint} has its events again" if changed else f"nothing held {endpoint} back")


@webhooks.command()
def secret() -> None:
    """Make a secret that signs, and print it: give it to the receiver, and to the configuration as a reference.

    Example: (umask 077; evergrant webhooks secret > billing.whsec)
    """
    typer.echo(generate_secret(os.urandom).reveal())


def _change(endpoint: str, act: Act, change: Callable[[Container], Awaitable[bool]]) -> bool:
    async def work(container: Container) -> bool:
        _chosen(container, endpoint)
        await container.webhooks.due()  # an endpoint that nothing was ever sent to is known from here on
        return await change(container)

    return with_container(work, Acting(act=act, details={"endpoint": endpoint}))


def _chosen(container: Container, name: str | None) -> list[Endpoint]:
    endpoints = container.webhooks.endpoints
    if name is None:
        return list(endpoints.values())
    if name not in endpoints:
        raise ConfigurationError(f"webhook endpoint {name!r} is not configured{nearest(name, endpoints)}")
    return [endpoints[name]]


def _since(written: str | None) -> tuple[timedelta | None, datetime | None]:
    """Read how long ago, or when."""
    if written is None:
        return None, None
    try:
        return parse_duration(written), None
    except ValueError:
        pass
    try:
        instant = datetime.fromisoformat(written)
    except ValueError:
        instant = None
    if instant is None or instant.tzinfo is None:
        raise typer.BadParameter(f"--since: {written!r} is neither a duration such as 2h nor 2026-03-01T12:00:00Z")
    return None, instant


def _state(status: EndpointStatus, *, is_configured: bool) -> str:
    if not is_configured:
        return "not configured any more"
    if status.paused_reason == "gone":
        return "stopped: it answered 410"
    if status.paused_at is not None:
        return "paused by an operator"
    if status.held_until is not None:
        return f"failing, next try {text(status.held_until)}"
    return "failing" if status.failures else "ok"
