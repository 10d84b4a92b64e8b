"""A README's fenced blocks, and the commands in them with what they are said to print."""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_BLOCK: Final = re.compile(r"^(?P<indent> *)```(?P<kind>\w+)\n(?P<text>.*?)^ *```$", re.DOTALL | re.MULTILINE)
_PROMPTS: Final = ("$ ", "# ")


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One command line without its prompt and remark, and the lines below it."""

    line: str
    output: str


def blocks(path: Path, kind: str) -> list[str]:
    """Return the texts of all blocks of a kind: `console`, `toml`, `json`, `python`."""
    found = _BLOCK.finditer(path.read_text(encoding="utf-8"))
    return [textwrap.dedent(block["text"]) for block in found if block["kind"] == kind]


def commands(path: Path) -> list[Command]:
    """Return all commands of a README's `console` blocks, in order."""
    found: list[Command] = []
    for block in blocks(path, "console"):
        for line in block.splitlines():
            if line.startswith(_PROMPTS):
                said = re.split(r"\s{2,}# |\s+# and ", line[2:])[0].strip()
                found.append(Command(line=said, output=""))
            elif found:
                last = found.pop()
                found.append(Command(line=last.line, output=f"{last.output}{line}\n"))
    return found
