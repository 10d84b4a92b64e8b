"""Structured logs: static event names, identifiers instead of objects, no secrets.

Standard library and Celery records go through the same processors, so that one process writes one form.
"""

from __future__ import annotations

import json
import logging
import sys
from typing import Any, Final, Literal

import structlog

from worker.log_redaction import ShortAddresses, redact, redact_foreign, redact_traceback

#: Libraries that say at INFO what our own lines say better.
_QUIET: Final = (
    "aiohttp.access",
    "alembic",
    "authlib",  # and at DEBUG what a request holds
    "celery.app.trace",
    "celery.beat",
    "celery.worker.consumer.connection",
    "celery.worker.strategy",
    "httpcore",
    "httpx",
    "mail.log",  # aiosmtpd, in the demo
    "uvicorn.error",
)


class _Writer(structlog.WriteLogger):
    """Writes to standard error under a module's name."""

    def __init__(self, name: str) -> None:
        super().__init__(sys.stderr)
        self.name = name


def configure_logging(log_format: Literal["json", "console"] | None, level: str) -> None:
    """Send everything this process logs to standard error, in one form.

    Args:
        log_format: `json` for machines, `console` for people; None: `console` where standard error is a terminal.
        level: the least level that is shown.

    """
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        redact,
    ]
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer(serializer=_write_json)
        if log_format == "json" or (log_format is None and not sys.stderr.isatty())
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=26)
    )
    # Our own lines do not take the way through the standard library, which costs five times what they cost themselves.
    structlog.configure(
        processors=[*shared, structlog.processors.format_exc_info, redact_traceback, renderer],
        logger_factory=_Writer,
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder()],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                redact_foreign,
                renderer,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.captureWarnings(capture=True)
    access = logging.getLogger("uvicorn.access")
    if not any(isinstance(found, ShortAddresses) for found in access.filters):
        access.addFilter(ShortAddresses())
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)


#: Made once: making it costs more than writing a line.
_JSON: Final = json.JSONEncoder(default=str)


def _write_json(event: structlog.typing.EventDict, **_options: object) -> str:
    return _JSON.encode(event)


def get_logger(name: str) -> Any:  # noqa: ANN401 -- structlog's proxy has no better type
    """Return a logger for one module."""
    return structlog.get_logger(name)
