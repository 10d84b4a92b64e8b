"""`evergrant health`: asks a process on this machine whether it lives, for probes that run a command."""

from __future__ import annotations

from typing import Annotated, Final

import httpx
import typer

from worker.bootstrap import read_settings
from worker.domain.errors import ConfigurationError, EvergrantError

#: Seconds for the answer: a process that is alive answers in milliseconds, and `--ready` may take two for each check.
_ANSWERS_WITHIN: Final = 6.0


def health(
    *,
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="The process's port; EVERGRANT_METRICS_PORT if left out.")
    ] = None,
    ready: Annotated[bool, typer.Option("--ready", help="Ask whether it can work, not only whether it lives.")] = False,
) -> None:
    """Ask a worker, beat or web process on this machine how it is: exit code 0, or 1 and the reason.

    All of them listen on EVERGRANT_METRICS_PORT where it is set, the web process on the port that it serves as well.

    Example: evergrant health --port 9100 --ready
    """
    asked = port if port is not None else read_settings().metrics_port
    if asked is None:
        raise ConfigurationError("EVERGRANT_METRICS_PORT is not set; set it, or give the process's port with --port")
    try:
        answer = httpx.get(
            f"http://127.0.0.1:{asked}/{'readyz' if ready else 'healthz'}", timeout=_ANSWERS_WITHIN, trust_env=False
        )
    except httpx.HTTPError as error:
        raise EvergrantError(f"nothing answers on port {asked}: {type(error).__name__}") from None
    typer.echo(answer.text)
    if not answer.is_success:
        raise typer.Exit(1)
