"""The page of metrics of a running edge, as Prometheus' own tools read it."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from tests.e2e.observe.support import Figures, observed_edge
from tests.kit.metrics import METRICS_PAGE
from tests.kit.promtool import needs_promtool, run_promtool

OPENMETRICS = "application/openmetrics-text; version=1.0.0"


@pytest.fixture(scope="module", params=[(), ("--workers", "2")], ids=["one process", "workers"])
def url(request: pytest.FixtureRequest, certificates: Path) -> Iterator[str]:
    """Of the metrics of an edge to which a little of everything has happened."""
    with observed_edge(*request.param, certificates=certificates) as (edge, url):
        with edge.client() as client:
            for path in ("/scope", "/events/3", "/fail", "/healthz", "/%00"):
                client.get(path)
        with edge.client(http2=False) as client:
            client.get("/scope")
        with socket.create_connection(("127.0.0.1", edge.port)) as sock:
            sock.sendall(b"GET / HTTP/1.1\r\nhost: not-over-tls\r\n\r\n")
            sock.recv(1)
        while Figures(url).sum("requests_total") < 6 or not Figures(url).sum("tls_handshake_failures_total"):
            pass
        yield url


@needs_promtool
@pytest.mark.parametrize("accept", ["text/plain", "*/*"])
def test_promtool_finds_nothing_to_say_about_it(url: str, accept: str) -> None:
    text = httpx2.get(url, headers={"accept": accept}, trust_env=False).text
    checked = run_promtool("check", "metrics", text=text)
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")


def test_both_formats_say_the_same(url: str) -> None:
    text = httpx2.get(url, trust_env=False).text
    openmetrics = httpx2.get(url, headers={"accept": OPENMETRICS}, trust_env=False).text
    assert openmetrics.endswith("# EOF\n")
    plain, strict = (
        {family.name for family in parse(page) if family.name.startswith("sage_edge_")}
        for parse, page in ((parse_text, text), (parse_openmetrics, openmetrics))
    )
    assert plain == strict


def test_every_series_is_one_that_the_documentation_names(url: str) -> None:
    text = httpx2.get(url, trust_env=False).text
    named = set(re.findall(r"`(sage_edge_\w+)`", METRICS_PAGE.read_text()))
    names = {sample.name for family in parse_text(text) for sample in family.samples}
    shown = {re.sub(r"_(bucket|count|sum)$", "", name) for name in names if name.startswith("sage_edge_")}
    assert shown <= named
