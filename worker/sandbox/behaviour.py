"""How the sandbox treats one client's tokens when nothing is ordered: lifetimes, rotation, grace, latency."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final

from pydantic import ConfigDict, Field, TypeAdapter
from pydantic.dataclasses import dataclass

MAX_DELAY_S: Final = 600.0  # ten minutes: longer than any client waits for an answer
_CHECKED: Final = ConfigDict(extra="forbid")

Delay = Annotated[float, Field(ge=0, le=MAX_DELAY_S)]
Lifetime = Annotated[int, Field(ge=1)]


class Rotation(StrEnum):
    """Whether a refresh replaces the refresh token (RFC 6749 section 6 leaves it to the server)."""

    ALWAYS = "always"
    """Each refresh answers with a new refresh token and consumes the old one."""

    NEVER = "never"
    """The refresh token stays the same; a refresh answers without one."""


@dataclass(frozen=True, slots=True, kw_only=True, config=_CHECKED)
class Latency:
    """How long an answer of the token endpoint takes, in seconds.

    The time passes after the work is committed, so a client that hangs up meanwhile has rotated without knowing.
    """

    fixed: Delay = 0.0
    tail_share: Annotated[float, Field(ge=0, le=1)] = 0.0
    tail: Delay = 0.0

    def of(self, draw: float) -> float:
        """Return the seconds for one answer; `draw` in [0, 1) decides whether it falls into the tail."""
        return self.tail if draw < self.tail_share else self.fixed


@dataclass(frozen=True, slots=True, kw_only=True, config=_CHECKED)
class Behaviour:
    """One client's rules. Lifetimes are in seconds, None means without end.

    - `access_lifetime`: of an access token.
    - `refresh_idle_timeout`: a refresh token that is not used for so long expires.
    - `absolute_lifetime`: a family ends so long after its start, however often it is refreshed.
    - `reuse_grace`: a consumed refresh token presented again within it gets the same pair again; 0 is no grace.
    - `grace_ends_on_use`: the grace also ends once the pair's new refresh token has been used.
    - `reuse_revokes_family`: reuse outside the grace revokes every token of the grant (RFC 9700 section 4.14.2).
    """

    access_lifetime: Lifetime = 3600
    refresh_idle_timeout: Lifetime | None = None
    absolute_lifetime: Lifetime | None = None
    rotation: Rotation = Rotation.ALWAYS
    reuse_grace: Annotated[float, Field(ge=0)] = 0.0
    grace_ends_on_use: bool = False
    reuse_revokes_family: bool = True
    latency: Latency = Latency()


BEHAVIOUR: Final = TypeAdapter(Behaviour)
"""Reads a behaviour from JSON and writes it; an unknown key or a number out of range is a `ValidationError`."""
