"""The arithmetic of the tables."""

from __future__ import annotations

import pytest

from tests.bench.loads import LOADS
from tests.bench.rounds import Result, Row
from tests.bench.table import ratio, table


def result(load: str, **figures: list[dict[str, float]]) -> Result:
    rows = [Row(name.replace("_", "-"), rounds) for name, rounds in figures.items()]
    return Result(next(each for each in LOADS if each.name == load), rows)


def test_more_requests_a_second_are_better() -> None:
    compared = result("json-10x10", edge=[{"rate": 10}, {"rate": 60}, {"rate": 20}], hypercorn_trio=[{"rate": 5}])
    assert ratio(compared, compared.rows[0], "hypercorn-trio") == pytest.approx(4)


def test_less_cpu_time_is_better() -> None:
    compared = result("paced-100", edge=[{"cpu": 1}], hypercorn_trio=[{"cpu": 3}])
    assert ratio(compared, compared.rows[0], "hypercorn-trio") == pytest.approx(3)


def test_a_server_that_fails_is_shown_as_failed() -> None:
    compared = result("json-10x10", edge=[])
    compared.rows[0].faults["connection closed"] = 7
    assert "FAILED; 7 x connection closed" in table(compared)


def test_wrong_answers_are_shown() -> None:
    compared = result("json-10x10", edge=[{"rate": 10}])
    compared.rows[0].faults["status 503"] = 2
    assert "ERRORS; 2 x status 503" in table(compared)
