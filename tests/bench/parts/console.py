"""How long the console's pages take at the server with a million grants: overview, lists and searches, one grant."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx
from prometheus_client import CollectorRegistry

from tests.bench import filling
from tests.bench.findings import Findings, Table, spread
from tests.bench.options import Options
from tests.bench.world import CLIENT, World
from tests.support.running_web import RunningWeb
from tests.support.signing_in import signed_in
from worker.bootstrap import Container, create_container
from worker.settings import load_settings
from worker.storage.forecasts import reckon

_NAME: Final = "console"
_SIZE: Final = 1_000_000
_QUICK_SIZE: Final = 100_000
_ROUNDS: Final = 15
_CONFIGURATION: Final = f"""
[providers.bench]
authorization_endpoint = "https://login.bench.example/authorize"
token_endpoint = "https://api.bench.example/token"
client_auth = "none"
refresh_lifetime = "90d"

[clients.{CLIENT}]
provider = "bench"
client_id = "bench"
"""
#: One in a hundred has died, as many have an owner's address, and some are paused.
_VARIETY: Final = """
    UPDATE grants SET state = 'reconsent_required', state_reason = 'invalid_grant', rotate_at = NULL,
           state_since = now() - random() * interval '30 days', email = subject || '@example.com',
           account = 'a-' || subject
     WHERE subject LIKE '%77';
    UPDATE grants SET state = 'paused', state_reason = 'operator', rotate_at = NULL WHERE subject LIKE '%499';
    UPDATE grants SET refresh_expires_at = now() + random() * interval '90 days' WHERE subject LIKE '%3';
    INSERT INTO rotations (at, grant_id, client, subject, generation)
    SELECT now() - n * interval '80 ms', id, client, subject, 1
      FROM (SELECT id, client, subject, row_number() OVER () AS n FROM grants LIMIT 200000) AS g ORDER BY n DESC;
    INSERT INTO events (at, type, client, grant_id, subject, data)
    SELECT now() - interval '1 day', 'grant.reconsent_required', client, id, subject, '{"reason": "invalid_grant"}'
      FROM grants WHERE state = 'reconsent_required';
    INSERT INTO refresh_hours (hour, client, outcome, reporter, refreshes)
    SELECT hour, client, outcome, CAST('00000000-0000-0000-0000-000000000000' AS uuid), 1000
      FROM generate_series(date_trunc('hour', now()) - interval '34 days', now(), '1 hour') AS hour,
           unnest(ARRAY['bench', 'b', 'c', 'd']) AS client, unnest(ARRAY['rotated', 'dead', 'in_doubt']) AS outcome;
    VACUUM (ANALYZE)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """One page; milliseconds."""

    what: str
    times: list[float]


def measure(world: World, options: Options) -> Findings:
    """Fill a database, and ask the web process for each page over and over."""
    size = _QUICK_SIZE if options.quick else _SIZE
    url = world.migrated_database(_NAME)
    with world.connect(url) as connection:
        filling.grow(connection, world.key_ring(), 0, size, world.say)
        for statement in _VARIETY.split(";"):
            connection.execute(statement.encode())
        [(dead,)] = connection.execute("SELECT id FROM grants WHERE state = 'reconsent_required' LIMIT 1").fetchall()
    world.say(f"  {size:,} grants are in the table")
    with RunningWeb(lambda _url, registry: _container(world, url, registry)) as web:
        reckoned = _reckon(web)
        found = [Timed(what=what, times=_times(web, path)) for what, path in _pages(str(dead)).items()]
    world.drop_database(_NAME)
    return _findings(size, found, reckoned)


def _pages(dead: str) -> Mapping[str, str]:
    return {
        "overview": "/",
        "overview, 30 days": "/overview?span=30d",
        "grants": "/grants",
        "grants, by state since": "/grants?sort=-since",
        "grants, by next refresh": "/grants?sort=due",
        "grants that need their owner": "/grants?state=reconsent_required&sort=-since",
        "grants of a reason and client": f"/grants?reason=invalid_grant&client={CLIENT}",
        "search that finds one": "/grants?q=filling-77777",
        "search that finds all": "/grants?q=filling",
        "search that finds none": "/grants?q=nobody",
        "search by mail": "/grants?q=filling-777@",
        "search within a state": "/grants?q=filling-1&state=reconsent_required",
        "one grant": f"/grants/{dead}",
        "clients": "/clients",
        "mails": "/mails",
    }


def _container(world: World, url: str, registry: CollectorRegistry) -> Container:
    configuration = Path(world.folder) / "console.toml"
    configuration.write_text(_CONFIGURATION, encoding="utf-8")
    settings = load_settings(
        {
            "EVERGRANT_DATABASE_URL": url,
            "EVERGRANT_KEYS": world.keys.reveal(),
            "EVERGRANT_CONFIG": str(configuration),
            "EVERGRANT_HOME_DIR": str(world.folder / "console"),
        }
    )
    return create_container(settings, name="bench console", environment={}, registry=registry)


def _reckon(web: RunningWeb) -> float:
    began = time.perf_counter()
    web.run(asyncio.wait_for(reckon(web.container.engine, [CLIENT]), 60))
    return 1000 * (time.perf_counter() - began)


def _times(web: RunningWeb, path: str) -> list[float]:
    with signed_in(web) as http:
        _ask(http, path)  # the first one compiles the template and connects
        return [_ask(http, path) for _round in range(_ROUNDS)]


def _ask(http: httpx.Client, path: str) -> float:
    began = time.perf_counter()
    answer = http.get(path)
    taken = 1000 * (time.perf_counter() - began)
    assert answer.status_code == httpx.codes.OK, f"{path}: {answer.status_code}"
    return taken


def _findings(size: int, found: list[Timed], reckoned: float) -> Findings:
    rows = [(timed.what, spread(timed.times, 0), f"{max(timed.times):.0f}") for timed in found]
    return Findings(
        part="console",
        tables=(
            Table(
                title=f"The console's pages with {size:,} grants, ms at the server",
                headings=("page", "median (range)", "slowest"),
                rows=(*rows, ("both forecasts, once a minute, by a worker", f"{reckoned:.0f}", "")),
            ),
        ),
        facts={"console_ms": max(statistics.median(timed.times) for timed in found)},
        data={"pages": {timed.what: timed.times for timed in found}, "reckoned_ms": reckoned},
    )
