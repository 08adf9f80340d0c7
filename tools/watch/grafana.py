"""Writes the dashboards as Grafana reads them, and how it finds them and the Prometheus."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as looks
from grafana_foundation_sdk.models import dashboard as models

from tools.metric_declarations import ROOT
from tools.watch.dashboards import DASHBOARDS, TENANT, Dashboard, Panel
from tools.watch.rules import commented

FOLDER = ROOT / "deploy" / "grafana"
PROVISIONING = FOLDER / "provisioning"
_SOURCE = models.DataSourceRef(type_val="prometheus", uid="${datasource}")


def written(shown: Dashboard) -> str:
    """Return a dashboard's file."""
    made = (
        dashboard.Dashboard(shown.title)
        .uid(f"trunkline-{shown.name}")
        .description(shown.tells)
        .tags(["trunkline"])
        .readonly()
        .refresh("30s")
        .time("now-1h", "now")
        .timezone("browser")
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .with_variable(dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
        .link(
            dashboard.DashboardLink("Trunkline")
            .type(models.DashboardLinkType.DASHBOARDS)
            .tags(["trunkline"])
            .keep_time(True)
        )
    )
    if any(TENANT in query.text for panel in shown.panels for query in panel.queries):
        made = made.with_variable(
            dashboard.QueryVariable(TENANT.removeprefix("$"))
            .label("Tenant")
            .datasource(_SOURCE)
            .query("label_values(trunkline_source_webhooks_total, tenant)")
            .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
            .multi(True)
            .include_all(True)
            .all_value(".*")
            .current(models.VariableOption(text="All", value="$__all", selected=True))
        )
    for number, panel in enumerate(shown.panels, 1):
        made = made.with_panel(_panel(panel, number))
    return json.dumps(made.build(), cls=JSONEncoder, indent=1, sort_keys=True) + "\n"


def _panel(panel: Panel, number: int) -> stat.Panel | timeseries.Panel:
    made: Any = stat.Panel() if panel.kind == "stat" else timeseries.Panel()
    made = made.id(number).title(panel.title).description(panel.tells).unit(panel.unit).datasource(_SOURCE)
    made = made.span(panel.width).height(panel.height)
    for query, letter in zip(panel.queries, "ABCDEFGH", strict=False):
        made = made.with_target(
            prometheus.Dataquery().expr(query.text).legend_format(query.legend).ref_id(letter).range()
        )
    if panel.kind == "stat":
        made = (
            made.graph_mode(looks.BigValueGraphMode.AREA)
            .color_mode(looks.BigValueColorMode.VALUE)
            .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        )
        coloured: stat.Panel = _stat(made, panel)
        return coloured
    made = (
        made.min(0)
        .line_width(2)
        .show_points(looks.VisibilityMode.NEVER)
        .tooltip(common.VizTooltipOptions().mode(looks.TooltipDisplayMode.MULTI))
        .legend(
            common.VizLegendOptions()
            .display_mode(looks.LegendDisplayMode.LIST)
            .placement(looks.LegendPlacement.BOTTOM)
            .show_legend(True)
        )
    )
    if panel.kind == "stacked":
        stacked = common.StackingConfig().mode(looks.StackingMode.NORMAL)
        return made.fill_opacity(40).stacking(stacked)  # type: ignore[no-any-return]
    return made.fill_opacity(8)  # type: ignore[no-any-return]


def _stat(made: Any, panel: Panel) -> Any:
    steps = [models.Threshold(color="green")]
    if panel.bad_from is not None:
        first, then = ("red", "green") if panel.bad_below else ("green", "red")
        # A value that is bad up to a bound is good just above it.
        bound = panel.bad_from + (1 if panel.bad_below else 0)
        steps = [models.Threshold(color=first), models.Threshold(value=bound, color=then)]
    return made.thresholds(dashboard.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(steps))


def data_sources(url: str = "http://127.0.0.1:9095") -> str:
    """Return what tells Grafana where the Prometheus is."""
    source = {"name": "Prometheus", "uid": "prometheus", "type": "prometheus", "access": "proxy", "url": url}
    more = {"isDefault": True, "jsonData": {"timeInterval": "15s", "httpMethod": "POST"}}
    return commented({"apiVersion": 1, "datasources": [{**source, **more}]})


def providers(folder: str = "/var/lib/grafana/dashboards/trunkline") -> str:
    """Return what tells Grafana where the dashboards' files are."""
    options = {"path": folder, "foldersFromFilesStructure": False}
    provider = {"name": "trunkline", "folder": "Trunkline", "type": "file", "options": options}
    return commented({"apiVersion": 1, "providers": [provider]})


FILES: dict[Path, Callable[[], str]] = {
    **{FOLDER / f"{shown.name}.json": partial(written, shown) for shown in DASHBOARDS},
    PROVISIONING / "datasources" / "trunkline.yaml": data_sources,
    PROVISIONING / "dashboards" / "trunkline.yaml": providers,
}
