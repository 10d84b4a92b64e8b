"""How long `GET …/access-token` takes at one web process: with the stored token, and with a refresh first."""

from __future__ import annotations

import statistics
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from tempfile import mkdtemp
from typing import Final

from tests.bench import population
from tests.bench.contenders.contender import database_now, wait_until
from tests.bench.contenders.evergrant import configuration
from tests.bench.findings import Findings, Table
from tests.bench.http_asking import ask_all
from tests.bench.options import Options
from tests.bench.safety import safety_facts
from tests.bench.token_endpoint import Behaviour
from tests.bench.world import CLIENT_SECRET, World
from tests.support.deployment import Deployment, deployed
from tests.support.raw_token_endpoint import free_port

_READY_WITHIN: Final = 60.0  # seconds, on a busy machine
_WARM_UP: Final = 200
#: Programs that ask at the same time, each over a connection of its own.
_AT_ONCE: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The answers to one kind of question, milliseconds each."""

    name: str
    milliseconds: list[float]

    @property
    def cuts(self) -> list[float]:
        """Return the 99 percentiles."""
        return statistics.quantiles(self.milliseconds, n=100)


def measure(world: World, options: Options) -> Findings:
    """Ask for stored tokens, one after the other and several at once, and for tokens that are refreshed first."""
    hits, misses = (2_000, 300) if options.quick else (10_000, 1_000)
    safety: Counter[str] = Counter()
    rounds = []
    for _ in range(options.rounds):
        rounds.append(_asked(world, hits, misses))
        safety.update({name: int(count) for name, count in safety_facts(world, "access-token").items()})
    asked = [
        Asked(name=kinds[0].name, milliseconds=[took for kind in kinds for took in kind.milliseconds])
        for kinds in zip(*rounds, strict=True)
    ]
    for kind in asked:
        world.say(f"  {kind.name:28} {kind.cuts[49]:6.2f} ms median, {kind.cuts[98]:6.2f} ms for 99 of 100")
    rows = tuple(
        (kind.name, f"{len(kind.milliseconds):,}", *(f"{found:.2f} ms" for found in (*_told(kind),))) for kind in asked
    )
    return Findings(
        part="access-token",
        tables=(
            Table(
                title="An access token, at one web process on loopback",
                headings=("question", "answers", "median", "99 of 100", "worst"),
                rows=rows,
            ),
        ),
        facts={**safety, **_facts(asked)},
        data={"ms_percentiles": {kind.name: kind.cuts for kind in asked}},
    )


def _facts(asked: Sequence[Asked]) -> dict[str, float]:
    return {
        f"access_token_{name}_{what}_ms": value
        for name, kind in zip(("hit", "hit_at_once", "miss"), asked, strict=True)
        for what, value in (("p50", kind.cuts[49]), ("p99", kind.cuts[98]))
    }


def _told(kind: Asked) -> tuple[float, float, float]:
    return kind.cuts[49], kind.cuts[98], max(kind.milliseconds)


def _asked(world: World, hits: int, misses: int) -> tuple[Asked, Asked, Asked]:
    grants = min(hits, 2_000)
    world.endpoint.reset(grants + misses, Behaviour())
    with world.connect() as connection:
        population.clear(connection)
        now = database_now(connection)
        fresh, old = now + timedelta(minutes=40), now - timedelta(minutes=30)
        due = [(number, fresh if number < grants else old) for number in range(grants + misses)]
        population.seed(connection, world.key_ring(), due)
        connection.execute("VACUUM ANALYZE grants")
    with served(world) as (url, headers):
        stored = [f"/v1/grants/{population.grant_id(number % grants)}/access-token" for number in range(hits)]
        ended = [f"/v1/grants/{population.grant_id(grants + number)}/access-token" for number in range(misses)]
        ask_all(url, headers, stored[:_WARM_UP], 1)
        ask_all(url, headers, ended[:10], 1)
        return (
            Asked(name="stored, one by one", milliseconds=_ms(ask_all(url, headers, stored, 1))),
            Asked(name=f"stored, {_AT_ONCE} at once", milliseconds=_ms(ask_all(url, headers, stored, _AT_ONCE))),
            Asked(name="refreshed first, one by one", milliseconds=_ms(ask_all(url, headers, ended[10:], 1))),
        )


@contextmanager
def served(world: World) -> Iterator[tuple[str, dict[str, str]]]:
    """Run one web process; gives its URL, and the headers of a program that may ask for tokens."""
    port = free_port()
    with deployed(
        Path(mkdtemp(prefix="web-", dir=world.folder)),
        database_url=world.database_url,
        broker_url=world.broker_url,
        keys=world.keys,
        configuration=configuration(world.endpoint.url, 100),
        workers=0,
        beats=0,
        EVERGRANT_LOG_LEVEL="info",
        BENCH_SECRET=CLIENT_SECRET,
    ) as deployment:
        token = _api_token(deployment)
        deployment.start("web", "web", "--port", str(port))
        url, headers = f"http://127.0.0.1:{port}", {"Authorization": f"Bearer {token}"}
        if not wait_until(lambda: _answers(url, headers), _READY_WITHIN):
            raise RuntimeError(f"the web process did not start: {deployment.log('web')[-2000:]}")
        yield url, headers


def _api_token(deployment: Deployment) -> str:
    ended = subprocess.run(
        [sys.executable, "-m", "worker.cli", "api-tokens", "create", "--role", "token"],
        env=deployment.environment,
        cwd=deployment.folder,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return ended.stdout.strip()


def _answers(url: str, headers: dict[str, str]) -> bool:
    try:
        return bool(ask_all(url, headers, ["/healthz"], 1))
    except (OSError, RuntimeError):
        return False


def _ms(seconds: list[float]) -> list[float]:
    return [1000 * took for took in seconds]
