"""What an operator and a scraper ask a web process: is it ready, what has it counted, and who may see the page."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import timedelta

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import WebMaker
from tests.support.database import execute
from tests.support.running_web import RunningWeb
from tests.support.sandbox_clients import adopt, register
from tests.support.scraping import families, sample
from tests.support.settling import claim, drain
from tests.support.signing_in import signed_in
from tests.support.tcp_proxy import TcpProxy
from worker.sandbox.server import RunningSandbox

#: The contract's metrics, with their types.
CONTRACT = {
    "evergrant_refresh_total": "counter",
    "evergrant_refresh_duration_seconds": "histogram",
    "evergrant_settle_duration_seconds": "histogram",
    "evergrant_rotation_lag_seconds": "histogram",
    "evergrant_grants": "gauge",
    "evergrant_overdue_grants": "gauge",
    "evergrant_oldest_overdue_seconds": "gauge",
    "evergrant_expired_access_tokens": "gauge",
    "evergrant_rotated_tokens_lost_total": "counter",
    "evergrant_in_doubt_total": "counter",
    "evergrant_superseded_total": "counter",
    "evergrant_leases_rescued_total": "counter",
    "evergrant_grants_dead_total": "counter",
    "evergrant_grants_revived_total": "counter",
    "evergrant_breaker_state": "gauge",
    "evergrant_brake_state": "gauge",
    "evergrant_escrow_depth": "gauge",
    "evergrant_reconsent_mails_total": "counter",
    "evergrant_last_scan_timestamp_seconds": "gauge",
    "evergrant_scan_duration_seconds": "histogram",
    "evergrant_provider_clock_skew_seconds": "gauge",
}
#: What a label may be: bounded by the configuration and by closed lists, never a grant.
LABELS = {"client", "provider", "outcome", "reason", "state", "resolution", "le"}


@pytest.fixture
def http() -> Iterator[httpx.Client]:
    """Open a client that asks no proxy."""
    with httpx.Client(trust_env=False, timeout=30) as client:
        yield client


def test_a_process_that_can_work_is_ready(make_web: WebMaker, http: httpx.Client) -> None:
    """With database and broker there, both health routes are fine."""
    with make_web("") as web:
        alive, ready = http.get(f"{web.url}/healthz"), http.get(f"{web.url}/readyz")

    assert (alive.status_code, alive.json()) == (200, {"status": "ok"})
    assert (ready.status_code, ready.json()) == (200, {"status": "ok", "checks": {"database": "ok", "broker": "ok"}})


def test_readiness_names_what_is_away_and_comes_back(
    make_web: WebMaker, http: httpx.Client, database_url: str, broker_url: str
) -> None:
    """Without its database or broker a process lives and is not ready, says which and how, and recovers by itself."""
    with (
        TcpProxy(database_url) as database,
        TcpProxy(broker_url) as broker,
        make_web("", database=database.url, broker=broker.url) as web,
    ):

        def checks() -> tuple[int, dict[str, str]]:
            answer = http.get(f"{web.url}/readyz")
            return answer.status_code, answer.json()["checks"]

        assert checks() == (200, {"database": "ok", "broker": "ok"})
        database.refuse()
        assert checks() == (503, {"database": "OperationalError", "broker": "ok"})
        broker.refuse()
        assert checks() == (503, {"database": "OperationalError", "broker": "ConnectionError"})
        assert http.get(f"{web.url}/healthz").status_code == 200
        database.accept()
        assert checks() == (503, {"database": "ok", "broker": "ConnectionError"})
        broker.accept()
        assert checks() == (200, {"database": "ok", "broker": "ok"})

        # Worse than away: both take the question and never answer.
        database.hold()
        broker.hold()
        asked = time.monotonic()
        assert checks() == (503, {"database": "TimeoutError", "broker": "TimeoutError"})
        assert time.monotonic() - asked < 4, "a probe does not wait for what hangs"
        database.release()
        broker.release()
        assert checks() == (200, {"database": "ok", "broker": "ok"})


def test_metrics_count_what_happened(sandbox: RunningSandbox, make_web: WebMaker, http: httpx.Client) -> None:
    """After rotations, a death, a rescued lease and an open breaker, the contract's metrics say exactly that."""
    steady = register(sandbox, name="steady")
    dying = register(sandbox, name="dying", provider="strikes = 1")
    misled = register(sandbox, name="misled", secret="another secret", client="max_in_flight = 1")
    lost = register(sandbox, name="lost")
    late = register(sandbox, name="late")
    clients = (steady, dying, misled, lost, late)
    with make_web("".join(client.toml for client in clients), **steady.environment) as web:
        work, container = web.run, web.container
        work(adopt(container, sandbox, steady, 3))
        work(drain(container, steady))
        revoked = work(adopt(container, sandbox, dying, 4))[0][1]
        sandbox.control.revoke_consent(dying.name, revoked.account)
        work(drain(container, dying))
        work(adopt(container, sandbox, misled, 2))
        work(drain(container, misled))
        work(adopt(container, sandbox, lost, 2, due=False))
        work(execute(container, "UPDATE grants SET rotate_at = now() WHERE client = 'lost'"))
        work(claim(container, lost, 1, timedelta(milliseconds=1)))
        before = time.time()  # noqa: TID251 -- compared with the scan's own wall clock
        work(container.dispatch.dispatch())
        work(adopt(container, sandbox, late, 3, due=False))
        work(
            execute(
                container,
                "UPDATE grants SET rotate_at = now() - interval '100 seconds', access_expires_at = now()"
                " WHERE client = 'late' AND subject IN ('account-1', 'account-2')",
            )
        )

        scrape = http.get(f"{web.url}/metrics").text

    served = families(scrape)
    assert {name: served.get(name) for name in CONTRACT} == CONTRACT
    for family in text_string_to_metric_families(scrape):
        for found in family.samples:
            assert set(found.labels) <= LABELS, found
    assert sample(scrape, "evergrant_refresh_total", client="steady", outcome="rotated", reason="ok") == 3
    assert sample(scrape, "evergrant_refresh_total", client="dying", outcome="rotated", reason="ok") == 3
    assert sample(scrape, "evergrant_refresh_total", client="dying", outcome="dead", reason="invalid_grant") == 1
    assert (
        sample(scrape, "evergrant_refresh_total", client="misled", outcome="misconfigured", reason="invalid_client")
        == 1
    )
    assert sample(scrape, "evergrant_refresh_duration_seconds_count", client="steady") == 3
    assert sample(scrape, "evergrant_rotation_lag_seconds_count", client="dying") == 4
    assert sample(scrape, "evergrant_settle_duration_seconds_count") == 8
    assert sample(scrape, "evergrant_grants_dead_total", client="dying", reason="invalid_grant") == 1
    died = sample(scrape, "evergrant_refresh_total", client="lost", outcome="in_doubt", reason="worker_died")
    assert (died, sample(scrape, "evergrant_leases_rescued_total")) == (1, 1)
    for name in ("evergrant_rotated_tokens_lost_total", "evergrant_superseded_total"):
        assert sample(scrape, name) == 0, name
    assert (sample(scrape, "evergrant_last_scan_timestamp_seconds") or 0) >= before - 1
    assert sample(scrape, "evergrant_scan_duration_seconds_count") == 1
    assert abs(sample(scrape, "evergrant_provider_clock_skew_seconds", provider="at-steady") or 0) < 60
    states = {
        ("steady", "active"): 3,
        ("dying", "active"): 3,
        ("dying", "reconsent_required"): 1,
        ("misled", "active"): 2,
        ("lost", "in_doubt"): 1,
        ("lost", "active"): 1,
        ("steady", "paused"): 0,
    }
    for (client, state), count in states.items():
        assert sample(scrape, "evergrant_grants", client=client, state=state) == count, (client, state)
    overdue = {client.name: sample(scrape, "evergrant_overdue_grants", client=client.name) for client in clients}
    assert overdue == {"steady": 0, "dying": 0, "misled": 2, "lost": 1, "late": 2}
    assert 100 <= (sample(scrape, "evergrant_oldest_overdue_seconds", client="late") or 0) < 200
    assert sample(scrape, "evergrant_expired_access_tokens", client="late") == 2
    assert sample(scrape, "evergrant_expired_access_tokens", client="steady") == 0
    breakers = {client.name: sample(scrape, "evergrant_breaker_state", client=client.name) for client in clients}
    assert breakers == {"steady": 0, "dying": 0, "misled": 1, "lost": 0, "late": 0}


