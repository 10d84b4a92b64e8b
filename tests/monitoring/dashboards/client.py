"""One client, or several: its grants, its provider's answers, and what holds it back."""

from __future__ import annotations

from typing import Final

from tests.monitoring.dashboards.panels import Dashboard, Figure, Graph, Row

_OF: Final = 'client=~"$client"'


def _quantile(part: str, metric: str) -> str:
    return f"histogram_quantile({part}, sum by (le) (rate({metric}_bucket{{{_OF}}}[5m])))"


CLIENT: Final = Dashboard(
    uid="evergrant-client",
    title="Evergrant: client",
    about="A client's grants, its provider's answers, and what holds it back.",
    by_client=True,
    rows=(
        Row(
            title="Now",
            figures=(
                Figure(
                    title="Active grants",
                    expression=f'sum(max by (client) (evergrant_grants{{{_OF}, state="active"}}))',
                    about="Kept alive.",
                ),
                Figure(
                    title="Access tokens run out",
                    expression=f"sum(max by (client) (evergrant_expired_access_tokens{{{_OF}}}))",
                    about="Active grants without a valid access token.",
                    warn=1,
                    alarm=10,
                ),
                Figure(
                    title="Breaker",
                    expression=f"max(evergrant_breaker_state{{{_OF}}})",
                    about="1 while it is open.",
                    alarm=1,
                ),
                Figure(
                    title="Brake",
                    expression=f"max(evergrant_brake_state{{{_OF}}})",
                    about="1 while it is on.",
                    alarm=1,
                ),
                Figure(
                    title="Throttled",
                    expression=f"max(evergrant_throttled_state{{{_OF}}})",
                    about="1 while the provider has asked for a pause.",
                    warn=1,
                ),
                Figure(
                    title="Paused",
                    expression=f"max(evergrant_paused_state{{{_OF}}})",
                    about="1 while an operator holds it back.",
                    warn=1,
                ),
            ),
        ),
        Row(
            title="Refreshes",
            graphs=(
                Graph(
                    title="By outcome and reason",
                    lines=(
                        (
                            f"sum by (outcome, reason) (client:evergrant_refresh:rate5m{{{_OF}}})",
                            "{{outcome}} {{reason}}",
                        ),
                    ),
                    about="Each attempt and what came of it.",
                    unit="reqps",
                    stacked=True,
                ),
                Graph(
                    title="The provider's answers",
                    lines=tuple(
                        (_quantile(part, "evergrant_refresh_duration_seconds"), f"p{name}")
                        for part, name in (("0.5", "50"), ("0.9", "90"), ("0.99", "99"))
                    ),
                    about="How long the token endpoint took.",
                    unit="s",
                    exemplars=True,
                ),
                Graph(
                    title="Late",
                    lines=tuple(
                        (_quantile(part, "evergrant_rotation_lag_seconds"), f"p{name}")
                        for part, name in (("0.5", "50"), ("0.99", "99"))
                    ),
                    about="How long after they were due refreshes began.",
                    unit="s",
                    exemplars=True,
                ),
            ),
        ),
        Row(
            title="Grants",
            graphs=(
                Graph(
                    title="By state",
                    lines=((f"sum by (state) (max by (client, state) (evergrant_grants{{{_OF}}}))", "{{state}}"),),
                    about="All grants of the client.",
                    stacked=True,
                ),
                Graph(
                    title="Overdue and in flight",
                    lines=(
                        (f"sum(max by (client) (evergrant_overdue_grants{{{_OF}}}))", "overdue"),
                        (f"sum(max by (client) (evergrant_in_flight_grants{{{_OF}}}))", "in flight"),
                    ),
                    about="In flight at the client's max_in_flight means that the provider is slow.",
                ),
                Graph(
                    title="Doubts and deaths",
                    lines=(
                        (
                            f"sum by (resolution) (rate(evergrant_in_doubt_total{{{_OF}}}[15m])) * 900",
                            "doubt: {{resolution}}",
                        ),
                        (
                            f"sum by (reason) (rate(evergrant_grants_dead_total{{{_OF}}}[15m])) * 900",
                            "death: {{reason}}",
                        ),
                    ),
                    about="How doubts ended and why grants died, in a quarter of an hour.",
                ),
            ),
        ),
    ),
)
