"""A real Prometheus scrapes real processes: every expression answers, and a fault makes the right alerts fire and end.

The gate hurries the rules sixty times for the drill; EVERGRANT_TEST_ALERT_FACTOR=6 takes ten times as long, and so on.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import httpx
import psutil
import pytest

from tests.conftest import ContainerMaker
from tests.monitoring.dashboards.files import dashboards, expressions
from tests.monitoring.prometheus_tools import read_rules
from tests.monitoring.running_prometheus import RunningPrometheus
from tests.support.command_line import ROOT
from tests.support.deployment import Deployment, deployed
from tests.support.sandbox_clients import SECRET, adopt, make_due, register
from tests.support.waiting import until, wait_until
from worker.commands.running import with_running
from worker.domain.secret import Secret
from worker.embedded import start_bound, stop_in_steps
from worker.sandbox.behaviour import Behaviour
from worker.sandbox.server import RunningSandbox
from worker.supervisor import free_port

pytestmark = [pytest.mark.prometheus, pytest.mark.slow]

_FACTOR: Final = int(os.environ.get("EVERGRANT_TEST_ALERT_FACTOR", "60"))
#: Seconds in which a fault is seen: a minute of the rules' own, what the gauges are kept for, and some for the machine.
_PATIENCE: Final = 60.0 + 600.0 / _FACTOR
#: The drill's faults, each with exactly the alerts that it makes fire.
_BREAKER: Final = {"EvergrantBreakerOpen"}
_NO_WORKER: Final = {"EvergrantNoWorker", "EvergrantNoScan"}


def without_condition(expression: str) -> str:
    """Return an alert's expression with each comparison as a number instead of a filter: it answers if its parts do."""
    compared = re.sub(r" (>|<|==) ", r" \1 bool ", expression)
    return compared.replace("absent(", "max(")


@contextmanager
def demo(home: Path) -> Iterator[tuple[int, psutil.Process]]:
    """Run `evergrant up --demo`, and give its port and process."""
    port = free_port()
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("EVERGRANT_", "PROMETHEUS_"))}
    process = start_bound(
        (sys.executable, "-m", "worker.cli", "up", "--demo", "--port", str(port)),
        death_signal=signal.SIGKILL,
        env={**kept, "EVERGRANT_HOME_DIR": str(home), "EVERGRANT_LOG_LEVEL": "warning"},
        cwd=ROOT,
        log_path=home.parent / "up.log",
    )
    try:
        wait_until(lambda: _is_ready(port), 90.0, "the demo is up")
        yield port, psutil.Process(process.pid)
    finally:
        stop_in_steps(process, [(signal.SIGINT, 40.0), (signal.SIGKILL, 10.0)])


