"""What goes on in workers, and beneath them."""

from __future__ import annotations

from typing import Final

from tests.monitoring.dashboards.panels import Dashboard, Graph, Row


def _quantiles(metric: str) -> tuple[tuple[str, str], ...]:
    return tuple(
        (f"histogram_quantile({part}, sum by (le) (rate({metric}_bucket[5m])))", f"p{name}")
        for part, name in (("0.5", "50"), ("0.9", "90"), ("0.99", "99"))
    )


INTERNALS: Final = Dashboard(
    uid="evergrant-internals",
    title="Evergrant: worker internals",
    about="What goes on in workers, and beneath them.",
    rows=(
        Row(
            title="From answer to commit",
            graphs=(
                Graph(
                    title="Settle",
                    lines=_quantiles("evergrant_settle_duration_seconds"),
                    about="While a rotated token exists in memory only. 20 ms is the aim.",
                    unit="s",
                    exemplars=True,
                ),
                Graph(
                    title="Escrow",
                    lines=(
                        ("max(evergrant_escrow_depth)", "waiting"),
                        ("max(evergrant_escrow_refused)", "refused"),
                    ),
                    about="Tokens that wait outside the database.",
                ),
                Graph(
                    title="Superseded and rescued",
                    lines=(
                        ("sum(rate(evergrant_superseded_total[5m])) * 300", "superseded"),
                        ("sum(rate(evergrant_leases_rescued_total[5m])) * 300", "leases rescued"),
                    ),
                    about="Outcomes not stored for the row had changed, and leases of dead workers, in five minutes.",
                ),
            ),
        ),
        Row(
            title="Scan and clocks",
            graphs=(
                Graph(
                    title="Scan",
                    lines=_quantiles("evergrant_scan_duration_seconds"),
                    about="How long it takes to look for what is due.",
                    unit="s",
                ),
                Graph(
                    title="Oldest snapshot",
                    lines=(("max(evergrant_oldest_snapshot_transactions)", "transactions"),),
                    about="What it may still see cannot be removed, and claims get slow.",
                ),
                Graph(
                    title="Clock of providers",
                    lines=(("max by (provider) (abs(evergrant_provider_clock_skew_seconds))", "{{provider}}"),),
                    about="How far it is from the database's.",
                    unit="s",
                ),
            ),
        ),
        Row(
            title="Processes",
            graphs=(
                Graph(
                    title="Processor",
                    lines=(("rate(process_cpu_seconds_total[5m])", "{{instance}}"),),
                    about="Processors in use. A worker uses one at most: start more processes for more.",
                ),
                Graph(
                    title="Memory",
                    lines=(("process_resident_memory_bytes", "{{instance}}"),),
                    about="Of each process that is scraped by itself.",
                    unit="bytes",
                ),
                Graph(
                    title="Webhooks",
                    lines=(
                        ("max by (endpoint) (evergrant_webhook_waiting)", "{{endpoint}} waiting"),
                        ("max by (endpoint) (evergrant_webhook_dead)", "{{endpoint}} dead"),
                    ),
                    about="Events that endpoints have not taken.",
                ),
            ),
        ),
    ),
)
