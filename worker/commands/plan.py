"""`evergrant plan`: what a number of grants will ask for."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from typing import Annotated, Final

import typer

from worker.bootstrap import CONNECTIONS, READ_CONNECTIONS
from worker.commands.console import AsJson, print_json
from worker.domain.capacity import Load, Need, capacity
from worker.domain.duration import parse_duration, write_duration
from worker.storage.claim import CLAIM_THREADS
from worker.storage.commit_threads import COMMIT_CONNECTIONS

#: All that a process may hold; a web process makes claims and settles too, for tokens that are asked for.
_PROCESS_CONNECTIONS: Final = CONNECTIONS + READ_CONNECTIONS + CLAIM_THREADS + COMMIT_CONNECTIONS
MOST_GRANTS: Final = 100_000_000


def plan(
    *,
    grants: Annotated[int, typer.Option(min=1, max=MOST_GRANTS, help="How many grants.")],
    access_lifetime: Annotated[float, typer.Option(min=10, help="Seconds that an access token lives.")] = 3600.0,
    latency: Annotated[float, typer.Option(min=1, help="Milliseconds that the token endpoint takes.")] = 200.0,
    spread: Annotated[
        str, typer.Option(help="The time over which the first refreshes are spread, as by grants import --spread.")
    ] = "1h",
    token_bytes: Annotated[int, typer.Option(min=10, max=16_000, help="Bytes of one token.")] = 400,
    as_json: AsJson = False,
) -> None:
    """Simulate a number of grants, and say how many rotations, processes, connections and bytes that is.

    The constants are those of the bench's machine: begin there, and let `make bench` tell of yours.

    Example: evergrant plan --grants 1000000 --access-lifetime 3600 --latency 200
    """
    try:
        over = parse_duration(spread)
    except ValueError as error:
        raise typer.BadParameter(f"--spread: {error}") from None
    need = capacity(
        Load(
            grants=grants,
            access_lifetime=timedelta(seconds=access_lifetime),
            latency=timedelta(milliseconds=latency),
            spread=over,
            token_bytes=token_bytes,
            worker_connections=_PROCESS_CONNECTIONS,
            web_connections=_PROCESS_CONNECTIONS,
        )
    )
    if as_json:
        print_json({**asdict(need), "database_bytes": need.database_bytes})
        return
    for name, said in _lines(need):
        typer.echo(f"{name:22}{said}")
    for advice in _advice(need):
        typer.echo(f"-> {advice}")


def _lines(need: Need) -> list[tuple[str, str]]:
    peak = f"{need.rates.steady:,.1f} a second, {need.rates.peak:,.1f} in the worst part of the first periods"
    late = "never" if need.catch_up is None else f"in {write_duration(_whole(need.catch_up))}"
    return [
        ("rotations", peak),
        ("requests in flight", f"{need.in_flight:,.0f}"),
        ("worker processes", f"{need.workers}, of which one may be missing ({need.per_worker:,.0f} a second each)"),
        ("after an hour away", f"caught up {late}, if the provider lets it"),
        ("memory", f"{_size(need.memory)} with two beats and two web processes"),
        ("connections", f"{need.connections:,} at most"),
        ("PostgreSQL's cores", f"{need.database_cores:.1f}"),
        (
            "PostgreSQL's size",
            ", ".join(
                (
                    f"{_size(need.database_bytes)}: grants {_size(need.grants_bytes)}",
                    f"a day's lineage {_size(need.lineage_bytes)}",
                    f"events {_size(need.events_bytes)}",
                )
            ),
        ),
    ]


def _advice(need: Need) -> list[str]:
    found = []
    if need.rates.peak > 2 * need.rates.steady:
        found.append("the grants begin together: spread their first refreshes further (grants import --spread)")
    if need.connections > 200:  # noqa: PLR2004 -- where PostgreSQL's own advice for a pooler begins
        found.append("so many connections want a larger max_connections or a pooler (deploy/scaling.md)")
    if need.database_cores > 8:  # noqa: PLR2004 -- a large machine's half
        found.append("one PostgreSQL may not do: split the clients over several installations (deploy/scaling.md)")
    return found


def _whole(duration: timedelta) -> timedelta:
    """Return a duration in whole minutes, or in seconds where it is short."""
    seconds = max(1.0, duration.total_seconds())
    return timedelta(seconds=round(seconds)) if seconds < 100 else timedelta(minutes=round(seconds / 60))  # noqa: PLR2004 -- as people say it


def _size(count: int) -> str:
    for unit, size in (("TB", 10**12), ("GB", 10**9), ("MB", 10**6)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count / 1000:.0f} kB"
