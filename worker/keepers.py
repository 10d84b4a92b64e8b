"""What a process does beside its work for as long as it lives: whatever ends it is logged, and it begins again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final

from worker.observers import Observers

#: Seconds before what has ended begins again: soon, and no flood of log lines.
_AGAIN_AFTER: Final = 1.0


async def keep(observers: Observers, keeper: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run what goes on for as long as the process does, until cancelled.

    Args:
        observers: hear of what ended it.
        keeper: should never end by itself.

    """
    while True:
        try:
            await keeper()
        except Exception as error:  # noqa: BLE001 -- without its keepers a process looks well and is not
            observers.failed("keeper_ended", error)
        await asyncio.sleep(_AGAIN_AFTER)
