"""The committed dashboards are what the code makes, and they and the rules ask for metrics that there are."""

from __future__ import annotations

import re

import pytest
from prometheus_client import CollectorRegistry

from tests.monitoring.dashboards.files import FOLDER, as_json, dashboards, expressions
from tests.monitoring.prometheus_tools import read_rules
from worker.metrics import Metrics
from worker.web.gauge_families import Found, families

_ENDINGS = ("", "_total", "_bucket", "_count", "_sum")


@pytest.mark.parametrize("name", dashboards())
def test_the_committed_dashboard_is_what_the_code_makes(name: str) -> None:
    """`make dashboards` changes nothing."""
    assert (FOLDER / name).read_text(encoding="utf-8") == as_json(dashboards()[name])
    assert sorted(path.name for path in FOLDER.glob("*.json")) == sorted(dashboards())


def test_every_expression_names_metrics_that_there_are() -> None:
    """No rule and no panel asks for a metric that no process serves."""
    registry = CollectorRegistry()
    Metrics(registry, lambda: 0.0)
    gauges = families(Found(figures=(), endpoints=(), oldest_snapshot=0, workers=0))
    served = {family.name for family in [*registry.collect(), *gauges]}
    known = {name + ending for name in served for ending in _ENDINGS}
    rules = read_rules()
    recorded = {rule.record for rule in rules}
    asked = [rule.expression for rule in rules] + [
        expression for found in dashboards().values() for expression in expressions(found)
    ]
    for expression in asked:
        without_labels = re.sub(r"\{[^}]*\}", "", expression)
        for name in re.findall(r"\b(?:client:)?evergrant[\w:]+", without_labels):
            assert name in known or name in recorded, (name, expression)
