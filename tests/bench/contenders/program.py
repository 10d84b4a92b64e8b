"""The child's side of `child`: its arguments, and how it speaks with the bench."""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What a child is to do.

    Attributes:
        endpoint: the token endpoint's address.
        database: URL of the database with everybody else's tables.
        seconds: after which it ends what it has begun, and begins nothing more.
        part: of the grants, this share's number, counted from 0.
        parts: how many shares there are.

    """

    endpoint: str
    database: str
    seconds: float
    part: int
    parts: int


def parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser of the arguments that every child takes."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument("--endpoint", required=True)
    made.add_argument("--database", required=True)
    made.add_argument("--seconds", type=float, required=True)
    made.add_argument("--part", type=int, default=0)
    made.add_argument("--parts", type=int, default=1)
    return made


def task(given: argparse.Namespace) -> Task:
    """Return what the arguments ask for."""
    return Task(
        endpoint=given.endpoint,
        database=given.database,
        seconds=given.seconds,
        part=given.part,
        parts=given.parts,
    )


def wait_for_go() -> None:
    """Say that everything is prepared, and return at the word; ends the process when the bench is gone."""
    print("ready", flush=True)
    if sys.stdin.readline().strip() != "go":
        sys.exit(1)


def tell_done() -> None:
    """Say that it is over, and wait until that was noted and the input ends."""
    print("done", flush=True)
    sys.stdin.read()
