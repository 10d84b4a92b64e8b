"""`evergrant grants import`: take over the grants of another system from a file."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Annotated, BinaryIO, Final

import typer

from worker.bootstrap import Container, monotonic, moving_on, seen_lines
from worker.collector import spare_what_is_loaded
from worker.commands.acting import Acting
from worker.commands.bad_lines import BadLines, NotOverwrittenError
from worker.commands.console import fail, print_json, text, with_container
from worker.commands.import_file import FileFormat, UnreadableFileError, batches, read_lines
from worker.commands.import_progress import ImportProgress, import_progress
from worker.commands.read_ahead import ReadAhead
from worker.domain.audit import Act
from worker.domain.duration import parse_duration
from worker.usecases.import_grants import BATCH, GrantImport, ImportOptions, Line, Tally

_STDIN: Final = Path("-")
_STOPS: Final = (signal.SIGINT, signal.SIGTERM)


def import_grants(
    file: Annotated[Path, typer.Argument(help="JSON Lines or CSV; - is standard input.")],
    *,
    file_format: Annotated[
        FileFormat | None, typer.Option("--format", help="How it is written; else its name or first line tells.")
    ] = None,
    client: Annotated[str | None, typer.Option(help="The client of lines that name none.")] = None,
    spread: Annotated[
        str | None,
        typer.Option(help="Spread first refreshes over this time, such as 6h; else at half of the client's rate."),
    ] = None,
    errors: Annotated[Path | None, typer.Option(dir_okay=False, help="Write all bad lines to this file.")] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Bring dead grants back where consented_at is later than their death.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything and write nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Write what came of it as JSON.")] = False,
) -> None:
    """Adopt the grants in a file, one in each line. From now on nobody else may refresh them.

    Fields: client, subject, refresh_token; as far as they are known access_token with access_expires_at or expires_in,
    refresh_expires_at, scopes, email, account, consented_at and captured. What is there already is left as it is, so it
    may be stopped at any time: run it again to go on.

    Example: evergrant grants import grants.jsonl --errors bad-lines.txt
    """
    options = ImportOptions(client=client, spread=_spread(spread), replace=replace, dry_run=dry_run)
    if errors is not None and errors.exists() and file != _STDIN and errors.samefile(file):
        raise typer.BadParameter("--errors must be another file than the one that is read")
    started = monotonic()
    with ExitStack() as stack:
        try:
            stream = _opened(file)
            size = _size(stream)
            progress = import_progress(size, monotonic)
            bad_lines = stack.enter_context(BadLines(errors, progress.say))
            lines = read_lines(stream, name=file, file_format=file_format, needs_client=client is None)
            tally, is_whole = with_container(
                lambda container: _import(container, options, lines, bad_lines=bad_lines, progress=progress),
                None if dry_run else Acting(act=Act.GRANTS_IMPORTED, client=client, details={"file": str(file)}),
            )
        except UnreadableFileError as error:
            raise typer.BadParameter(f"{file}: {error}") from None
        except NotOverwrittenError as error:
            raise typer.BadParameter(str(error)) from None
        except OSError as error:
            fail(f"{error.filename or 'reading or writing a file'}: {error.strerror}")
        hidden = bad_lines.hidden
    if hidden:
        told = f"all of them are in {errors}" if errors is not None else "--errors FILE names them all"
        typer.echo(f"… and {hidden:,} more bad lines: {told}", err=True)
    if as_json:
        print_json({**asdict(tally), "dry_run": dry_run, "whole": is_whole})
    else:
        _summarize(tally, dry_run=dry_run, seconds=monotonic() - started)
    if not is_whole:
        fail("stopped: run the same command again to go on")
    if tally.bad:
        raise typer.Exit(1)


async def _import(
    container: Container,
    options: ImportOptions,
    lines: Iterator[Line],
    *,
    bad_lines: BadLines,
    progress: ImportProgress,
) -> tuple[Tally, bool]:
    """Import until the lines end or somebody stops it; return what came of it, and whether it was the whole file."""
    if options.client is not None:
        container.configuration.registry.client(options.client)  # a slip in it would spoil every line
    spare_what_is_loaded()
    is_whole = True
    clock = moving_on(await container.grants.now())

    def stop() -> None:
        nonlocal is_whole
        is_whole = False
        reading.stop()
        for number in _STOPS:  # whoever asks again does not want to wait
            asyncio.get_running_loop().remove_signal_handler(number)

    with seen_lines() as seen, progress:
        running = GrantImport(adoption=container.adoption, seen=seen, now=clock, options=options)
        reading = ReadAhead(running.check(batch) for batch in batches(lines, BATCH))
        for number in _STOPS:
            asyncio.get_running_loop().add_signal_handler(number, stop)
        try:
            async for checked in reading:
                bad_lines.tell(await running.store(checked))
                progress.show(running.tally, checked.end)
        except BaseException:
            if running.tally.lines:
                progress.say(f"{running.tally.lines:,} lines were read, {running.tally.taken:,} grants adopted")
            raise
    return running.tally, is_whole


def _opened(file: Path) -> BinaryIO:
    # Closed by whoever reads it to its end. Standard input is not Python's own object for it: when the program ends
    # after a stop, the thread that reads may still hold its lock.
    try:
        return open(0, "rb", closefd=False) if file == _STDIN else file.open("rb")
    except OSError as error:
        raise typer.BadParameter(f"{file}: {error.strerror}") from None


def _size(stream: BinaryIO) -> int | None:
    found = os.fstat(stream.fileno())
    return found.st_size if stat.S_ISREG(found.st_mode) else None


def _spread(given: str | None) -> timedelta | None:
    try:
        return parse_duration(given) if given is not None else None
    except ValueError as error:
        raise typer.BadParameter(f"--spread: {error}") from None


def _summarize(tally: Tally, *, dry_run: bool, seconds: float) -> None:
    typer.echo(f"{tally.lines:,} lines in {seconds:.1f} s{': nothing was written' if dry_run else ''}")
    due = ""
    if tally.first_refresh is not None and tally.last_refresh is not None:
        due = f", first refreshed from {text(tally.first_refresh)} to {text(tally.last_refresh)}"
    typer.echo(f"{tally.created:,} {'would be adopted' if dry_run else 'adopted'}{due}")
    if tally.replaced:
        typer.echo(f"{tally.replaced:,} dead before, {'would be ' if dry_run else ''}brought back")
    if tally.already_there:
        typer.echo(f"{tally.already_there:,} there already, left as they are")
    if tally.other_token:
        typer.echo(
            f"{tally.other_token:,} of those with a refresh token that is new here: does another system refresh?"
        )
    typer.echo(f"{tally.bad:,} bad")
