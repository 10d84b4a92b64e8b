"""How often a request runs into a connection that the server is just closing, with keep-alive and without.

Such a request is in doubt, for nobody can tell whether it was read. A server that closes idle connections decides so at
one end while the request leaves at the other: what is sent within a round trip before the FIN is seen was sent in vain.
Loopback has no round trip to speak of; the endpoint makes one (`closing_takes`). Each lane has a connection of its own
and pauses between its requests, evenly drawn from nothing to twice the server's patience.
"""

from __future__ import annotations

import asyncio
import random  # noqa: TID251 -- pauses between requests, drawn from a seed
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Final
from unittest import mock

import httpx

from tests.bench.findings import Findings, Table
from tests.bench.options import Options
from tests.bench.token_endpoint import Behaviour
from tests.bench.tokens import refresh_token
from tests.bench.world import CLIENT, World
from worker.domain.outcome import InDoubt, Rotated
from worker.domain.secret import Secret
from worker.oauth import http_pool
from worker.oauth.client import Client
from worker.oauth.http_client import create_http_client
from worker.oauth.http_pool import KEEPALIVE_SECONDS
from worker.oauth.registry import build_registry
from worker.oauth.token_endpoint import TokenEndpoint

#: Seconds of a round trip, as across a continent.
_ROUND_TRIP: Final = 0.05
#: Idle times after which servers close, seconds: gunicorn's 2, Node.js' and Apache's 5.
_SERVERS: Final = (2.0, 5.0)
#: What the client does with an idle connection: seconds until it is dropped.
_POLICIES: Final = {
    f"dropped after {KEEPALIVE_SECONDS:g} s (Evergrant)": KEEPALIVE_SECONDS,
    "dropped after 1 s": 1.0,
    "dropped after 15 s (aiohttp's default)": 15.0,
    "a new one each time": 0.0,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """What became of the requests of one policy against one server."""

    policy: str
    server: float
    requests: int
    in_doubt: int
    other: int  #: neither answered nor in doubt: nothing had been sent
    connections: int


def measure(world: World, options: Options) -> Findings:
    """Let each policy send requests with pauses, to each server."""
    lanes, seconds = (200, 6.0) if options.quick else (1_000, 15.0)
    found = []
    for server in _SERVERS:
        for policy, keep in _POLICIES.items():
            world.endpoint.reset(lanes, Behaviour(close_idle_after=server, closing_takes=_ROUND_TRIP))
            with mock.patch.object(http_pool, "KEEPALIVE_SECONDS", keep):
                outcomes = asyncio.run(_send(_client(world), lanes, seconds, 2 * server))
            counts = world.endpoint.counts()
            counted = Counted(
                policy=policy,
                server=server,
                requests=outcomes.total(),
                in_doubt=outcomes["in doubt"],
                other=outcomes["other"],
                connections=counts.connections,
            )
            found.append(counted)
            world.say(f"  server closes after {server:g} s, {policy}: {counted.in_doubt} of {counted.requests}")
    return _findings(found)


def _client(world: World) -> Client:
    provider = {
        "authorization_endpoint": f"{world.endpoint.url}/authorize",
        "token_endpoint": f"{world.endpoint.url}/token",
        "request_timeout": "5s",
    }
    registry = build_registry(
        catalogue={},
        providers={CLIENT: provider},
        clients={CLIENT: {"provider": CLIENT, "client_id": CLIENT, "client_secret": "env:S"}},
        environment={"S": "secret"},
        public_url="http://127.0.0.1",
    )
    return registry.client(CLIENT)


async def _send(client: Client, lanes: int, seconds: float, longest_pause: float) -> Counter[str]:
    """Send from every lane, one request at a time with pauses; a lane's token goes on only where it was read."""
    outcomes: Counter[str] = Counter()
    chance, tls = random.Random(5), httpx.create_ssl_context()
    deadline = time.monotonic() + seconds

    async def lane(number: int) -> None:
        generation = 0
        async with create_http_client(user_agent="bench", trust=lambda: tls) as http:
            endpoint = TokenEndpoint(http, time.monotonic)
            pause = chance.uniform(0.0, longest_pause / 2)
            while time.monotonic() + pause < deadline:
                await asyncio.sleep(pause)
                answer = await endpoint.refresh(client, Secret(refresh_token(number, generation)))
                match answer.outcome:
                    case Rotated():
                        generation += 1
                        outcomes["answered"] += 1
                    case InDoubt():
                        outcomes["in doubt"] += 1
                    case _:
                        outcomes["other"] += 1
                pause = chance.uniform(0.0, longest_pause)

    await asyncio.gather(*(lane(number) for number in range(lanes)))
    return outcomes


def _findings(found: Sequence[Counted]) -> Findings:
    rows = tuple(
        (
            f"{counted.server:g} s",
            counted.policy,
            f"{counted.requests:,}",
            f"{counted.connections:,}",
            f"{counted.in_doubt:,}",
            f"{1000 * counted.in_doubt / counted.requests:.1f}",
        )
        for counted in found
    )
    return Findings(
        part="keepalive",
        tables=(
            Table(
                title=f"Requests into a connection that is being closed, {1000 * _ROUND_TRIP:.0f} ms of round trip",
                headings=(
                    "server closes after",
                    "an idle connection is",
                    "requests",
                    "connections",
                    "in doubt",
                    "of 1,000",
                ),
                rows=rows,
            ),
        ),
        facts={
            f"doubt_per_1000:{counted.server:g}:{counted.policy}": 1000 * counted.in_doubt / counted.requests
            for counted in found
        },
        data={"counted": [asdict(counted) for counted in found]},
    )