def _is_ready(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/readyz", trust_env=False).is_success
    except httpx.HTTPError:
        return False


@contextmanager
def beside(home: Path) -> Iterator[dict[str, str]]:
    """Run one more worker and web process of the demo's, and give their addresses by name."""
    environment = with_running({**os.environ, "EVERGRANT_HOME_DIR": str(home), "EVERGRANT_LOG_LEVEL": "warning"})
    own = home.parent / "beside.toml"
    webhook = '\n[webhooks.nobody]\nurl = "https://nobody.example/"\nsecret = "env:WEBHOOK_SECRET"\n'
    own.write_text(Path(environment["EVERGRANT_CONFIG"]).read_text(encoding="utf-8") + webhook, encoding="utf-8")
    worker, web, replica = free_port(), free_port(), free_port()
    environment |= {
        "EVERGRANT_CONFIG": str(own),
        "WEBHOOK_SECRET": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    }
    started = [
        start_bound(
            (sys.executable, "-m", "worker.cli", *command),
            death_signal=signal.SIGKILL,
            env={**environment, "EVERGRANT_METRICS_PORT": str(metrics)},
            cwd=ROOT,
            log_path=home.parent / f"beside-{command[0]}.log",
        )
        for metrics, command in ((worker, ("worker",)), (replica, ("web", "--port", str(web))))
    ]
    try:
        wait_until(lambda: _is_ready(worker) and _is_ready(web), 60.0, "the processes beside the demo are ready")
        yield {"worker": f"127.0.0.1:{worker}", "replica": f"127.0.0.1:{replica}"}
    finally:
        for process in started:
            process.send_signal(signal.SIGTERM)
        for process in started:
            stop_in_steps(process, [(signal.SIGTERM, 30.0), (signal.SIGKILL, 10.0)])


def test_every_expression_answers_in_the_demo(tmp_path: Path) -> None:
    """All rules are evaluated without an error, every panel and every part of a condition has data, nothing doubles."""
    home = tmp_path / "home"
    with (
        demo(home) as (port, up),
        beside(home) as others,
        RunningPrometheus(tmp_path / "prometheus", {"up": f"127.0.0.1:{port}", **others}) as prometheus,
    ):
        asked = {rule.name: without_condition(rule.expression) for rule in read_rules()} | {
            expression: expression.replace("$client", ".+")
            for found in dashboards().values()
            for expression in expressions(found)
        }

        def silent() -> list[str]:
            return [name for name, expression in asked.items() if not prometheus.query(expression)]

        deadline = time.monotonic() + 90.0
        while (missing := silent()) and time.monotonic() < deadline:
            time.sleep(1.0)
        assert missing == []
        assert prometheus.unhealthy_rules() == []
        assert prometheus.unscraped() == []

        # Two web processes and a database: the figures are the database's, and those of one equal those of the other.
        # They are read at different moments while grants change state, so it is agreement that is awaited: figures that
        # doubled would never agree.
        def agree() -> bool:
            every = prometheus.number("sum(max by (client, state) (evergrant_grants))")
            return every >= 48 and every == prometheus.number('sum(evergrant_grants{job="replica"})')

        wait_until(agree, 60.0, "the figures of one replica equal those of all")
        assert prometheus.number("max(evergrant_workers)") == 2

        before = prometheus.number('sum(evergrant_refresh_total{job="up"})')
        _worker_of(up).kill()
        wait_until(lambda: prometheus.number('sum(evergrant_refresh_total{job="up"})') > before + 5, 60.0, "it goes on")
        assert prometheus.number('sum(resets(evergrant_refresh_total{job="up"}[10m]))') == 0


def _worker_of(up: psutil.Process) -> psutil.Process:
    (worker,) = [child for child in up.children(recursive=True) if child.cmdline()[-2:] == ["worker.cli", "worker"]]
    return worker


@pytest.mark.anyio
async def test_a_fault_makes_exactly_its_alerts_fire_and_end(
    *,
    sandbox: RunningSandbox,
    make_container: ContainerMaker,
    database_url: str,
    broker_url: str,
    keys: Secret,
    tmp_path: Path,
) -> None:
    """A refused client secret and a killed worker each fire their alerts and no other; mended, all of them end."""
    client = register(sandbox, behaviour=Behaviour(access_lifetime=3600), client="max_in_flight = 1")
    with deployed(
        tmp_path,
        database_url=database_url,
        broker_url=broker_url,
        keys=keys,
        configuration=client.toml,
        workers=0,
        beats=1,
        CLIENT_SECRET=SECRET,
    ) as deployment:
        web, worker = free_port(), free_port()
        deployment.start("web", "web", "--port", str(web))
        deployment.environment["EVERGRANT_METRICS_PORT"] = str(worker)
        deployment.start("worker", "worker")
        wait_until(lambda: _is_ready(web) and _is_ready(worker), 60.0, "the deployment is ready")
        async with make_container(client.toml, **client.environment) as container:
            await adopt(container, sandbox, client, 3, due=False)
            targets = {"web": f"127.0.0.1:{web}", "worker": f"127.0.0.1:{worker}"}
            with RunningPrometheus(tmp_path / "prometheus", targets, factor=_FACTOR) as prometheus:
                await until(
                    lambda: not prometheus.unscraped() and prometheus.query("evergrant_workers"), 30.0, "scraped"
                )
                await until(lambda: prometheus.firing() == set(), _PATIENCE, "all is quiet")

                sandbox.control.change_secret(client.name, Secret("another secret"))
                await make_due(container)
                await fired_exactly(prometheus, _BREAKER)
                sandbox.control.change_secret(client.name, Secret(SECRET))
                assert await container.statuses.resume(client.name)
                await until(lambda: prometheus.firing() == set(), _PATIENCE, "the breaker's alert has ended")

                kill(deployment, "worker")
                await fired_exactly(prometheus, _NO_WORKER)
                deployment.start("worker", "worker")
                await until(lambda: prometheus.firing() == set(), _PATIENCE, "all alerts have ended")
                assert prometheus.unhealthy_rules() == []


async def fired_exactly(prometheus: RunningPrometheus, alerts: set[str]) -> None:
    """Wait until these alerts fire, and see that no other does then or for a while after."""
    await until(lambda: alerts <= prometheus.firing(), _PATIENCE, f"{sorted(alerts)} fire")
    watched_until = time.monotonic() + 5.0 * 60 / _FACTOR
    await until(lambda: prometheus.firing() != alerts or time.monotonic() > watched_until, _PATIENCE, "watched")
    assert prometheus.firing() == alerts


def kill(deployment: Deployment, name: str) -> None:
    """End a process without warning."""
    process: subprocess.Popen[bytes] = deployment.processes[name]
    process.kill()
    process.wait()
