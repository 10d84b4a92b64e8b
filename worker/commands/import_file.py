"""Reading an import's file line by line: JSON Lines or CSV, in constant memory, whatever is in it.

A line is a line of the file in both formats, so that its number is the one an editor shows. No field of a grant has a
line break in it, and a quotation mark that is never closed spoils its own line and no other.
"""

from __future__ import annotations

import codecs
import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import chain
from pathlib import Path
from typing import BinaryIO, Final

from worker.usecases.import_grants import Line
from worker.usecases.offer_fields import CAPTURED, unknown_fields

#: Bytes; two tokens of the longest kind and what goes with them, as the API takes them.
LONGEST_LINE: Final = 256 * 1024
#: Bytes of the file in one batch, where lines are long.
_LONGEST_BATCH: Final = 4 * 1024 * 1024
csv.field_size_limit(LONGEST_LINE)
#: What CSV is separated by, by how often that is meant.
_DELIMITERS: Final = ",;\t"


class FileFormat(StrEnum):
    """How grants are written in a file."""

    JSONL = "jsonl"  #: one JSON object in each line
    CSV = "csv"  #: the names of the fields in the first line


_SUFFIXES: Final = {
    **dict.fromkeys((".jsonl", ".ndjson", ".json"), FileFormat.JSONL),
    **dict.fromkeys((".csv", ".tsv"), FileFormat.CSV),
}


class UnreadableFileError(ValueError):
    """The file as a whole cannot be read as grants; the message says why and what to do."""


class _BadLineError(ValueError):
    """A line that is no grant; the message repeats nothing of it."""


def read_lines(stream: BinaryIO, *, name: Path, file_format: FileFormat | None, needs_client: bool) -> Iterator[Line]:
    """Yield the lines of a file that hold something, each with its fields or with what is wrong with it.

    Args:
        stream: the file; closed when its end is reached.
        name: what it is called; its ending tells the format where `file_format` does not.
        file_format: how it is written; None: see the name, and then the first character.
        needs_client: whether each line must name its client.

    Raises:
        UnreadableFileError: as soon as that is certain.

    """
    with stream:
        lines = _raw_lines(stream)
        first = next(lines, None)
        if first is None:
            raise UnreadableFileError("it is empty")
        start = first.content or b""
        if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise UnreadableFileError("it is UTF-16: save it as UTF-8")
        if (file_format or _format_by(name, start)) is FileFormat.CSV:
            header = _header(first, needs_client=needs_client)
            yield from (_line(raw, header.fields) for raw in lines)
        elif start.lstrip().startswith(b"["):
            raise UnreadableFileError("it is a JSON array: `jq -c '.[]' FILE` makes JSON Lines of it")
        else:
            yield from (_line(raw, _object) for raw in chain([first], lines))


def batches(lines: Iterator[Line], size: int) -> Iterator[Sequence[Line]]:
    """Yield lines in batches of so many, or of fewer where they are long."""
    batch: list[Line] = []
    start = 0
    for line in lines:
        batch.append(line)
        if len(batch) >= size or line.end - start >= _LONGEST_BATCH:
            yield batch
            batch, start = [], line.end
    if batch:
        yield batch


@dataclass(frozen=True, slots=True)
class _RawLine:
    """A line that is not blank; `content` is None where it is too long to be held."""

    number: int
    content: bytes | None
    end: int  # bytes of the file up to its end


def _raw_lines(stream: BinaryIO) -> Iterator[_RawLine]:
    number = end = 0
    while raw := stream.readline(LONGEST_LINE + 1):
        number += 1
        end += len(raw)
        if len(raw) > LONGEST_LINE:
            while raw and not raw.endswith(b"\n"):
                raw = stream.readline(LONGEST_LINE)
                end += len(raw)
            yield _RawLine(number, None, end)
        elif not raw.isspace():
            yield _RawLine(number, raw.removeprefix(codecs.BOM_UTF8) if number == 1 else raw, end)


def _format_by(name: Path, start: bytes) -> FileFormat:
    known = _SUFFIXES.get(name.suffix.lower())
    return known or (FileFormat.JSONL if start.lstrip()[:1] in {b"{", b"["} else FileFormat.CSV)


def _line(raw: _RawLine, parse: Callable[[str], Mapping[str, object]]) -> Line:
    try:
        fields: Mapping[str, object] | str = parse(_decoded(raw))
    except _BadLineError as error:
        fields = str(error)
    return Line(number=raw.number, fields=fields, end=raw.end)


def _decoded(raw: _RawLine) -> str:
    if raw.content is None:
        raise _BadLineError(f"is longer than {LONGEST_LINE // 1024} KiB")
    try:
        return raw.content.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError:
        raise _BadLineError("is not UTF-8") from None


def _object(text: str) -> Mapping[str, object]:
    try:
        found = json.loads(text, object_pairs_hook=_without_repetition)
    except json.JSONDecodeError as error:
        raise _BadLineError(
            f"is not JSON: {error.msg.removesuffix(' starting at')} at character {error.pos + 1}"
        ) from None
    except _BadLineError:
        raise
    except (ValueError, RecursionError):  # a number of a thousand digits, arrays in arrays in arrays
        raise _BadLineError("is no JSON that can be read") from None
    if not isinstance(found, dict):
        raise _BadLineError("is no JSON object")
    return found


def _without_repetition(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _BadLineError("names a field twice")
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class _Header:
    """The first line of a CSV file."""

    names: Sequence[str]
    delimiter: str

    def fields(self, text: str) -> dict[str, object]:
        """Return what a line has in each column; an empty cell is a field that is not there."""
        cells = _cells(text, self.delimiter)
        if len(cells) != len(self.names):
            raise _BadLineError(f"has {len(cells)} cells, and the first line names {len(self.names)} fields")
        fields: dict[str, object] = {}
        captured: dict[str, str] = {}
        for name, cell in zip(self.names, cells, strict=True):
            if cell and name.startswith(CAPTURED):
                captured[name.removeprefix(CAPTURED)] = cell
            elif cell:
                fields[name] = cell
        return {**fields, "captured": captured} if captured else fields


def _header(first: _RawLine, *, needs_client: bool) -> _Header:
    try:
        text = _decoded(first)
        delimiter = max(_DELIMITERS, key=text.count)
        names = [cell.strip() for cell in _cells(text, delimiter)]
    except _BadLineError as error:
        raise UnreadableFileError(f"its first line {error}") from None
    unknown = unknown_fields({name: "" for name in names if not name.startswith(CAPTURED)})
    if unknown:
        complaints = "; ".join(str(complaint) for complaint in unknown)
        raise UnreadableFileError(f"its first line must name the fields: {complaints}")
    if len(set(names)) < len(names):
        raise UnreadableFileError("its first line names a field twice")
    for name in ("client", "subject", "refresh_token"):
        if name not in names and (needs_client or name != "client"):
            raise UnreadableFileError(f"its first line must name the fields, and {name} is missing")
    return _Header(names=names, delimiter=delimiter)


def _cells(text: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader([text], delimiter=delimiter, strict=True), [])
    except csv.Error:
        raise _BadLineError("is no CSV: a quotation mark is missing or in a wrong place") from None
