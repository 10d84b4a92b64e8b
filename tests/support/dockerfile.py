"""A Dockerfile as its instructions, and its build stage run in a folder instead of a container."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
DOCKERFILE: Final = ROOT / "deploy" / "Dockerfile"
_LIMIT_S: Final = 300.0  # the slowest line installs forty packages


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruction:
    """One instruction of one stage."""

    stage: str
    word: str
    rest: str


def instructions(path: Path = DOCKERFILE) -> list[Instruction]:
    """Return a Dockerfile's instructions in order; a stage without a name is the last one, `image`."""
    found, stage = [], ""
    lines = [line for line in path.read_text().splitlines() if line.strip() and not line.startswith("#")]
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        word, _, rest = line.strip().partition(" ")
        if word == "FROM":
            stage = rest.partition(" AS ")[2] or "image"
        found.append(Instruction(stage=stage, word=word, rest=" ".join(rest.split())))
    return found


def build(folder: Path) -> Path:
    """Run the stage `build` line by line, its absolute paths below a folder, and return its `/opt/evergrant`.

    What COPY names comes from the checkout, `python` is this interpreter.
    """
    work = folder / "build"
    work.mkdir()
    environment = {"PATH": "/usr/bin:/bin", "PIP_DISABLE_PIP_VERSION_CHECK": "1", "HOME": str(folder)}
    for one in instructions():
        if one.stage != "build":
            break
        match one.word:
            case "COPY":
                *sources, target = one.rest.split()
                for source in sources:
                    _copy(ROOT / source, work / target, several=len(sources) > 1)
            case "RUN":
                command = one.rest.replace("/opt/", f"{folder}/opt/")
                if command.startswith("python "):
                    command = f"{sys.executable}{command.removeprefix('python')}"
                subprocess.run(["/bin/sh", "-euc", command], cwd=work, env=environment, check=True, timeout=_LIMIT_S)
            case _:
                assert one.word in {"FROM", "WORKDIR", "ENV"}, one
    return folder / "opt" / "evergrant"


def _copy(source: Path, target: Path, *, several: bool) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        return
    into = target / source.name if several or target.is_dir() else target
    into.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, into)
