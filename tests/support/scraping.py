"""Reading a scrape of `/metrics`."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families


def sample(exposition: str, name: str, **labels: str) -> float | None:
    """Return one sample, None where it is not there."""
    for family in text_string_to_metric_families(exposition):
        for found in family.samples:
            if found.name == name and found.labels == labels:
                return found.value
    return None


def families(exposition: str) -> dict[str, str]:
    """Return the metrics of a scrape with their types, counters under the name that a query uses."""
    return {
        family.name + ("_total" if family.type == "counter" else ""): family.type
        for family in text_string_to_metric_families(exposition)
    }
