"""The dashboards are those of the code, show what each promise needs, and ask for metrics that are made."""

from __future__ import annotations

import json
import re

import pytest

from tests.contract.test_documented_metrics import made
from tools.watch import charts, grafana
from tools.watch.alerts import RECORDED
from tools.watch.dashboards import DASHBOARDS, OVERVIEW, WIDE, Query

_METRIC = re.compile(r"\btrunkline_[a-z0-9_]+")
_RECORDED = re.compile(r"\btrunkline:[a-z0-9_:]+")
PANELS = [(shown, panel) for shown in DASHBOARDS for panel in shown.panels]
QUERIES = [(f"{shown.name}: {panel.title}", one) for shown, panel in PANELS for one in panel.queries]


@pytest.mark.parametrize("path", grafana.FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_what_is_deployed_is_what_the_code_says(path):
    assert path.read_text() == grafana.FILES[path](), "run `make settings`"


def test_nothing_else_is_deployed():
    assert {path for path in grafana.FOLDER.rglob("*") if path.is_file()} == set(grafana.FILES)


def test_there_are_at_least_four_and_each_has_panels():
    assert len(DASHBOARDS) >= 4
    assert all(len(shown.panels) >= 9 for shown in DASHBOARDS)


@pytest.mark.parametrize(("where", "query"), QUERIES, ids=[where for where, _ in QUERIES])
def test_panels_ask_for_what_is_made(where: str, query: Query):
    names = _METRIC.findall(query.text)
    assert [name for name in names if re.sub(r"_(bucket|sum|count)$", "", name) not in made()] == []
    assert set(_RECORDED.findall(query.text)) <= {one.name for one in RECORDED}
    assert query.legend, "a series without a name"


@pytest.mark.parametrize("shown", DASHBOARDS, ids=lambda shown: shown.name)
def test_grafana_gets_every_query_and_panels_do_not_overlap(shown):
    made = json.loads(grafana.written(shown))
    asked = [target["expr"] for panel in made["panels"] for target in panel["targets"]]
    assert asked == [query.text for panel in shown.panels for query in panel.queries]
    places = {
        (x, y)
        for at in (panel["gridPos"] for panel in made["panels"])
        for x in range(at["x"], at["x"] + at["w"])
        for y in range(at["y"], at["y"] + at["h"])
    }
    assert len(places) == sum(panel.width * panel.height for panel in shown.panels)
    assert max(x for x, _ in places) < WIDE
    titles = [panel.title for panel in shown.panels]
    assert len(set(titles)) == len(titles)


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0, "s", "0 s"),
        (0.0123, "s", "12.3 ms"),
        (90, "s", "90 s"),
        (600, "s", "10 min"),
        (0.25, "percentunit", "25 %"),
        (0, "currencyUSD", "$0.00"),
        (1234.5, "currencyUSD", "$1,234.50"),
        (12.345, "reqps", "12.3 req/s"),
        (1000, "short", "1,000"),
    ],
)
def test_a_value_is_said_with_its_unit(value, unit, text):
    assert charts.said(value, unit) == text


def test_a_picture_has_every_title_and_a_chart_without_answers_says_so():
    answers = {panel.title: [] for panel in OVERVIEW.panels}
    answers["Webhooks by answer"] = [("accepted", [(0.0, 1.0), (10.0, 2.0)]), ("busy", [(10.0, 1.0)])]
    picture = charts.dashboard(OVERVIEW, answers, 0, 10)
    assert [panel.title for panel in OVERVIEW.panels if panel.title not in picture] == []
    assert picture.count(">no data<") == len(OVERVIEW.panels) - 1
    assert ">accepted<" in picture
    assert picture == charts.dashboard(OVERVIEW, answers, 0, 10), "a picture changes with its answers only"


def test_a_line_breaks_where_values_are_missing():
    line = ("a", [(0.0, 1.0), (1.0, 2.0), (5.0, 3.0), (6.0, 1.0)])
    panel = next(one for one in OVERVIEW.panels if one.kind == "lines")
    answers = {one.title: [line] if one is panel else [] for one in OVERVIEW.panels}
    picture = charts.dashboard(OVERVIEW, answers, 0, 10)
    (way,) = re.findall(r'<path d="([^"]+)" clip-path="[^"]+" style="fill: none; stroke: #2f6fde', picture)
    assert [step.split()[0] for step in way.splitlines()] == ["M", "L", "M", "L"]


def test_replicas_are_drawn_lane_by_lane():
    history = [(0.0, {"ai": 1, "audio": 2}), (30.0, {"ai": 3, "audio": 2})]
    picture = charts.scaling(history, {"ai": 8, "audio": 4})
    assert [name for name in ("ai", "audio", "30 s") if f">{name}<" not in picture] == []
