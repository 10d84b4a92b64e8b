"""Beat's scheduler: Celery's own, in memory, which also knows whether it still ticks and whether its ticks get away."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

from celery.beat import ScheduleEntry, Scheduler

#: Seconds without a turn of beat's loop after which it is taken for stuck: sending to a broker that is away takes some
#: ten of them, and the loop turns every second.
STUCK_SECONDS: Final = 60.0
_OK: Final = "ok"


class Pulse:
    """When beat last turned, and how its last message fared. `tick` is the monotonic clock, in seconds."""

    def __init__(self, tick: Callable[[], float] = time.monotonic) -> None:
        self._tick = tick
        self._turned_at = tick()
        self._error: str | None = None

    def turned(self) -> None:
        """Note a turn of the loop."""
        self._turned_at = self._tick()

    def sent(self, error: BaseException | None) -> None:
        """Note that a message was handed to the broker, or why it was not."""
        self._error = None if error is None else type(error.__cause__ or error).__name__

    def complaints(self) -> list[str]:
        """Return what does not run any more."""
        stood = self._tick() - self._turned_at
        return [f"beat's loop has not turned for {stood:.0f} s"] if stood > STUCK_SECONDS else []

    def checks(self) -> dict[str, str]:
        """Return whether the broker took the last message, and what it was if not."""
        return {"broker": self._error or _OK}


#: Of this process.
pulse: Final = Pulse()


class PulsingScheduler(Scheduler):  # type: ignore[misc]  # Celery ships no types
    """Celery's scheduler, telling `pulse`."""

    def tick(self, *arguments: Any, **options: Any) -> float:  # noqa: ANN401 -- Celery's
        """Send what is due; returns the seconds to the next look."""
        pulse.turned()
        seconds: float = super().tick(*arguments, **options)
        return seconds

    def apply_async(self, entry: ScheduleEntry, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401 -- Celery's
        """Send one message."""
        try:
            result = super().apply_async(entry, *arguments, **options)
        except Exception as error:
            pulse.sent(error)
            raise
        pulse.sent(None)
        return result
