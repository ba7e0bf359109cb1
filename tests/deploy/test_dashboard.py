"""The dashboard of docs/deploy: about metrics that there are, and laid out so that Grafana shows all of it."""

from __future__ import annotations

import json
import re
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.conftest import Series
from tests.kit.edge import PROJECT
from tests.kit.promql import read_query
from tests.kit.promtool import needs_promtool, run_promtool

DASHBOARD: dict[str, Any] = json.loads((PROJECT / "docs" / "deploy" / "grafana-dashboard.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
ROWS = ["Traffic", "Streams and generations", "Gateway", "Connections and TLS", "Workers and drain"]
VARIABLES = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}
WIDTH = 24
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}

each_panel = pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])


def queries_of(panel: dict[str, Any]) -> list[str]:
    """A panel's queries, with values in place of Grafana's variables."""
    return [re.sub(r"\$\w+", ".*", each["expr"].replace("$__rate_interval", "5m")) for each in panel["targets"]]


@each_panel
def test_a_panel_says_what_it_shows_in_which_unit(panel: dict[str, Any]) -> None:
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["datasource"] == DATASOURCE
    assert panel["targets"]
    assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
    assert all(target["datasource"] == DATASOURCE and target["legendFormat"] for target in panel["targets"])


@each_panel
def test_a_panel_asks_for_what_is_measured(panel: dict[str, Any], series: Series) -> None:
    for target, text in zip(panel["targets"], queries_of(panel), strict=True):
        query = read_query(text)
        assert query.selected
        for name, labels in query.selected:
            assert labels <= series[name], name
        shown = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
        assert shown <= query.grouped <= {"le"}.union(*(series[name] for name, _ in query.selected))


@each_panel
def test_a_panel_shows_what_was_chosen_and_no_more(panel: dict[str, Any], series: Series) -> None:
    for target in panel["targets"]:
        for name, labels in read_query(re.sub(r"\$__rate_interval", "5m", target["expr"])).selected:
            choosable = series[name] & VARIABLES.keys()
            assert choosable <= labels, name
        assert set(re.findall(r"\$(\w+)", target["expr"])) <= {*VARIABLES, "__rate_interval"}


def test_the_rows_are_there_and_each_has_panels() -> None:
    kinds = [panel["title"] if panel["type"] == "row" else None for panel in DASHBOARD["panels"]]
    assert [title for title in kinds if title] == ROWS
    assert all(kinds[kinds.index(title) + 1] is None for title in ROWS)


def test_no_panel_covers_another_and_all_are_within_the_page() -> None:
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))
    places = [panel["gridPos"] for panel in DASHBOARD["panels"]]
    assert all(place["x"] >= 0 and place["x"] + place["w"] <= WIDTH for place in places)
    for one, other in combinations(places, 2):
        is_beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        is_above = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert is_beside or is_above, (one, other)
    assert places == sorted(places, key=lambda place: (place["y"], place["x"]))


def test_the_data_source_the_mount_and_the_protocol_can_be_chosen(series: Series) -> None:
    assert set(VARIABLES) == {"datasource", "job", "instance", "mount", "protocol"}
    assert VARIABLES["datasource"]["type"] == "datasource"
    for name in VARIABLES.keys() - {"datasource"}:
        asked = re.fullmatch(r"label_values\((.*), (\w+)\)", VARIABLES[name]["query"]["query"])
        assert asked is not None
        assert asked[2] == name
        ((metric, labels),) = read_query(asked[1]).selected
        assert {name} | labels <= series[metric]


def test_every_metric_of_the_edge_is_on_it(series: Series) -> None:
    shown = {name for panel in PANELS for text in queries_of(panel) for name, _ in read_query(text).selected}
    base = {re.sub(r"_(bucket|count|sum|created)$", "", name) for name in series if name.startswith("sage_edge_")}
    assert base == {re.sub(r"_(bucket|count)$", "", name) for name in shown if name.startswith("sage_edge_")}


@needs_promtool
def test_prometheus_understands_the_queries(tmp_path: Path) -> None:
    rules = [{"record": "shown", "labels": {"panel": panel["title"], "number": str(number)}, "expr": text}
             for panel in PANELS for number, text in enumerate(queries_of(panel))]  # fmt: skip
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    checked = run_promtool("check", "rules", str(tmp_path / "rules.yaml"))
    assert checked.returncode == 0, checked.stdout + checked.stderr
