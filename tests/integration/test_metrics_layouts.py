"""The same numbers whatever the layout: several processes in one folder, kills, two web replicas, two formats."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families

from tests.conftest import WebMaker
from tests.support.command_line import ROOT
from tests.support.sandbox_clients import adopt, register
from tests.support.scraping import sample
from worker.exposition import exposition
from worker.metrics import MAIL_OUTCOMES, Metrics
from worker.sandbox.server import RunningSandbox
from worker.storage.rescue import Rescued

OPEN_METRICS = "application/openmetrics-text; version=1.0.0"
#: Counts what it is told to on standard input, as a worker process does, and answers each time.
COUNTING = """
import sys
from prometheus_client import REGISTRY
from worker.metrics import Metrics
metrics = Metrics(REGISTRY, lambda: 5.0)
for line in sys.stdin:
    metrics.superseded.inc(int(line))
    metrics.scanned(0.001)
    metrics.escrow_depth.set(int(line))
    print("counted", flush=True)
"""


class Counting:
    """A process that counts into a folder that it shares with others."""

    def __init__(self, folder: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", COUNTING],
            env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(folder), "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def count(self, number: int) -> None:
        """Count, and wait till it is counted."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{number}\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == "counted\n"

    def kill(self) -> None:
        """End it without warning."""
        self._process.send_signal(signal.SIGKILL)
        self._process.communicate()


def test_counters_of_processes_that_were_killed_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counters of several processes are summed, a kill and a restart take nothing away; gauges are the newest one's."""
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))

    def read(name: str) -> float | None:
        return sample(exposition(CollectorRegistry(), "")[0].decode(), name)

    first, second = Counting(tmp_path), Counting(tmp_path)
    try:
        first.count(3)
        second.count(4)
        assert read("evergrant_superseded_total") == 7
        first.kill()
        assert read("evergrant_superseded_total") == 7
        first = Counting(tmp_path)
        first.count(2)
    finally:
        first.kill()
        second.kill()

    assert read("evergrant_superseded_total") == 9
    assert read("evergrant_scan_duration_seconds_count") == 3
    assert (read("evergrant_last_scan_timestamp_seconds"), read("evergrant_escrow_depth")) == (5, 2)


def test_two_web_replicas_show_the_same_gauges(sandbox: RunningSandbox, make_web: WebMaker) -> None:
    """Gauges of the database are its own values in each replica, so that the greatest of them is the number."""
    client = register(sandbox)
    with make_web(client.toml, **client.environment) as one, make_web(client.toml, **client.environment) as other:
        one.run(adopt(one.container, sandbox, client, 5))
        scrapes = [httpx.get(f"{web.url}/metrics", trust_env=False).text for web in (one, other)]

    for scrape in scrapes:
        assert sample(scrape, "evergrant_grants", client=client.name, state="active") == 5
        assert sample(scrape, "evergrant_overdue_grants", client=client.name) == 5
        assert sample(scrape, "evergrant_database_reachable") == 1
        assert sample(scrape, "evergrant_workers") == 0
        assert sample(scrape, "evergrant_key_ring_keys") == 1


def test_series_of_configured_clients_begin_at_zero() -> None:
    """A rate sees a client's first rotation, death, doubt, mail and killed worker: their series were there before."""
    registry = CollectorRegistry()
    metrics = Metrics(registry, lambda: 0.0)
    metrics.expect(["acme"], mails=True)
    scrape = exposition(registry, "")[0].decode()

    assert sample(scrape, "evergrant_refresh_total", client="acme", outcome="rotated", reason="ok") == 0
    assert sample(scrape, "evergrant_refresh_total", client="acme", outcome="in_doubt", reason="worker_died") == 0
    assert sample(scrape, "evergrant_grants_dead_total", client="acme", reason="invalid_grant") == 0
    assert sample(scrape, "evergrant_in_doubt_total", client="acme", resolution="reconsent_required") == 0
    assert sample(scrape, "evergrant_rotation_lag_seconds_count", client="acme") == 0
    for outcome in MAIL_OUTCOMES:
        assert sample(scrape, "evergrant_reconsent_mails_total", client="acme", outcome=outcome) == 0


def test_each_doubt_that_a_killed_worker_left_is_an_outcome() -> None:
    """A rescue counts a refresh in doubt for each grant of each client, for those too that are given up at once."""
    registry = CollectorRegistry()
    Metrics(registry, lambda: 0.0).rescued(Rescued(leases=5, in_doubt=("acme", "acme", "other"), given_up=("acme",)))
    scrape = exposition(registry, "")[0].decode()

    counted = {
        client: sample(scrape, "evergrant_refresh_total", client=client, outcome="in_doubt", reason="worker_died")
        for client in ("acme", "other")
    }
    assert counted == {"acme": 3, "other": 1}
    assert sample(scrape, "evergrant_leases_rescued_total") == 5
    assert sample(scrape, "evergrant_grants_dead_total", client="acme", reason="rotation_reply_lost") == 1


def test_openmetrics_has_exemplars_with_traces() -> None:
    """Asked for OpenMetrics, a histogram names the trace of a refresh; the plain format has none."""
    registry = CollectorRegistry()
    metrics = Metrics(registry, lambda: 0.0, lambda: {"trace_id": "4bf92f3577b34da6a3ce929d0e0e4736"})
    metrics.settled(None, seconds=0.003)  # type: ignore[arg-type] # the grant is no label
    plain, plain_type = exposition(registry, "text/plain;version=0.0.4")
    asked, asked_type = exposition(registry, OPEN_METRICS)

    assert plain_type.startswith("text/plain")
    assert b"trace_id" not in plain
    assert asked_type.startswith("application/openmetrics-text")
    exemplars = [
        found.exemplar
        for family in openmetrics_families(asked.decode())  # type: ignore[no-untyped-call]
        for found in family.samples
        if found.exemplar is not None
    ]
    assert [found.labels for found in exemplars] == [{"trace_id": "4bf92f3577b34da6a3ce929d0e0e4736"}]


def test_every_metric_says_what_it_is_and_in_which_unit() -> None:
    """Each has a help text; what is measured in seconds says so."""
    registry = CollectorRegistry()
    Metrics(registry, lambda: 0.0)
    for metric in registry.collect():
        assert metric.documentation, metric.name
        if metric.name.endswith("_seconds"):
            assert "seconds" in metric.documentation, metric.name
