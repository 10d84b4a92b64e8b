"""The rules are right by promtool, and each alert has all that somebody who is woken needs."""

from __future__ import annotations

import re
import subprocess
from collections import defaultdict

import pytest

from tests.monitoring.prometheus_tools import DEPLOY, RULE_TESTS, RULES, program, read_rule_tests, read_rules
from worker.storage.client_figures import COUNTED_AT_MOST

ALERTS = [rule for rule in read_rules() if rule.alert is not None]


@pytest.mark.prometheus
@pytest.mark.parametrize("path", RULE_TESTS, ids=lambda path: path.name)
def test_each_case_of_promtool_holds(path: object) -> None:
    """`promtool test rules` passes."""
    run = subprocess.run([program("promtool"), "test", "rules", str(path)], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.prometheus
def test_rules_and_example_are_accepted() -> None:
    """`promtool check` finds nothing to say of the rules and of the configurations that name them."""
    promtool = program("promtool")
    for command in (
        ["check", "rules", *map(str, RULES)],
        ["check", "config", str(DEPLOY / "prometheus" / "prometheus.yaml")],
        ["check", "config", str(DEPLOY / "prometheus" / "prometheus.compose.yaml")],
    ):
        run = subprocess.run([promtool, *command], capture_output=True, text=True, check=False)
        assert run.returncode == 0, run.stdout + run.stderr


def test_each_alert_fires_in_one_case_and_stays_silent_in_another() -> None:
    """No alert is without a case in which it fires and one in which something similar leaves it silent."""
    cases: dict[str, set[bool]] = defaultdict(set)
    for test in read_rule_tests():
        for case in test["alert_rule_test"]:
            cases[case["alertname"]].add(bool(case["exp_alerts"]))
    assert {rule.name: cases[rule.name] for rule in ALERTS} == {rule.name: {True, False} for rule in ALERTS}


def test_each_alert_has_a_summary_a_severity_and_a_section_of_the_runbook() -> None:
    """Its link leads to a heading that is there, and no heading is without its alert.

    Each section says what the alert means, where to look, what to do and what not to do, in this order.
    """
    runbook = (DEPLOY / "runbook.md").read_text(encoding="utf-8")
    sections = dict(re.findall(r"^## (Evergrant\w+)\n(.*?)(?=^## )", runbook, re.MULTILINE | re.DOTALL))
    assert sorted(sections) == sorted(rule.name for rule in ALERTS)
    for rule in ALERTS:
        assert rule.labels == {"severity": rule.labels["severity"]}
        assert rule.labels["severity"] in {"page", "ticket"}
        assert rule.annotations["summary"]
        assert rule.annotations["description"]
        assert rule.annotations["runbook_url"] == f"deploy/runbook.md#{rule.name.lower()}"
        said = re.findall(r"^\*\*(Means\.|Look\.|Do\.|Do not)\*\*", sections[rule.name], re.MULTILINE)
        assert said == ["Means.", "Look.", "Do.", "Do not"], rule.name


def test_an_alert_on_growth_knows_where_counting_stops() -> None:
    """A count of overdue grants that stands at its bound is taken for one that grows."""
    [growing] = [rule for rule in ALERTS if rule.name == "EvergrantOverdueGrowing"]
    assert f"client:evergrant_overdue_grants:max >= {COUNTED_AT_MOST}\n" in growing.expression
