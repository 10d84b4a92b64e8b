"""What the sandbox takes from outside itself: time, new tokens and chance."""

from __future__ import annotations

import random  # noqa: TID251 - the sandbox is a program of its own, and `real_world` is where it takes chance from
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

_TOKEN_BYTES: Final = 32  # 256 bits: beyond guessing, RFC 6749 section 10.10


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Time and chance as callables, so that a test can hold both still.

    `now` gives seconds since the epoch, `new_token` an unguessable URL-safe string, `draw` a number in [0, 1).
    """

    now: Callable[[], float]
    new_token: Callable[[], str]
    draw: Callable[[], float]


def _new_token() -> str:
    return secrets.token_urlsafe(_TOKEN_BYTES)


def real_world(*, seed: int | None = None) -> World:
    """Return the machine's clock and chance.

    `seed` repeats the draws that decide on probabilities and on the latency's tail; tokens stay unguessable.
    """
    chance = random.Random(seed)  # noqa: S311 - decides which request misbehaves; no secret comes from it
    return World(now=time.time, new_token=_new_token, draw=chance.random)  # noqa: TID251 - see the import of random
