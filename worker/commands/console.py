"""What all commands share: settings, one container for one command, tables and JSON on standard output."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Annotated, NoReturn, TypeVar
from uuid import UUID

import typer
from prometheus_client import CollectorRegistry

from worker.bootstrap import Container, create_container
from worker.commands.acting import Acting, written_down
from worker.commands.running import with_running
from worker.domain.secret import Secret
from worker.logging import configure_logging
from worker.settings import Settings, load_settings
from worker.start_checks import check_start

T = TypeVar("T")

AsJson = Annotated[bool, typer.Option("--json", help="Write JSON instead of a table.")]


def settings() -> Settings:
    """Return the settings of this command, completed by a running `evergrant up`."""
    return load_settings(with_running(os.environ))


def with_container(work: Callable[[Container], Awaitable[T]], acting: Acting | None = None) -> T:
    """Do one command's work with a container of its own, after checking the schema and the keys.

    What it does to a grant or a client is `acting`, and is written into the audit log.

    Standard output is the command's answer alone. What is logged goes to standard error, and only errors unless
    EVERGRANT_LOG_LEVEL asks for more: the command says itself what came of it.
    """
    found = settings()
    configure_logging(found.log_format, found.log_level if "log_level" in found.model_fields_set else "error")
    check_start(found)

    async def run() -> T:
        container = create_container(
            found, name="evergrant cli", environment=with_running(os.environ), registry=CollectorRegistry()
        )
        try:
            async with container.ring_note.kept():
                return await (work(container) if acting is None else written_down(container, acting, work))
        finally:
            await container.close()

    return asyncio.run(run())


def fail(why: str) -> NoReturn:
    """End the command as failed, with one line that says why."""
    sys.stderr.write(f"evergrant: {why}\n")
    raise typer.Exit(1)


def print_json(value: object) -> None:
    """Write a value as JSON."""
    typer.echo(json.dumps(value, default=_plain, indent=2))


def print_table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Write rows under their heads, in columns as wide as what they hold."""
    texts = [[text(cell) for cell in row] for row in rows]
    widths = [max([len(head), *(len(row[place]) for row in texts)]) for place, head in enumerate(heads)]
    for line in (heads, *texts):
        cells = [cell.ljust(width) for cell, width in zip(line, widths, strict=True)]
        typer.echo("  ".join(cells).rstrip())


def text(value: object) -> str:
    """Return a value as a cell shows it."""
    if value is None:
        return "-"
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%SZ")
    if isinstance(value, list | tuple):
        return " ".join(text(item) for item in value) or "-"
    return str(value)


def _plain(value: object) -> object:  # noqa: PLR0911 -- one line for each kind of value
    match value:
        case datetime():
            return value.isoformat()
        case timedelta():
            return value.total_seconds()
        case UUID() | Secret():
            return str(value)
        case Enum():
            return value.value
        case _ if is_dataclass(value) and not isinstance(value, type):
            return asdict(value)
        case Mapping():
            return dict(value)
        case _:
            return str(value)
