"""`evergrant worker`, `beat` and `web`: one process each, for production."""

from __future__ import annotations

import contextlib
import socket
from importlib import import_module
from typing import Annotated, Any, NoReturn

import click
import typer
from prometheus_client import REGISTRY

from worker.bootstrap import create_container, read_settings
from worker.collector import spare_what_is_loaded
from worker.domain.errors import ConfigurationError
from worker.logging import configure_logging
from worker.probes import port_in_use
from worker.start_checks import check_start


def worker() -> None:
    """Run one worker process; run several for more. `celery -A worker.celery_app worker` does the same.

    Example: evergrant worker
    """
    from worker.celery_app import app  # noqa: PLC0415 -- importing it reads the settings and ends the process if wrong

    # --without-mingle and --without-gossip: workers need not know each other, for the rows decide.
    _celery(app, "worker", "--loglevel", "WARNING", "--without-mingle", "--without-gossip")


def beat() -> None:
    """Run the tick; any number may run. `celery -A worker.celery_app beat` does the same.

    Example: evergrant beat
    """
    from worker.celery_app import app  # noqa: PLC0415 -- importing it reads the settings and ends the process if wrong

    _celery(app, "beat", "--loglevel", "WARNING")


def web(
    *,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on.")] = 8080,
) -> None:
    """Serve the consent endpoints, the page, health and metrics.

    With EVERGRANT_METRICS_PORT set, metrics are served there alone, and health on both ports.

    Example: evergrant web --host 0.0.0.0 --port 8080
    """
    import uvicorn  # noqa: PLC0415 -- likewise

    from worker.web.app import create_web_app  # noqa: PLC0415 -- only this command needs it

    settings = read_settings()
    configure_logging(settings.log_format, settings.log_level)
    check_start(settings)
    own = None if settings.metrics_port is None else _listener(settings.metrics_port, taken=port)
    app = create_web_app(
        lambda: create_container(settings, name="evergrant web", registry=REGISTRY),
        metrics_port=None if own is None else own.getsockname()[1],
    )
    spare_what_is_loaded()
    # Query strings of the consent routes hold codes and states: there is no access log to hold them. What a proxy says
    # is `worker.web.client_address`'s matter: uvicorn would believe whatever else runs on this machine.
    config = uvicorn.Config(
        app, host=host, port=port, log_config=None, access_log=False, server_header=False, proxy_headers=False
    )
    # One application on one loop, whichever port was asked: `uvicorn.run` knows of one port only.
    with contextlib.suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(None if own is None else [config.bind_socket(), own])


def _listener(port: int, *, taken: int) -> socket.socket:
    """Listen on EVERGRANT_METRICS_PORT, on all addresses, as workers and beat do.

    Args:
        port: 0: a free one.
        taken: the port that pages are served on.

    Raises:
        ConfigurationError: when it is that port, or in use.

    """
    if port == taken != 0:
        raise ConfigurationError(
            f"EVERGRANT_METRICS_PORT: port {port} is the one that pages are served on; choose another"
        )
    try:
        return socket.create_server(("", port))
    except OSError as error:
        raise port_in_use(port, error) from None


def _celery(app: Any, command: str, *options: str) -> NoReturn:  # noqa: ANN401 -- Celery ships no types
    """Run one of Celery's commands.

    Not by `app.start`: it drops the exit code of a start that failed, which a supervisor must see, and with all other
    commands of Celery it loads what they need, a shell among it.
    """
    from celery.bin.base import CLIContext  # noqa: PLC0415 -- the web process needs nothing of Celery's

    named = getattr(import_module(f"celery.bin.{command}"), command)
    context = CLIContext(app=app, no_color=True, workdir=None, quiet=True)
    try:
        code = named.main(args=list(options), prog_name=f"celery {command}", obj=context, standalone_mode=False)
    except click.exceptions.Exit as ended:
        code = ended.exit_code
    raise typer.Exit(code if isinstance(code, int) else 0)


processes = typer.Typer(
    name="evergrant", add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None, no_args_is_help=True
)
processes.command()(worker)
processes.command()(beat)
processes.command()(web)
