"""The Celery application: `celery -A worker.celery_app worker` and `beat` do what `evergrant worker` and `beat` do."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any, Final, NoReturn

from celery import Celery, signals
from celery.exceptions import SecurityWarning
from celery.utils.nodenames import gethostname
from kombu.exceptions import OperationalError
from prometheus_client import REGISTRY

from worker.beat import pulse
from worker.bootstrap import create_container, read_settings
from worker.collector import spare_what_is_loaded
from worker.configuration import load_configuration
from worker.consumer import consumer_closed
from worker.domain.errors import ConfigurationError, EvergrantError
from worker.logging import configure_logging, get_logger
from worker.probes import Probes, port_in_use
from worker.runtime import Runtime
from worker.settings import Settings
from worker.start_checks import check_start

#: Exit codes: it failed, and a setting is wrong.
FAILED: Final = 1
WRONG_SETUP: Final = 2
#: Threads that take messages. A drain is only started; ticks, mails and webhooks are waited for, by doing nothing else.
TICKET_THREADS: Final = 64
#: Seconds before a publish or a read on a half-open connection is given up; the default is to hang for ever.
BROKER_SECONDS: Final = 5
#: Seconds between removals of what nobody needs any more.
PRUNE_SECONDS: Final = 60
#: Seconds between looks whether the console's forecasts are still good: they are for a minute.
FIGURES_SECONDS: Final = 15
#: Seconds between looks for mails that are due.
MAIL_SECONDS: Final = 5
QUEUE: Final = "evergrant"
#: The task that a ticket asks for.
DRAIN: Final = "evergrant.drain"
#: Seconds after which a ticket is worthless: by then later ticks have sent others.
TICKET_EXPIRES: Final = 10

# Celery warns of root because of pickled messages; ours are JSON and nothing else is accepted.
warnings.filterwarnings("ignore", category=SecurityWarning)

log = get_logger("evergrant")


def create_app(settings: Settings, tick_seconds: float, *, has_webhooks: bool = False) -> Celery:
    """Create the application for a broker.

    Args:
        settings: this process's; the broker's URL is taken from them.
        tick_seconds: how often beat asks what is due.
        has_webhooks: whether there are endpoints to which events are sent.

    """
    # A tick that nobody took in time is worthless: the next one sees the same rows.
    tick = {"schedule": tick_seconds, "options": {"expires": max(tick_seconds * 2, 5.0)}}
    mails = {"schedule": MAIL_SECONDS, "options": {"expires": MAIL_SECONDS}}
    app = Celery("evergrant", include=["worker.tasks"])
    app.conf.update(
        broker_url=settings.require_broker().reveal(),
        broker_connection_retry_on_startup=True,
        broker_transport_options={
            "socket_timeout": BROKER_SECONDS,
            "socket_connect_timeout": BROKER_SECONDS,
            # A ticket is acknowledged when it is taken, so nothing is ever redelivered while it is worked on.
            "visibility_timeout": 3600,
            "global_keyprefix": "evergrant:",
        },
        broker_transport_retry_policy={"max_retries": 3, "interval_start": 0.1, "interval_max": 1.0},
        task_default_queue=QUEUE,
        task_ignore_result=True,
        task_acks_late=False,  # the lease is the retry
        task_serializer="json",
        accept_content=["json"],
        worker_pool="threads",
        worker_consumer="worker.consumer:PromptConsumer",
        worker_concurrency=TICKET_THREADS,
        worker_prefetch_multiplier=1,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_send_task_events=False,
        timezone="UTC",
        beat_scheduler="worker.beat:PulsingScheduler",  # in memory: beat is a dumb tick and keeps nothing on disk
        beat_max_loop_interval=tick_seconds,
        beat_schedule={
            "tick": {"task": "evergrant.tick", **tick},
            **({"webhooks": {"task": "evergrant.webhooks", **tick}} if has_webhooks else {}),
            **({"mails": {"task": "evergrant.mails", **mails}} if settings.smtp_url is not None else {}),
            "figures": {
                "task": "evergrant.figures",
                "schedule": FIGURES_SECONDS,
                "options": {"expires": FIGURES_SECONDS},
            },
            "prune": {"task": "evergrant.prune", "schedule": PRUNE_SECONDS, "options": {"expires": PRUNE_SECONDS}},
        },
    )
    return app


def _start() -> tuple[Settings, Celery]:
    settings = read_settings()
    configure_logging(settings.log_format, settings.log_level)
    configuration = load_configuration(settings, os.environ)
    tick = configuration.worker.tick.total_seconds()
    return settings, create_app(settings, tick, has_webhooks=bool(configuration.webhooks))


def _refuse(error: EvergrantError) -> NoReturn:
    sys.stderr.write(f"evergrant: {error}\n")
    # A wrong setting stays wrong; anything else, such as a database that is away, may be mended by starting again.
    raise SystemExit(WRONG_SETUP if isinstance(error, ConfigurationError) else FAILED)


try:
    _settings, app = _start()
except EvergrantError as wrong:
    _refuse(wrong)

_runtimes: dict[str, Runtime] = {}


def runtime() -> Runtime:
    """Return this worker process's event loop and container."""
    return _runtimes["worker"]


