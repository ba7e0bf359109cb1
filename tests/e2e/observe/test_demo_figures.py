"""Twenty clients of the demo model: what they counted, the metrics, the access log and the status page agree."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.observe.support import METRICS, access_lines, metrics_url, status_url, wait_for_figure, wait_for_text
from tests.kit.edge import Edge, running_edge

pytest.importorskip("sagellm_gateway", reason="the SAGE gateway is published for Python 3.11 only")
pytestmark = pytest.mark.demo

READERS = 18
TOKENS = 16
LEAVES_AFTER = 5


@dataclass
class Seen:
    """What one client saw of its answer."""

    request_id: str
    events: int
    size_bytes: int


def chat(
    edge: Edge, request_id: str, model: str, *, http2: bool, leaves: bool = False, pause_seconds: float = 0
) -> Seen:
    """Ask for a streamed chat completion, and read it to its end or a while."""
    question = {
        "model": model,
        "messages": [{"role": "user", "content": f"Tell {request_id} a story."}],
        "max_tokens": 2000 if leaves else TOKENS,
        "stream": True,
    }
    read = b""
    headers = {"x-request-id": request_id}
    with (
        edge.client(http2=http2) as client,
        client.stream("POST", "/v1/chat/completions", json=question, headers=headers) as response,
    ):
        assert response.status_code == 200
        for chunk in response.iter_raw():
            read += chunk
            time.sleep(pause_seconds)
            if leaves and read.count(b"\n\n") >= LEAVES_AFTER:
                break
    return Seen(request_id, read.count(b"\n\n"), len(read))


def test_metrics_log_and_status_page_agree_with_what_the_clients_of_the_model_counted(certificates: Path) -> None:
    total = READERS + 2
    options = ("--gateway", "demo", *METRICS, "--admin-bind", "127.0.0.1:0")
    with running_edge(*options, certificates=certificates) as edge, ThreadPoolExecutor(total) as threads:
        url = metrics_url(edge)
        with edge.client() as client:
            model = client.get("/v1/models").json()["data"][0]["id"]
        readers = [
            threads.submit(chat, edge, f"reader-{number}", model, http2=bool(number % 3)) for number in range(READERS)
        ]
        slow = threads.submit(chat, edge, "slow", model, http2=False, pause_seconds=0.1)
        leaver = threads.submit(chat, edge, "leaver", model, http2=True, leaves=True)
        stayed = [future.result() for future in (*readers, slow)]
        left = leaver.result()
        figures = wait_for_figure(url, lambda figures: figures.sum("requests_total", method="POST") == total)
        edge.log.wait_for("ending='client left'")
        page = wait_for_text(status_url(edge), rf"\b{total + 1} ended so far.*client left 1\b")
        lines = {line["request_id"]: line for line in access_lines(edge) if line["method"] == "POST"}
    assert len(lines) == total
    for seen in stayed:
        line = lines[seen.request_id]
        assert (line["events"], line["sent_bytes"], line["ending"]) == (seen.events, seen.size_bytes, "complete")
    assert left.events <= lines["leaver"]["events"] < 2000
    assert lines["leaver"]["ending"] == "client left"
    events = sum(line["events"] for line in lines.values())
    assert figures.sum("events_total") == events
    assert figures.sum("time_to_first_event_seconds_count") == total
    assert figures.sum("cancellations_total") == figures.sum("cancellations_total", cause="client_left") == 1
    assert figures.sum("requests_in_flight") == 0
    assert f" {events:,} sent so far" in page
