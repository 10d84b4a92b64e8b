"""Probes of workers and beat, by port and by command: alive, ready, and why not."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import httpx

from tests.support.command_line import CommandLine
from tests.support.deployment import Deployment, deployed
from tests.support.scraping import families
from tests.support.tcp_proxy import TcpProxy
from tests.support.waiting import wait_until
from worker.beat import STUCK_SECONDS, Pulse
from worker.domain.secret import Secret
from worker.supervisor import environment_of, free_port

_STARTS_WITHIN = 60.0  # seconds; a process takes two or three


def start(deployment: Deployment, name: str) -> int:
    """Start `evergrant NAME` with probes, and return their port."""
    port = free_port()
    deployment.environment["EVERGRANT_METRICS_PORT"] = str(port)
    deployment.start(name, name)
    return port


def answer(port: int, path: str) -> tuple[int, str]:
    """Ask a probe; status 0 where nothing answers."""
    try:
        found = httpx.get(f"http://127.0.0.1:{port}/{path}", trust_env=False, timeout=6.0)
    except httpx.HTTPError as error:
        return 0, type(error).__name__
    return found.status_code, found.text


def test_worker_and_beat_say_how_they_are(database_url: str, broker_url: str, keys: Secret, tmp_path: Path) -> None:
    """Both answer on their port, say what is away, and stay alive without it; a stopped one does not answer."""
    with (
        TcpProxy(database_url) as database,
        TcpProxy(broker_url) as broker,
        deployed(
            tmp_path,
            database_url=database.url,
            broker_url=broker.url,
            keys=keys,
            configuration="",
            workers=0,
            beats=0,
        ) as deployment,
    ):
        worker, beat = start(deployment, "worker"), start(deployment, "beat")
        wait_until(
            lambda: answer(worker, "readyz")[0] == answer(beat, "readyz")[0] == 200, _STARTS_WITHIN, "both are ready"
        )
        command_line = CommandLine(folder=tmp_path)

        assert answer(worker, "healthz") == answer(beat, "healthz") == (200, '{"status": "ok"}')
        served = families(answer(worker, "metrics")[1])
        assert served["evergrant_refresh_total"] == "counter"
        assert served["process_cpu_seconds_total"] == "counter"
        assert answer(worker, "elsewhere")[0] == 404
        well = command_line.run("health", "--port", str(worker), "--ready")
        assert (well.code, '"database": "ok"' in well.out) == (0, True)

        database.refuse()
        broker.refuse()
        wait_until(lambda: answer(worker, "readyz")[0] == 503, 20.0, "the worker is not ready")
        assert '"database": "OperationalError"' in answer(worker, "readyz")[1]
        wait_until(lambda: answer(beat, "readyz")[0] == 503, 40.0, "beat is not ready")
        assert answer(worker, "healthz")[0] == answer(beat, "healthz")[0] == 200
        database.accept()
        broker.accept()
        wait_until(lambda: answer(worker, "readyz")[0] == answer(beat, "readyz")[0] == 200, 40.0, "both are ready")

        # A second process cannot have the port, and says which setting to change.
        taken = command_line.having(
            **{name: value for name, value in deployment.environment.items() if name.startswith("EVERGRANT_")}
        ).run("beat")
        assert (taken.code, "EVERGRANT_METRICS_PORT" in taken.err) == (2, True)

        process = deployment.processes["worker"]
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        dead = command_line.run("health", "--port", str(worker))
        assert (dead.code, "nothing answers" in dead.err) == (1, True)


def test_beat_that_stands_still_is_not_alive() -> None:
    """A loop that has not turned for long is a reason to start beat again; one that turns is not."""
    now = [0.0]
    pulse = Pulse(lambda: now[0])
    assert pulse.complaints() == []
    now[0] = STUCK_SECONDS + 1
    assert pulse.complaints() == [f"beat's loop has not turned for {STUCK_SECONDS + 1:.0f} s"]
    pulse.turned()
    assert pulse.complaints() == []


def test_health_asks_for_a_port(tmp_path: Path) -> None:
    """Without a port the command says how to give one, and that it was used wrongly."""
    ended = CommandLine(folder=tmp_path).run("health")
    assert (ended.code, "--port" in ended.err) == (2, True)


def test_web_serves_metrics_on_a_port_of_their_own(
    database_url: str, broker_url: str, keys: Secret, tmp_path: Path
) -> None:
    """Metrics are on EVERGRANT_METRICS_PORT alone, probes on both ports, and pages on the other one alone."""
    pages, metrics = free_port(), free_port()
    with deployed(
        tmp_path,
        database_url=database_url,
        broker_url=broker_url,
        keys=keys,
        configuration="",
        workers=0,
        beats=0,
        EVERGRANT_METRICS_PORT=str(metrics),
    ) as deployment:
        deployment.start("web", "web", "--port", str(pages))
        wait_until(lambda: answer(metrics, "readyz")[0] == 200, _STARTS_WITHIN, "web is ready")

        served = families(answer(metrics, "metrics")[1])
        assert (served["evergrant_refresh_total"], served["evergrant_database_reachable"]) == ("counter", "gauge")
        assert answer(pages, "healthz") == answer(metrics, "healthz")
        assert answer(pages, "readyz")[0] == 200
        for path in ("metrics", "metrics?x=1", "metrics%0A", "metrics/"):
            assert answer(pages, path) == (404, '{"status":"not found"}'), path
        asked_for = httpx.get(
            f"http://127.0.0.1:{pages}/metrics", headers={"Host": f"127.0.0.1:{metrics}"}, trust_env=False
        )
        assert asked_for.status_code == 404, "whatever a request says of itself"
        assert answer(pages, "sign-in")[0] == 200
        for path in ("sign-in", "v1/grants", "", "static/console.css"):
            assert answer(metrics, path)[0] == 404, path

        # Neither port can be had twice, and whoever tries is told which setting to change.
        command_line = CommandLine(folder=tmp_path).having(
            **{name: value for name, value in deployment.environment.items() if name.startswith("EVERGRANT_")}
        )
        for port in (free_port(), metrics):
            ended = command_line.run("web", "--port", str(port))
            assert (ended.code, "EVERGRANT_METRICS_PORT" in ended.err) == (2, True), ended.err


def test_of_several_processes_the_web_process_has_the_port() -> None:
    """Processes that share an environment do not contend for one port."""
    shared = {"EVERGRANT_METRICS_PORT": "9100", "EVERGRANT_KEYS": "k1:x"}
    assert environment_of("web", shared) == shared
    for name in ("worker", "beat", "sandbox", "demo"):
        assert environment_of(name, shared) == {"EVERGRANT_KEYS": "k1:x"}, name
