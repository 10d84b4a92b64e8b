"""The dashboards with the files that they are committed as."""

from __future__ import annotations

from typing import Final

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from tests.monitoring.dashboards.client import CLIENT
from tests.monitoring.dashboards.internals import INTERNALS
from tests.monitoring.dashboards.overview import OVERVIEW
from tests.monitoring.dashboards.panels import Dashboard, build
from tests.monitoring.prometheus_tools import DEPLOY

FOLDER: Final = DEPLOY / "grafana" / "dashboards"


def dashboards() -> dict[str, Dashboard]:
    """Return each dashboard under the name of its file."""
    return {f"{found.uid.removeprefix('evergrant-')}.json": found for found in (OVERVIEW, CLIENT, INTERNALS)}


def as_json(described: Dashboard) -> str:
    """Return what Grafana reads."""
    return JSONEncoder(sort_keys=True, indent=2).encode(build(described).build()) + "\n"


def expressions(described: Dashboard) -> list[str]:
    """Return every query of a dashboard."""
    found = [figure.expression for row in described.rows for figure in row.figures]
    return found + [expression for row in described.rows for graph in row.graphs for expression, _ in graph.lines]
