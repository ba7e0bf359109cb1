"""The alert rules of docs/deploy: about metrics that there are, and each with what to do."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.conftest import Series
from tests.kit.edge import PROJECT
from tests.kit.promql import read_query
from tests.kit.promtool import needs_promtool, run_promtool
from tests.kit.reference import build_reference

ALERTS = PROJECT / "docs" / "deploy" / "alerts.yaml"
ALERT_TESTS = Path(__file__).parent / "alerts_test.yaml"
ALERT_TESTS_OF_DAYS = Path(__file__).parent / "alerts_of_days_test.yaml"
DOCS_URL = "https://github.com/intellistream/sage-edge/blob/main/"
RULES = [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]

each_rule = pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])


def headings(path: Path) -> set[str]:
    """The anchors of a document's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@each_rule
def test_what_it_goes_by_is_measured(rule: dict[str, Any], series: Series) -> None:
    query = read_query(rule["expr"])
    assert query.selected
    for name, labels in query.selected:
        assert labels <= series[name], name
    assert query.grouped <= {"le"}.union(*(series[name] for name, _ in query.selected))


@each_rule
def test_it_says_how_bad_it_is_and_what_to_do(rule: dict[str, Any]) -> None:
    annotations = rule["annotations"]
    assert set(annotations) == {"summary", "description", "action", "runbook_url"}
    assert rule["labels"]["severity"] in {"warning", "critical"}
    page, anchor = annotations["runbook_url"].removeprefix(DOCS_URL).split("#")
    assert anchor in headings(PROJECT / page)
    options = set(re.findall(r"--[a-z][a-z-]+", " ".join(annotations.values())))
    assert options <= set(re.findall(r"--[a-z][a-z-]+", build_reference()))


@each_rule
def test_what_it_names_of_the_series_survives_its_grouping(rule: dict[str, Any], series: Series) -> None:
    query = read_query(rule["expr"])
    known = query.grouped or frozenset().union(*(series[name] for name, _ in query.selected))
    assert set(re.findall(r"\$labels\.(\w+)", str(rule["annotations"]))) <= known


def test_every_alert_is_seen_firing_by_a_test() -> None:
    assert len(RULES) == len({rule["alert"] for rule in RULES})
    assert {rule["alert"] for rule in RULES} == set(re.findall(r'alertname="(\w+)"', ALERT_TESTS.read_text()))


@needs_promtool
def test_prometheus_understands_the_rules() -> None:
    checked = run_promtool("check", "rules", "--lint-fatal", str(ALERTS))
    assert checked.returncode == 0, checked.stdout + checked.stderr


@needs_promtool
def test_alerts_fire_where_they_should_and_nowhere_else() -> None:
    tested = run_promtool("test", "rules", str(ALERT_TESTS), str(ALERT_TESTS_OF_DAYS))
    assert tested.returncode == 0, tested.stdout + tested.stderr
