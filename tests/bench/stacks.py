"""Reads collapsed stacks, as py-spy's `raw` format has them: `frame;frame;frame count`, the innermost last."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

_FRAME: Final = re.compile(r"(?P<name>.*) \((?P<file>[^()]*?)(?::\d+)?\)")
_POOL_NUMBER: Final = re.compile(r"[-_]\d+(_\d+)?$")
_OURS: Final = "worker/"


@dataclass(slots=True, kw_only=True)
class Costs:
    """Samples of a process's threads, summed in four ways.

    Attributes:
        samples: all of them.
        threads: by the thread's name, numbers of a pool's threads left out.
        packages: by the package whose code was running.
        functions: by the function that was running.
        ours: by the innermost function of Evergrant's: what it does itself, and what it has libraries do.

    """

    samples: int = 0
    threads: Counter[str] = field(default_factory=Counter)
    packages: Counter[str] = field(default_factory=Counter)
    functions: Counter[str] = field(default_factory=Counter)
    ours: Counter[str] = field(default_factory=Counter)


def read_costs(lines: Iterable[str]) -> Costs:
    """Sum the samples of all threads but the main one, which starts the process and then waits for messages.

    Args:
        lines: collapsed stacks whose first frame is the thread.

    """
    costs = Costs()
    for line in lines:
        stack, _, count = line.rstrip().rpartition(" ")
        first, *frames = stack.split(";")
        _, _, thread = first.partition(": ")
        if not thread or thread == "MainThread" or not frames or not count.isdigit():
            continue
        samples, name, file = int(count), *_split(frames[-1])
        costs.samples += samples
        costs.threads[_POOL_NUMBER.sub("", thread)] += samples
        costs.packages[_package(file)] += samples
        costs.functions[f"{name} ({file})"] += samples
        own = [f"{name} ({file})" for name, file in map(_split, frames) if file.startswith(_OURS)]
        costs.ours[own[-1] if own else "none of ours"] += samples
    return costs


def _split(frame: str) -> tuple[str, str]:
    match = _FRAME.fullmatch(frame)
    return (match["name"], match["file"]) if match else (frame, "")


def _package(file: str) -> str:
    return file.split("/", 1)[0].removesuffix(".py") if file else "unknown"
