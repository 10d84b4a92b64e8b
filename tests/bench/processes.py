"""CPU time and memory of processes, from outside."""

from __future__ import annotations

from collections.abc import Iterable

import psutil


def cpu_seconds(roots: Iterable[int]) -> float:
    """Return the CPU seconds, user and system, of processes and all their descendants, ended ones included."""
    total = 0.0
    for root in roots:
        for process in _family(root):
            try:
                times = process.cpu_times()
            except psutil.NoSuchProcess:
                continue
            # What a process has waited for counts too: a connection that was closed meanwhile was a backend of its own.
            total += times.user + times.system + times.children_user + times.children_system
    return total


def resident_bytes(root: int) -> int:
    """Return the memory that a process and its descendants hold, bytes."""
    total = 0
    for process in _family(root):
        try:
            total += int(process.memory_info().rss)
        except psutil.NoSuchProcess:
            continue
    return total


def _family(root: int) -> list[psutil.Process]:
    try:
        process = psutil.Process(root)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []
