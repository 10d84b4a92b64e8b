"""Debian's Prometheus: where its programs are, and the rules as data."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

DEPLOY: Final = Path(__file__).parents[2] / "deploy"
RULES: Final = tuple(sorted((DEPLOY / "prometheus").glob("*.rules.yaml")))
RULE_TESTS: Final = tuple(sorted((DEPLOY / "prometheus").glob("*.test.yaml")))


class ProgramMissingError(RuntimeError):
    """A program of Prometheus is not there; the message says what to install."""


def program(name: str) -> str:
    """Return where a program is.

    Raises:
        ProgramMissingError: it is not on PATH.

    """
    found = shutil.which(name)
    if found is None:
        raise ProgramMissingError(f"{name} not found; install the package prometheus of a distribution, or Prometheus")
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule: a recording rule has a record's name, an alert its own."""

    record: str | None
    alert: str | None
    expression: str
    labels: dict[str, str]
    annotations: dict[str, str]

    @property
    def name(self) -> str:
        """Return what it is called."""
        return self.alert or self.record or ""


def read_rules() -> list[Rule]:
    """Return every rule of ours."""
    groups = [group for path in RULES for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]]
    return [
        Rule(
            record=rule.get("record"),
            alert=rule.get("alert"),
            expression=rule["expr"],
            labels=rule.get("labels", {}),
            annotations=rule.get("annotations", {}),
        )
        for group in groups
        for rule in group["rules"]
    ]


def read_rule_tests() -> list[dict[str, Any]]:
    """Return every case of `promtool test rules`."""
    return [test for path in RULE_TESTS for test in yaml.safe_load(path.read_text(encoding="utf-8"))["tests"]]
