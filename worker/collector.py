"""Python's garbage collector, told what a long-running process need not have looked through again and again."""

from __future__ import annotations

import gc
from typing import Final

#: New objects after which the young ones are looked through. Nearly all of ours end with their last reference; by
#: Python's own 700 the collector takes a tenth of a refresh's time to find that out.
_YOUNG: Final = 5_000
#: Such looks after which the middle-aged ones are looked through too, and those after which everything is.
_MIDDLE: Final = 20
_OLD: Final = 50


def spare_what_is_loaded() -> None:
    """Leave all that is in memory by now out of later collections: called once, when a process has started.

    Modules, classes and configuration stay until the process ends. To look through them all takes a hundred
    milliseconds, in which no answer is read and nothing is stored.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, _MIDDLE, _OLD)