def test_counters_are_served_without_the_database(
    sandbox: RunningSandbox, make_web: WebMaker, http: httpx.Client, database_url: str
) -> None:
    """While the database is away a scrape has what this process counted, and no gauge that might be wrong."""
    client = register(sandbox)
    with (
        TcpProxy(database_url) as database,
        make_web(client.toml, database=database.url, **client.environment) as web,
    ):
        web.run(adopt(web.container, sandbox, client, 2))
        web.run(drain(web.container, client))
        database.refuse()

        scrape = http.get(f"{web.url}/metrics")

    assert scrape.status_code == 200
    assert sample(scrape.text, "evergrant_refresh_total", client=client.name, outcome="rotated", reason="ok") == 2
    assert "evergrant_grants" not in families(scrape.text)
    assert sample(scrape.text, "evergrant_database_reachable") == 0


@pytest.mark.parametrize(
    ("broken", "lost", "reachable"),
    [
        ("ALTER TABLE webhook_endpoints RENAME TO elsewhere", "evergrant_webhook_waiting", 1),
        ("ALTER TABLE client_status RENAME TO elsewhere", "evergrant_grants", 0),
    ],
)
def test_a_query_that_fails_costs_its_own_gauges_only(
    *, sandbox: RunningSandbox, make_web: WebMaker, http: httpx.Client, broken: str, lost: str, reachable: int
) -> None:
    """A refused statement takes no other gauges along; where it is the clients' figures, that is told."""
    client = register(sandbox)
    webhook = '[webhooks.nobody]\nurl = "https://nobody.example/"\nsecret = "env:WEBHOOK_SECRET"\n'
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    with make_web(client.toml + webhook, **client.environment, WEBHOOK_SECRET=secret) as web:
        web.run(execute(web.container, broken))

        scrape = http.get(f"{web.url}/metrics")

    gauges = {
        "evergrant_grants",
        "evergrant_webhook_waiting",
        "evergrant_oldest_snapshot_transactions",
        "evergrant_workers",
    }
    assert scrape.status_code == 200
    assert gauges - set(families(scrape.text)) == {lost}
    assert sample(scrape.text, "evergrant_database_reachable") == reachable


