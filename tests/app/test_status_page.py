"""The status page: whole without a script, safe in what it shows, and live for a bounded number of viewers."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import pytest

from sage_edge.app.sparkline import draw
from sage_edge.app.status_page import (
    MOST_VIEWERS,
    PARTS,
    Status,
    build_status_page,
    show_bytes,
    show_clock,
    show_rate,
    show_seconds,
)
from sage_edge.core.metric_families import Metrics
from sage_edge.core.problems import Problem
from sage_edge.core.status import History, read_overview, take_sample

HOSTILE = "<script>alert(1)</script>"


def a_status(metrics: Metrics | None = None, *problems: Problem) -> Status:
    """Of an edge with one mount."""
    snapshot = (metrics or Metrics()).snapshot()
    history = History()
    history.add(take_sample(snapshot, 1))
    history.add(take_sample(snapshot, 2))
    return Status(read_overview(snapshot, 0), history, problems, {"/llm": "a.gateway:app"})


class Outline(HTMLParser):
    """The elements of a page, and what is open at its end."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.identifiers: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: Any) -> None:
        self.identifiers += [value for name, value in attributes if name == "id"]
        if tag not in {"meta", "link", "br"}:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: Any) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


async def get_page(status: Status) -> tuple[str, Any]:
    client = build_status_page(lambda: status, version="1.2.3").test_client()
    response = await client.get("/")
    assert response.status_code == 200
    return (await response.get_data()).decode(), response.headers


async def test_the_page_is_well_formed_and_has_each_part_once() -> None:
    text, _ = await get_page(a_status())
    outline = Outline(text)
    assert outline.open == []
    assert sorted(outline.identifiers) == sorted(set(outline.identifiers))
    assert set(PARTS) <= set(outline.identifiers)


async def test_it_needs_no_script() -> None:
    metrics = Metrics()
    metrics.requests.add("/llm", "2", "POST", "200", amount=1234)
    metrics.requests.add("/other", "1.1", "GET", "500")
    metrics.requests.add("none", "1.1", "GET", "404")
    metrics.cancellations.add("/llm", "client_left", amount=7)
    metrics.readiness_check.of("accepting").number = 0
    metrics.phase.of("ready").number = 1
    metrics.loop_lag_seconds.of().number = 0.7
    metrics.gateway_lag_seconds.of("/llm").number = 0.003
    metrics.longest_wait_seconds.of("/llm", "first_event").number = 42
    metrics.waits_given_up.add("/llm", "first_event", amount=10)
    metrics.requests_in_flight.of("/llm", "2").number = 9
    metrics.answers_waiting_for_client.of("/llm", "2").number = 3
    metrics.certificate_expiry_seconds.of().number = 86_400 * 12.5
    metrics.workers_wanted.of().number = 2
    metrics.workers_ready.of().number = 1
    text, _ = await get_page(a_status(metrics, Problem(3661, "warning", "worker ended", worker=2)))
    words = re.sub(r"<script.*?</script>|<style.*?</style>|<[^>]*>|\s+", " ", text, flags=re.DOTALL)
    words = re.sub(r"\s+", " ", words)
    for shown in (
        "1.2.3",
        "degraded",
        "1,234",
        "a.gateway:app",
        "HTTP/2",
        "client left 7",
        "accepting not ok",
        "12 days left",
        "1 of 2 workers ready",
        "Edge its event loop was up to 700 ms late",
        "Gateway its event loop answers in 3 ms",
        "longest wait now: 42.0 s for a first event , 0 ms for an answer to begin ; 10 given up so far",
        "3 of 9 answers wait until their client reads on",
        "01:01:01 warning worker ended (worker 2)",
    ):
        assert shown in words


@pytest.mark.parametrize(
    ("connections", "days", "shown"),
    [(1, 1.2, ("1 connection<", "1 day left")), (2, 89.99, ("2 connections<", "90 days left"))],
)
async def test_one_is_not_several(connections: int, days: float, shown: tuple[str, str]) -> None:
    metrics = Metrics()
    metrics.connections_open.of().number = connections
    metrics.certificate_expiry_seconds.of().number = 86_400 * days
    text, _ = await get_page(a_status(metrics))
    assert all(each in text for each in shown)


async def test_an_expired_certificate_is_called_so() -> None:
    metrics = Metrics()
    metrics.certificate_expiry_seconds.of().number = -1
    text, _ = await get_page(a_status(metrics))
    assert "certificate: expired" in text


async def test_nothing_that_is_shown_can_become_part_of_the_page() -> None:
    text, headers = await get_page(a_status(None, Problem(1, "error", HOSTILE)))
    assert HOSTILE not in text
    assert "&lt;script&gt;" in text
    policy = headers["content-security-policy"]
    (nonce,) = set(re.findall(r"'nonce-([^']+)'", policy))
    assert policy.startswith("default-src 'none'")
    assert text.count(f'nonce="{nonce}"') == 2
    assert not re.search(r"""(src|href)=["'](?!data:)""", text)
    other, _ = await get_page(a_status())
    assert nonce not in other


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (show_rate(None), "none"),
        (show_rate(0), "0"),
        (show_rate(0.25), "0.2"),
        (show_rate(12345.6), "12,346"),
        (show_bytes(999), "999 B"),
        (show_bytes(1500), "1.5 kB"),
        (show_bytes(123_456), "123 kB"),
        (show_bytes(87.1e6), "87.1 MB"),
        (show_bytes(2e9), "2.0 GB"),
        (show_bytes(3.5e15), "3,500.0 TB"),
        (show_seconds(None), "none"),
        (show_seconds(0.0123), "12 ms"),
        (show_seconds(12.34), "12.3 s"),
        (show_clock(86_399, 86_399.5), "23:59:59"),
        (show_clock(86_399, 86_400), "1970-01-01 23:59:59"),
    ],
)
def test_figures_have_the_unit_that_suits_them(shown: str, expected: str) -> None:
    assert shown == expected


def test_a_chart_has_words_and_a_gap_where_nothing_was_measured() -> None:
    chart = str(draw("Events", [1.0, 2.0, None, 4.0], show_rate))
    assert 'aria-label="Events over the last two minutes: highest 4.0"' in chart
    assert chart.count('class="line"') == 2
    assert "NaN" not in chart


def test_an_empty_chart_says_so() -> None:
    assert "highest none" in str(draw("Events", [None], show_rate))


def test_a_chart_of_zeros_is_a_line_at_the_bottom() -> None:
    assert 'class="line" d="M237.98,56.0' not in str(draw("Events", [0.0, 0.0], show_rate))
    assert "highest 0" in str(draw("Events", [0.0, 0.0], show_rate))


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
async def test_no_other_website_takes_the_place_of_who_watches(site: str) -> None:
    client = build_status_page(a_status, version="1").test_client()
    assert (await client.get("/events", headers={"sec-fetch-site": site})).status_code == 403
    assert (await client.get("/", headers={"sec-fetch-site": site})).status_code == 200, "a link leads here"


async def test_whoever_asks_what_the_events_are_takes_nobodys_place() -> None:
    app = build_status_page(a_status, version="1")
    for _ in range(MOST_VIEWERS + 1):
        response = await app.test_client().head("/events")
        assert (response.status_code, response.content_type) == (200, "text/event-stream")
        assert await response.get_data() == b""
