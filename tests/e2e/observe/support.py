"""An edge with metrics, the figures it shows, and the requests in its log."""

from __future__ import annotations

import json
import re
import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
from prometheus_client.parser import text_string_to_metric_families

from tests.kit.edge import WAIT_SECONDS, Edge, running_edge

GATEWAY = ("--gateway", "tests.e2e.observe.gateway:app")
METRICS = ("--metrics-bind", "127.0.0.1:0")


@contextmanager
def observed_edge(*options: str, **others: Any) -> Iterator[tuple[Edge, str]]:
    """An edge, and the address of its metrics."""
    with running_edge(*GATEWAY, *METRICS, *options, **others) as edge:
        yield edge, metrics_url(edge)


def metrics_url(edge: Edge) -> str:
    """Where an edge says its metrics are."""
    return edge.output.wait_for(r"metrics +(http://\S+)")[1]


def status_url(edge: Edge) -> str:
    """Where an edge says its status page is."""
    return edge.output.wait_for(r"status +(http://\S+)")[1]


def wait_for_text(url: str, pattern: str) -> str:
    """The words of a status page, once a pattern is found in them; it is looked at each time it changes."""
    deadline = time.monotonic() + WAIT_SECONDS
    with httpx2.stream("GET", url + "events", timeout=30, trust_env=False) as stream:
        parts: dict[str, str] = {}
        for line in stream.iter_lines():
            assert time.monotonic() < deadline, f"the page does not come to show {pattern}"
            if line.startswith("data: "):
                parts |= json.loads(line[6:])
                text = " ".join(re.sub(r"<[^>]*>", " ", " ".join(parts.values())).split())
                if re.search(pattern, text):
                    return text
    raise AssertionError(f"the page ended without {pattern}")


class Figures:
    """What a page of metrics shows."""

    def __init__(self, url: str) -> None:
        text = httpx2.get(url, trust_env=False).text
        self._samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]

    def sum(self, name: str, **labels: str) -> float:
        """Of all samples of that name that have these labels."""
        return sum(
            sample.value
            for sample in self._samples
            if sample.name == f"sage_edge_{name}" and labels.items() <= sample.labels.items()
        )


def wait_for_figure(url: str, is_so: Callable[[Figures], bool]) -> Figures:
    """The figures, once they are as they will be."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not is_so(figures := Figures(url)):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return figures


def access_lines(edge: Edge) -> list[dict[str, Any]]:
    """The lines of requests in an edge's log, which is in text."""
    lines = [line for line in edge.log.text.splitlines() if "[sage_edge.access]" in line]
    return [dict(map(_read_pair, shlex.split(line.partition("[sage_edge.access] ")[2]))) for line in lines]


def _read_pair(word: str) -> tuple[str, Any]:
    name, _, text = word.partition("=")
    try:
        return name, json.loads(text)
    except ValueError:
        return name, text
