"""The one exception of the embedded services."""

from __future__ import annotations

from worker.domain.errors import EvergrantError


class EmbeddedServiceError(EvergrantError):
    """An embedded service cannot be found, started or stopped.

    The message is complete: it names what failed, where, and what to do next, so that a command line can print it as
    it stands. It never holds a password.
    """