@signals.setup_logging.connect
def _keep_logging(**_fields: Any) -> None:  # noqa: ANN401 -- Celery's signal
    """Keep the logging that was configured at import; without a receiver Celery installs its own."""


@signals.celeryd_after_setup.connect
def _start_runtime(instance: Any, **_fields: Any) -> None:  # noqa: ANN401 -- Celery's signal
    pool = instance.pool_cls.__module__
    if not pool.endswith("thread"):
        _refuse(ConfigurationError("a worker runs with --pool threads; for more of it, start more processes"))
    try:
        check_start(_settings)
        its = Runtime(lambda: create_container(_settings, name=f"evergrant worker {gethostname()}"))
        _runtimes["worker"] = its
        _serve_probes(its.complaints, its.checks)
    except EvergrantError as error:
        _refuse(error)
    except Exception as error:  # Celery would log what a signal raises, and go on without a runtime
        log.exception("worker_start_failed")
        _refuse(EvergrantError(f"the worker could not start: {type(error).__name__}; the log tells more"))


@signals.beat_init.connect
def _start_beat(**_fields: Any) -> None:  # noqa: ANN401 -- Celery's signal
    try:
        _serve_probes(pulse.complaints, pulse.checks)
    except EvergrantError as error:
        _refuse(error)


def _serve_probes(complaints: Callable[[], Sequence[str]], checks: Callable[[], dict[str, str]]) -> None:
    port = _settings.metrics_port
    if port is None:
        return
    try:
        Probes(port, REGISTRY, complaints=complaints, checks=checks)
    except OSError as error:
        raise port_in_use(port, error) from None


@signals.worker_ready.connect
def _say_ready(**_fields: Any) -> None:  # noqa: ANN401 -- Celery's signal
    spare_what_is_loaded()
    log.info("worker_ready")


@signals.worker_shutting_down.connect
def _begin_stop(**_fields: Any) -> None:  # noqa: ANN401 -- Celery's signal
    if "worker" in _runtimes:
        runtime().begin_stop(_stop_seconds(runtime()))


@consumer_closed.connect
def _pass_tickets_on(**_fields: Any) -> None:  # noqa: ANN401 -- Celery's signal
    """Let others go on at once with what this worker leaves undone, and not at the next tick."""
    if "worker" not in _runtimes:
        return
    for client in runtime().stop_claiming():
        try:
            app.send_task(DRAIN, args=(client,), expires=TICKET_EXPIRES, retry=False)
        except OperationalError as error:
            log.warning("ticket_not_passed_on", client=client, error=type(error.__cause__ or error).__name__)
            return  # the broker is away, and the next tick finds what is due


@signals.worker_shutdown.connect
def _close_runtime(**_fields: Any) -> None:  # noqa: ANN401 -- Celery's signal
    stopped = _runtimes.pop("worker", None)
    if stopped is not None:
        stopped.close(_stop_seconds(stopped))
        log.info("worker_stopped")


def _stop_seconds(its: Runtime) -> float:
    return its.container.configuration.worker.stop_time.total_seconds()