@pytest.mark.parametrize("counts", [True, False])
def test_a_database_that_does_not_answer_is_away_whether_workers_are_counted_or_not(
    make_web: WebMaker, http: httpx.Client, database_url: str, counts: bool
) -> None:
    """No part that asks nothing stands for an answer."""
    with (
        TcpProxy(database_url) as database,
        make_web(f"[worker]\nsession_lock = {str(counts).lower()}", database=database.url) as web,
    ):
        database.refuse()
        assert sample(http.get(f"{web.url}/metrics").text, "evergrant_database_reachable") == 0


@pytest.fixture
def page(make_web: WebMaker) -> Iterator[RunningWeb]:
    """Serve the page of an installation without clients."""
    with make_web("") as web:
        yield web


def test_every_answer_is_shut_to_frames_and_scripts_of_others(page: RunningWeb, http: httpx.Client) -> None:
    """The page, a refusal and an error carry the security headers, and nothing but static files is kept."""
    answers = [
        http.get(f"{page.url}/"),
        http.get(f"{page.url}/sign-in"),
        http.get(f"{page.url}/there/is/none"),
        http.get(f"{page.url}/oauth/callback"),
    ]

    assert [answer.status_code for answer in answers] == [303, 200, 404, 400]
    for answer in answers:
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"


def test_the_page_says_that_the_database_is_away(make_web: WebMaker, database_url: str) -> None:
    """Without the database the page is a message that asks again by itself."""
    with TcpProxy(database_url) as database, make_web("", database=database.url) as web, signed_in(web) as person:
        database.refuse()

        page = person.get("/")

    assert (page.status_code, "The database does not answer" in page.text) == (503, True)
    assert int(page.headers["refresh"]) > 0
