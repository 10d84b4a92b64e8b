"""What a user writes first, measured: Celery's prefork pool, a task a grant, the row locked during the request."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil
import psycopg

from tests.bench.contenders import baseline_table
from tests.bench.contenders.baseline_table import BaselineTable
from tests.bench.contenders.contender import Cell, Measured, Meter, database_now, stored_since, wait_until
from tests.bench.environment import with_packages
from tests.bench.token_endpoint import Behaviour
from tests.bench.world import World
from worker.embedded import start_bound, stop_in_steps

#: The pool's processes: on two cores more of them gain nothing but at long latencies.
PROCESSES: Final = 8
#: Grants refreshed before a run, so that every process has imported and connected.
_WARM_UP: Final = 80
#: Messages that wait at most; nobody gets through more of them in the time of a run.
_MESSAGES: Final = 6_000
_READY_WITHIN: Final = 60.0  # seconds, on a busy machine
_MODULE: Final = "tests.bench.contenders.first_try_tasks"


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstTry:
    """The user's worker.

    Attributes:
        name: in the report.
        shared: whether each process keeps one httpx client, or calls `httpx.post`.

    """

    name: str
    shared: bool

    def run(self, world: World, cell: Cell) -> Measured:
        """Work on a column's grants for its time, and measure."""
        broker = f"{world.broker_url.rsplit('/', 1)[0]}/2"
        os.environ["FIRST_TRY_BROKER"] = broker  # read by the application, here and in its worker
        grants = min(cell.grants, _MESSAGES)
        with world.connect(world.baseline_url) as connection:
            world.endpoint.reset(grants, Behaviour())
            baseline_table.fill(connection, BaselineTable.CLEAR, grants, world.key_ring())
            with _celery(world, broker, shared=self.shared) as (app, process):
                _send(app, range(_WARM_UP), queue="warm")
                wait_until(lambda: _refreshed(connection) == _WARM_UP, _READY_WITHIN)
                world.endpoint.behave(cell.behaviour)
                _send(app, range(_WARM_UP, grants), queue="grants")
                meter = Meter(world, [process.pid])
                began = database_now(connection)
                app.control.add_consumer("grants", reply=False)
                wait_until(lambda: _refreshed(connection) == grants, cell.at_most, every=0.25)
                meter.stop()
                ended = database_now(connection)
            stored = stored_since(connection, BaselineTable.CLEAR, began, ended)
            lost = baseline_table.lost_tokens(
                connection, BaselineTable.CLEAR, world.endpoint.generations(), world.key_ring()
            )
            return meter.measured(self.name, cell, stored, lost=lost)


@contextmanager
def _celery(world: World, broker: str, *, shared: bool) -> Iterator[tuple[Any, subprocess.Popen[bytes]]]:
    from tests.bench.contenders.first_try_tasks import SHARED, WARM_QUEUE, app  # noqa: PLC0415 -- reads the environment

    app.conf.broker_url = broker
    environment = {
        **with_packages(),
        "FIRST_TRY_BROKER": broker,
        "FIRST_TRY_DATABASE": world.baseline_url,
        "FIRST_TRY_ENDPOINT": world.endpoint.url,
        **({SHARED: "1"} if shared else {}),
    }
    command = ("worker", "--pool", "prefork", "--concurrency", str(PROCESSES), "--queues", WARM_QUEUE)
    process = start_bound(
        (sys.executable, "-m", "celery", "-A", _MODULE, *command, "--loglevel", "WARNING"),
        death_signal=signal.SIGTERM,
        env=environment,
        cwd=Path.cwd(),
        log_path=world.folder / "first_try.log",
    )
    try:
        yield app, process
    finally:
        children = psutil.Process(process.pid).children(recursive=True)
        app.control.purge()
        stop_in_steps(process, [(signal.SIGTERM, 30.0), (signal.SIGKILL, 10.0)])
        for child in children:
            if child.is_running():
                child.kill()
        _forget_messages(broker)


def _send(app: Any, grants: range, *, queue: str) -> None:
    with app.producer_pool.acquire(block=True) as producer:
        for number in grants:
            app.send_task("refresh", args=(number,), queue=queue, producer=producer)


def _refreshed(connection: psycopg.Connection) -> int:
    row = connection.execute("SELECT count(*) FROM clear_grants WHERE rotated_at IS NOT NULL").fetchone()
    assert row is not None
    return int(row[0])


def _forget_messages(broker: str) -> None:
    import redis  # noqa: PLC0415 -- only here

    with redis.Redis.from_url(broker) as client:
        client.flushdb()
