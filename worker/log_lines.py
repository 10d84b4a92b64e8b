"""Makes a line of JSON of one of our own events, in one pass: a rotation's line is written for each refresh.

The same could be done by a chain of structlog's processors, which takes three times as long. What libraries write goes
through that chain (`worker.logging`), and comes out in the same form.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cache
from json.encoder import encode_basestring_ascii
from logging import INFO
from typing import Any, Final, cast
from uuid import UUID

import structlog

from worker.log_redaction import FORBIDDEN, redact, redact_traceback

#: structlog's methods that are not named like their level.
_LEVELS: Final = {"exception": "error", "warn": "warning", "fatal": "critical"}
#: Made once: making it costs more than writing a line.
_JSON: Final = json.JSONEncoder(default=str)
_MICROSECONDS: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class _Ids:
    """Ids that lines have, and the same as members of a JSON object, for the many lines that have them."""

    ids: Mapping[str, str | None] = field(default_factory=dict)
    written: str = ""


_bound: Final[ContextVar[_Ids | None]] = ContextVar("evergrant_log_ids", default=None)
_NO_IDS: Final = _Ids()


@contextmanager
def bound_ids(**ids: str | None) -> Iterator[None]:
    """Give every line these ids, within a `with` block and in the tasks and threads that are begun there."""
    merged = {**(_bound.get() or _NO_IDS).ids, **ids}
    token = _bound.set(_Ids(merged, "".join(f", {_members({key: value})}" for key, value in merged.items())))
    try:
        yield
    finally:
        _bound.reset(token)


def merge_ids(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Add the ids that are bound, as a processor."""
    return {**(_bound.get() or _NO_IDS).ids, **event}


def json_line(logger: structlog.typing.WrappedLogger, method: str, event: structlog.typing.EventDict) -> bytes:
    """Return an event as one line of JSON with its end, with ids, level, logger and instant, and without secrets."""
    if "exc_info" in event:
        event = redact_traceback(logger, method, structlog.processors.format_exc_info(logger, method, event))
    bound = _bound.get() or _NO_IDS
    if not bound.ids.keys().isdisjoint(event):
        event, bound = {**bound.ids, **event}, _NO_IDS
    return _line(_members(event), bound, method, logger.name)


def _line(members: str, bound: _Ids, method: str, logger: str) -> bytes:
    return f'{{{members}{bound.written}{_origin(method, logger)}{_stamp.now()}"}}\n'.encode("ascii")


class FixedLine:
    """An event at INFO whose fields are the same each time: what does not change of its line is encoded once.

    Args:
        log: where it is written. Logging has been configured.
        event: its name.
        fields: what each field holds, by name: `str`, `int` or `UUID`, none of which is a secret's type.

    Raises:
        ValueError: when a field has a name under which nothing may be shown.

    """

    def __init__(self, log: Any, event: str, fields: Mapping[str, type[str | int | UUID]]) -> None:  # noqa: ANN401 -- structlog's proxy has no better type
        if forbidden := FORBIDDEN.intersection(fields):
            message = f"{event}: nothing is ever shown of {', '.join(sorted(forbidden))}"
            raise ValueError(message)
        self._log = log
        self._event = event
        self._names = tuple(fields)
        self._text = [place for place, kind in enumerate(fields.values()) if kind is str]
        written = {str: "%s", int: "%d", UUID: '"%s"'}
        members = [_NAMES[name].replace("%", "%%") + written[kind] for name, kind in fields.items()]
        self._format = ", ".join([*members, f"{_NAMES['event']}{encode_basestring_ascii(event).replace('%', '%%')}"])
        self._write: Callable[[str], None] | None = getattr(log, "write_members", None)
        self._is_shown = log.is_enabled_for(INFO)

    def write(self, *values: str | int | UUID) -> None:
        """Write the line with these values, in the order of the fields."""
        if not self._is_shown:
            return
        bound = _bound.get()
        if self._write is None or (bound is not None and not bound.ids.keys().isdisjoint(self._names)):
            shown = [str(value) if isinstance(value, UUID) else value for value in values]
            self._log.info(self._event, **dict(zip(self._names, shown, strict=True)))
            return
        encoded: list[Any] = list(values)
        for place in self._text:
            encoded[place] = encode_basestring_ascii(encoded[place])
        self._write(self._format % tuple(encoded))


def json_logger(level: str) -> type[structlog.typing.FilteringBoundLogger]:
    """Return a class of loggers that write lines of JSON without structlog's walk along a chain of processors.

    Args:
        level: the least level that is written.

    """
    plain: Any = structlog.make_filtering_bound_logger(level)

    class JsonLogger(plain):  # type: ignore[misc]
        def _proxy_to_logger(self, method_name: str, event: str | None = None, **event_kw: object) -> None:
            if self._context:
                event_kw = {**self._context, **event_kw}
            event_kw["event"] = event
            self._logger.msg(json_line(self._logger, method_name, event_kw))

        def write_members(self, members: str) -> None:
            """Write a line at INFO from members that are encoded already; no bound id has the name of one."""
            bound = _bound.get() or _NO_IDS
            self._logger.msg(_line(members, bound, "info", self._logger.name))

    return cast("type[structlog.typing.FilteringBoundLogger]", JsonLogger)


def write_json(event: structlog.typing.EventDict, **_options: object) -> str:
    """Return JSON in the same form, for structlog's renderer."""
    return _JSON.encode(event)


def _members(event: Mapping[str, object]) -> str:
    """Return an object's members without its braces. Most values are text and numbers, and no name is forbidden."""
    if not FORBIDDEN.isdisjoint(event):
        return _JSON.encode(redact(None, "", dict(event)))[1:-1]
    return ", ".join(
        [
            _NAMES[key] + encode_basestring_ascii(value)
            if type(value) is str
            else f"{_NAMES[key]}{value}"
            if type(value) is int
            else _NAMES[key] + _JSON.encode(redact(None, "", {key: value})[key])
            for key, value in event.items()
        ]
    )


@cache
def _origin(method: str, logger: str) -> str:
    """Return what is the same for every line of a module and level, up to where the instant begins."""
    level = _LEVELS.get(method, method)
    return f', "level": {encode_basestring_ascii(level)}, "logger": {encode_basestring_ascii(logger)}, "timestamp": "'


class _Names(dict[str, str]):
    """The names of members as they are written; they are the code's own, and bounded."""

    def __missing__(self, name: str) -> str:
        written = self[name] = f"{encode_basestring_ascii(name)}: "
        return written


_NAMES: Final = _Names()


class _Stamp:
    """Writes the time of day; the part that is the same for a second is written once in a second."""

    def __init__(self) -> None:
        self._second = (0, "")

    def now(self) -> str:
        """Return the instant in UTC, to the microsecond (RFC 3339)."""
        second, microsecond = divmod(time.time_ns() // 1000, _MICROSECONDS)
        known, written = self._second
        if known != second:
            written = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
            self._second = (second, written)
        return f"{written}.{microsecond:06d}Z"


_stamp: Final = _Stamp()
