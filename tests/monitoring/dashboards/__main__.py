"""Writes the dashboards: `python -m tests.monitoring.dashboards`, or `make dashboards`."""

from __future__ import annotations

from tests.monitoring.dashboards.files import FOLDER, as_json, dashboards

for name, described in dashboards().items():
    (FOLDER / name).write_text(as_json(described), encoding="utf-8")
