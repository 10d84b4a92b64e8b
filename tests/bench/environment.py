"""Two environments: the bench's own packages are on PYTHONPATH for the bench's programs, and not for the product's.

No proxy is in either: everything is on loopback.
"""

from __future__ import annotations

import os
from typing import Final

_PROXY: Final = "_proxy"
#: As it was when the bench was started.
_WITH_PACKAGES: Final = {name: value for name, value in os.environ.items() if not name.lower().endswith(_PROXY)}


def hide_packages() -> None:
    """Take the bench's packages away from every process that is started with this process's environment."""
    os.environ.pop("PYTHONPATH", None)
    for name in [name for name in os.environ if name.lower().endswith(_PROXY)]:
        del os.environ[name]


def with_packages() -> dict[str, str]:
    """Return the environment for the bench's own programs."""
    return dict(_WITH_PACKAGES)
