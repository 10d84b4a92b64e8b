"""What would come of an answer that a provider's pages show, or that `curl -i` brought: read as a worker reads it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from email.utils import format_datetime
from enum import StrEnum
from typing import Final

from worker.domain.duration import write_duration
from worker.domain.errors import ConfigurationError
from worker.domain.outcome import Rotated, Throttled, Tokens, label
from worker.domain.schedule import access_lifetime
from worker.oauth.classify import classify
from worker.oauth.exchange import BODY_LIMIT
from worker.oauth.provider import Provider
from worker.oauth.provider_steps import TokenStep
from worker.oauth.reading import Reading, reading_of
from worker.oauth.token_answer import HttpAnswer
from worker.web.words import plain_reason

#: As `curl -i` prints it: a status line (RFC 9112 section 4; HTTP/2 has no reason phrase) before the headers.
_STATUS_LINE: Final = re.compile(rb"HTTP/[0-9.]+ ([0-9]{3})[^\r\n]*\r?\n")
_END_OF_HEADERS: Final = re.compile(rb"\r?\n\r?\n")
_OK: Final = 200
#: Bytes: a body as long as a worker reads, headers beside it, and enough to see that there is more.
MOST_READ: Final = 2 * BODY_LIMIT
#: Of the column of names.
_WIDTH: Final = len("refresh_token")


class Step(StrEnum):
    """The request that was answered."""

    CODE = "code"
    UPGRADE = "upgrade"
    REFRESH = "refresh"

    def of(self, provider: Provider) -> TokenStep:
        """Return the provider's facts about it.

        Raises:
            ConfigurationError: this provider does not have it.

        """
        match self:
            case Step.CODE:
                return provider.code
            case Step.REFRESH:
                return provider.refresh
            case Step.UPGRADE if provider.upgrade is not None:
                return provider.upgrade
            case Step.UPGRADE:
                raise ConfigurationError(f"provider {provider.name!r} has no upgrade; choose --step code or refresh")


def parse_answer(text: bytes, *, status: int | None, now: datetime) -> HttpAnswer:
    """Return the answer that a file holds: a body, or a whole response with its status line and headers.

    Args:
        text: the file's bytes.
        status: what was said of the status; where nothing was, that of the status line, else 200.
        now: stands for the answer's `Date` where it has none, so that instants in it can be measured.

    """
    told, lines, body = _OK, list[str](), text
    # A proxy's own answer, or a `100 Continue`, stands before the one that counts.
    while (head := _STATUS_LINE.match(body)) is not None:
        # From the status line's own end on, for there may be no header.
        end = _END_OF_HEADERS.search(body, head.end() - len(b"\r\n"))
        told = int(head[1])
        lines = body[head.end() : end.start() if end is not None else len(body)].decode("latin-1").splitlines()
        body = body[end.end() :] if end is not None else b""
    headers = {"date": format_datetime(now, usegmt=True)}
    headers |= {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return HttpAnswer(
        status=told if status is None else status, headers=headers, body=body[:BODY_LIMIT], cut=len(body) > BODY_LIMIT
    )


def meaning_of(answer: HttpAnswer, provider: Provider, step: Step) -> Iterator[str]:
    """Yield, line by line, what a worker would make of an answer. Of a token it says only that it is there.

    Raises:
        ConfigurationError: this provider does not have the step.

    """
    reading = reading_of(provider, step.of(provider))
    outcome = classify(answer, facts=provider.facts, secrets=(), reading=reading)
    begin = f"a {step} request that is answered like this, with status {answer.status}: {label(outcome)}"
    if isinstance(outcome, Rotated):
        yield begin
        yield from (f"  {name.ljust(_WIDTH)}  {said}" for name, said in _brought(outcome.tokens, provider, reading))
        return
    code = f" (its code is {outcome.cause.code})" if outcome.cause.code is not None else ""
    yield f"{begin}, {outcome.cause.reason}{code}"
    yield f"  {plain_reason(outcome.cause.reason)}"
    if isinstance(outcome, Throttled) and outcome.retry_after is not None:
        yield f"  It is tried again after {_lasting(outcome.retry_after)}."


def _brought(tokens: Tokens, provider: Provider, reading: Reading) -> Iterator[tuple[str, str]]:
    lifetime = _lasting(access_lifetime(tokens.access_lifetime, provider.facts))
    told = f"ends after {lifetime}" if tokens.access_lifetime is not None else f"no end told: taken for {lifetime}"
    yield "access_token", f"there, {told}"
    if provider.presents_access_token:
        yield "refresh_token", "none: the access token is presented in its place"
    elif tokens.refresh_token is None:
        yield "refresh_token", "none: the one that was presented is kept"
    else:
        end = tokens.refresh_lifetime
        yield "refresh_token", "there" if end is None else f"there, ends after {_lasting(end)}"
    yield "scopes", " ".join(tokens.scopes) if tokens.scopes is not None else "none told: unchanged"
    if reading.answer.account is not None:
        yield "account", tokens.account or f"none at {reading.answer.account}"
    for name, path in reading.captures.items():
        yield name, "there" if name in tokens.captured else f"none at {path}"


def _lasting(duration: timedelta) -> str:
    return write_duration(timedelta(seconds=round(duration.total_seconds())))
