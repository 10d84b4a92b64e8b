"""Two environments: the bench's own packages are on PYTHONPATH for the bench's programs, and not for the product's."""

from __future__ import annotations

import os
from typing import Final

#: As it was when the bench was started.
_WITH_PACKAGES: Final = dict(os.environ)


def hide_packages() -> None:
    """Take the bench's packages away from every process that is started with this process's environment."""
    os.environ.pop("PYTHONPATH", None)


def with_packages() -> dict[str, str]:
    """Return the environment for the bench's own programs."""
    return dict(_WITH_PACKAGES)
