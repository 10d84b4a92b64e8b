"""What contenders and columns are called, in every table, fact, limit and panel."""

from __future__ import annotations

from typing import Final

EVERGRANT: Final = "evergrant"
BARE_LOOP: Final = "bare loop"
A_TASK_EACH: Final = "a task per grant, httpx.post"
SHARED_CLIENT: Final = "the same, shared client"

NO_WAIT: Final = "0 ms"
#: The column that every contender has.
MIDDLE: Final = "50 ms"
FAR: Final = "200 ms"
TAIL: Final = "50 ms, 1 % 2 s"
