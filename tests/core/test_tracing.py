"""What a span says, by the rules of OpenTelemetry's semantic conventions."""

from __future__ import annotations

import pytest

from sage_edge.core.exchange import Cause
from sage_edge.core.tracing import KNOWN_METHODS, describe_method, find_error, name_span


@pytest.mark.parametrize("method", sorted(KNOWN_METHODS))
def test_methods_of_http_are_told_as_they_are(method: str) -> None:
    assert describe_method(method) == {"http.request.method": method}
    assert name_span(method, "/llm") == f"{method} /llm"


@pytest.mark.parametrize("method", ["PROPFIND", "get", "x" * 1000])
def test_methods_that_clients_make_up_are_one_and_no_part_of_a_name(method: str) -> None:
    assert describe_method(method) == {"http.request.method": "_OTHER", "http.request.method_original": method}
    assert name_span(method, "/llm") == "HTTP /llm"


def test_where_nothing_is_mounted_the_method_is_the_name() -> None:
    assert name_span("GET", None) == "GET"


@pytest.mark.parametrize("status", [500, 503, 599])
def test_an_answer_of_500_or_more_is_an_error_by_its_status(status: int) -> None:
    assert find_error(status, None, has_ended_well=True) == str(status)
    assert find_error(status, Cause.CLIENT_LEFT, has_ended_well=False) == str(status)


@pytest.mark.parametrize("status", [101, 200, 304, 400, 404, 499])
def test_a_complete_answer_below_500_is_none(status: int) -> None:
    assert find_error(status, None, has_ended_well=True) is None


@pytest.mark.parametrize("cause", Cause)
def test_a_cut_answer_is_one_where_the_server_cut_it(cause: Cause) -> None:
    expected = cause.value if cause in {Cause.ERROR, Cause.DRAINED} else None
    assert find_error(200, cause, has_ended_well=False) == expected


def test_no_answer_is_one_unless_it_is_the_clients_doing() -> None:
    assert find_error(0, None, has_ended_well=False) == "error"
    assert find_error(0, Cause.CLIENT_LEFT, has_ended_well=False) is None
