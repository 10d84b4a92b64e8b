"""For the glance at three in the morning: is a promise broken, which client, which cause."""

from __future__ import annotations

from typing import Final

from tests.monitoring.dashboards.panels import Dashboard, Figure, Graph, Row

OVERVIEW: Final = Dashboard(
    uid="evergrant-overview",
    title="Evergrant: overview",
    about="Is a promise broken, which client is it, and what is the cause?",
    rows=(
        Row(
            title="Promises",
            figures=(
                Figure(
                    title="Alerts firing",
                    expression='count(ALERTS{alertname=~"Evergrant.+", alertstate="firing"}) or vector(0)',
                    about="Each has a section in deploy/runbook.md.",
                    alarm=1,
                ),
                Figure(
                    title="Access tokens valid",
                    expression="1 - evergrant:access_token_errors:ratio",
                    about="Of the active grants, those whose access token is valid. The objective is 99.9 %.",
                    unit="percentunit",
                    warn=0.99,
                    alarm=0.999,
                    falling=True,
                    decimals=2,
                ),
                Figure(
                    title="Refreshes on time",
                    expression="1 - evergrant:late_rotations:ratio_5m",
                    about="Those that begin within 30 s after they are due. The objective is 99.9 %.",
                    unit="percentunit",
                    warn=0.99,
                    alarm=0.999,
                    falling=True,
                    decimals=2,
                ),
                Figure(
                    title="Rotated tokens lost, 24 h",
                    expression="sum(increase(evergrant_rotated_tokens_lost_total[24h]))",
                    about="The promise is none.",
                    alarm=1,
                    decimals=0,
                ),
                Figure(
                    title="Oldest overdue",
                    expression="max(evergrant_oldest_overdue_seconds)",
                    about="How long the grant has been due that has waited longest.",
                    unit="s",
                    warn=30,
                    alarm=120,
                ),
            ),
        ),
        Row(
            title="Causes",
            figures=(
                Figure(
                    title="Workers",
                    expression="max(evergrant_workers)",
                    about="Workers that hold their lock in the database.",
                    warn=1,
                    alarm=1,
                    falling=True,
                ),
                Figure(
                    title="Last scan ago",
                    expression="time() - max(evergrant_last_scan_timestamp_seconds)",
                    about="Beat, the broker and a worker are needed for a scan.",
                    unit="s",
                    warn=15,
                    alarm=60,
                ),
                Figure(
                    title="Escrow",
                    expression="max(evergrant_escrow_depth)",
                    about="Tokens that wait outside the database.",
                    alarm=1,
                ),
                Figure(
                    title="Breakers open",
                    expression="sum(max by (client) (evergrant_breaker_state))",
                    about="Clients that are refused, or whose provider is silent.",
                    alarm=1,
                ),
                Figure(
                    title="Brakes on",
                    expression="sum(max by (client) (evergrant_brake_state))",
                    about="Clients whose grants die abnormally often.",
                    alarm=1,
                ),
                Figure(
                    title="In doubt",
                    expression='sum(max by (client) (evergrant_grants{state="in_doubt"}))',
                    about="Grants whose token was presented and whose answer was not read.",
                    warn=1,
                    alarm=100,
                ),
            ),
        ),
        Row(
            title="By client",
            graphs=(
                Graph(
                    title="Refreshes by outcome",
                    lines=(("sum by (outcome) (client:evergrant_refresh:rate5m)", "{{outcome}}"),),
                    about="All clients together.",
                    unit="reqps",
                    stacked=True,
                ),
                Graph(
                    title="Access tokens run out",
                    lines=(("client:evergrant_expired_access_tokens:max", "{{client}}"),),
                    about="Active grants without a valid access token.",
                ),
                Graph(
                    title="Overdue",
                    lines=(("client:evergrant_overdue_grants:max", "{{client}}"),),
                    about="Grants past the time at which they were to be refreshed.",
                ),
                Graph(
                    title="Deaths",
                    lines=(("sum by (client) (rate(evergrant_grants_dead_total[15m])) * 900", "{{client}}"),),
                    about="Grants that came to need their owners, in a quarter of an hour.",
                ),
                Graph(
                    title="Doubts",
                    lines=(
                        ('sum by (client) (client:evergrant_refresh:rate5m{outcome="in_doubt"}) * 300', "{{client}}"),
                    ),
                    about="Refreshes without a readable answer, in five minutes.",
                ),
                Graph(
                    title="Alerts",
                    lines=(
                        (
                            'sum by (alertname) (ALERTS{alertname=~"Evergrant.+", alertstate="firing"}) or vector(0)',
                            "{{alertname}}",
                        ),
                    ),
                    about="What fires.",
                ),
            ),
        ),
        Row(
            title="Owners",
            graphs=(
                Graph(
                    title="Waiting for their owners",
                    lines=(
                        ('max by (client) (evergrant_grants{state="reconsent_required"})', "{{client}}"),
                        ("max by (client) (evergrant_consents_ending)", "{{client}} ending"),
                    ),
                    about="Grants that only their owners can bring back, and those whose consent is about to end.",
                ),
                Graph(
                    title="Mails",
                    lines=(("sum by (outcome) (rate(evergrant_reconsent_mails_total[15m])) * 900", "{{outcome}}"),),
                    about="What became of mails to owners, in a quarter of an hour.",
                ),
                Graph(
                    title="Brought back",
                    lines=(("sum by (client) (rate(evergrant_grants_revived_total[15m])) * 900", "{{client}}"),),
                    about="Grants that their owners brought back, in a quarter of an hour.",
                ),
            ),
        ),
    ),
)
