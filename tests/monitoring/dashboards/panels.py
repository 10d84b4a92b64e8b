"""The few kinds of panels that the dashboards are made of."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from grafana_foundation_sdk.builders import common, prometheus, stat, timeseries
from grafana_foundation_sdk.builders import dashboard as dashboards
from grafana_foundation_sdk.models import common as kinds
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    DataSourceRef,
    Threshold,
    ThresholdsMode,
    VariableRefresh,
    VariableSort,
)

#: The data source that whoever opens the dashboard chooses.
_SOURCE: Final = DataSourceRef(type_val="prometheus", uid="$datasource")
#: A dashboard is 24 columns wide.
_WIDTH: Final = 24
_STAT_HEIGHT: Final = 4
_GRAPH_HEIGHT: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One number, green below `warn`, red from `alarm` on; `falling` turns that round."""

    title: str
    expression: str
    about: str
    unit: str = "short"
    warn: float | None = None
    alarm: float | None = None
    falling: bool = False
    decimals: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """Lines over time; each expression has the legend of its series."""

    title: str
    lines: tuple[tuple[str, str], ...]
    about: str
    unit: str = "short"
    stacked: bool = False
    exemplars: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Panels beside each other under a heading."""

    title: str
    figures: tuple[Figure, ...] = ()
    graphs: tuple[Graph, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Dashboard:
    """One dashboard; `by_client` lets its reader choose clients, as `$client` in expressions."""

    uid: str
    title: str
    about: str
    rows: tuple[Row, ...] = field(default=())
    by_client: bool = False


def build(described: Dashboard) -> dashboards.Dashboard:
    """Return Grafana's own form of a dashboard."""
    built = (
        dashboards.Dashboard(described.title)
        .uid(described.uid)
        .description(described.about)
        .tags(["evergrant"])
        .timezone("browser")
        .refresh("30s")
        .time("now-6h", "now")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .readonly()
        .with_variable(dashboards.DatasourceVariable("datasource").type("prometheus").label("Prometheus"))
        .link(
            dashboards.DashboardLink("Evergrant")
            .type(DashboardLinkType.DASHBOARDS)
            .tags(["evergrant"])
            .include_vars(True)
            .keep_time(True)
            .as_dropdown(False)
        )
    )
    if described.by_client:
        built = built.with_variable(
            dashboards.QueryVariable("client")
            .label("Client")
            .datasource(_SOURCE)
            .query("label_values(evergrant_grants, client)")
            .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
            .sort(VariableSort.ALPHABETICAL_ASC)
            .multi(True)
            .include_all(True)
            .all_value(".+")
        )
    for row in described.rows:
        built = built.with_row(dashboards.Row(row.title))
        for figure in row.figures:
            built = built.with_panel(_figure(figure, _WIDTH // len(row.figures)))
        for graph in row.graphs:
            built = built.with_panel(_graph(graph, _WIDTH // min(len(row.graphs), 3)))
    return built


def _query(expression: str, legend: str = "", *, exemplars: bool = False) -> prometheus.Dataquery:
    return prometheus.Dataquery().expr(expression).legend_format(legend).range().exemplar(exemplars)


def _figure(figure: Figure, width: int) -> stat.Panel:
    # Of a falling figure the least is bad: green begins where it is good.
    first, second, third = ("red", "orange", "green") if figure.falling else ("green", "orange", "red")
    steps = [Threshold(value=None, color=first)]
    if figure.warn is not None:
        steps.append(Threshold(value=figure.warn, color=second))
    if figure.alarm is not None:
        steps.append(Threshold(value=figure.alarm, color=third))
    panel = (
        stat.Panel()
        .title(figure.title)
        .description(figure.about)
        .datasource(_SOURCE)
        .unit(figure.unit)
        .height(_STAT_HEIGHT)
        .span(width)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .color_mode(kinds.BigValueColorMode.BACKGROUND)
        .graph_mode(kinds.BigValueGraphMode.AREA)
        .thresholds(dashboards.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps))
        .with_target(_query(figure.expression))
    )
    return panel if figure.decimals is None else panel.decimals(figure.decimals)


def _graph(graph: Graph, width: int) -> timeseries.Panel:
    panel = (
        timeseries.Panel()
        .title(graph.title)
        .description(graph.about)
        .datasource(_SOURCE)
        .unit(graph.unit)
        .height(_GRAPH_HEIGHT)
        .span(width)
        .min(0)
        .fill_opacity(20 if graph.stacked else 5)
        .show_points(kinds.VisibilityMode.NEVER)
        .legend(
            common.VizLegendOptions()
            .display_mode(kinds.LegendDisplayMode.LIST)
            .placement(kinds.LegendPlacement.BOTTOM)
            .show_legend(True)
        )
        .tooltip(common.VizTooltipOptions().mode(kinds.TooltipDisplayMode.MULTI).sort(kinds.SortOrder.DESCENDING))
    )
    if graph.stacked:
        panel = panel.stacking(common.StackingConfig().mode(kinds.StackingMode.NORMAL).group("A"))
    for expression, legend in graph.lines:
        panel = panel.with_target(_query(expression, legend, exemplars=graph.exemplars))
    return panel
