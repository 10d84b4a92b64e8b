"""The worker's connection to the broker: tried again soon, however long the broker has been away.

Left to itself, Celery waits two seconds longer after each failed try, up to half a minute, and a worker would sleep on
after a broker that is back.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from celery.utils.dispatch import Signal
from celery.worker.consumer import Consumer

#: Seconds before the first further try, and how much longer each wait is than the one before.
PAUSE_STEP: Final = 0.5
#: Longest wait between tries, seconds: work goes on within ten of the broker's return.
LONGEST_PAUSE: Final = 3.0


#: Sent when a stopping worker takes no more messages: those that it had taken and not begun are back by then.
consumer_closed: Final = Signal(name="consumer_closed", providing_args=set())


class PromptConsumer(Consumer):  # type: ignore[misc]  # Celery ships no types
    """Celery's consumer with short waits between tries, which tells when it is closed."""

    def ensure_connected(self, conn: Any) -> Any:  # noqa: ANN401 -- kombu's connection
        """Return the connection once it stands."""
        conn.ensure_connection = partial(
            conn.ensure_connection, interval_start=PAUSE_STEP, interval_step=PAUSE_STEP, interval_max=LONGEST_PAUSE
        )
        return super().ensure_connected(conn)

    def shutdown(self) -> None:
        """Close the connection for good."""
        super().shutdown()
        consumer_closed.send(sender=self)
