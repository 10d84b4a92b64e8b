"""Structured logs: static event names, identifiers instead of objects, no secrets.

Standard library and Celery records go through the same processors, so that one process writes one form.
"""

from __future__ import annotations

import logging
import sys
from typing import Any, Final, Literal

import structlog

from worker.log_lines import json_logger, merge_ids, write_json
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


class _JsonWriter:
    """The same for lines that are encoded already: each is one write, which no line of another process comes into."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._buffered = sys.stderr.buffer
        self._raw = getattr(self._buffered, "raw", self._buffered)

    def msg(self, line: bytes) -> None:
        """Write one line with its end."""
        written = self._raw.write(line)
        if written != len(line):  # a pipe that is nearly full has taken a part
            self._buffered.write(line[written or 0 :])
            self._buffered.flush()


def configure_logging(log_format: Literal["json", "console"] | None, level: str) -> None:
    """Send everything this process logs to standard error, in one form.

    Args:
        log_format: `json` for machines, `console` for people; None: `console` where standard error is a terminal.
        level: the least level that is shown.

    """
    shared: list[structlog.typing.Processor] = [
        merge_ids,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        redact,
    ]
    is_json = log_format == "json" or (log_format is None and not sys.stderr.isatty())
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer(serializer=write_json)
        if is_json
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=26)
    )
    own: list[structlog.typing.Processor] = [
        *shared,
        structlog.processors.format_exc_info,
        redact_traceback,
        renderer,
    ]
    # Our own lines do not take the way through the standard library, which costs five times what they cost themselves.
    structlog.configure(
        processors=own,
        logger_factory=_JsonWriter if is_json else _Writer,
        wrapper_class=json_logger(level) if is_json else structlog.make_filtering_bound_logger(level),
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


def get_logger(name: str) -> Any:  # noqa: ANN401 -- structlog's proxy has no better type
    """Return a logger for one module."""
    return structlog.get_logger(name)
