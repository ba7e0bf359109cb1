"""A WebSocket that is cut while much waits for its client: what was counted of it stays counted, and the log agrees."""

from __future__ import annotations

import pytest

from tests.e2e.observe.support import access_lines, observed_edge, wait_for_figure
from tests.kit.websocket import websocket

MESSAGES = 20_000
FRAME_BYTES = 3
SENT = "response_body_bytes_total"


@pytest.mark.parametrize("protocol", ["http/1.1", "h2"])
def test_a_counter_never_falls(protocol: str) -> None:
    with observed_edge() as (edge, url):
        with websocket(edge, protocol, f"/flood/{MESSAGES}") as client:
            for _ in range(MESSAGES):
                assert client.receive() == b"x"
            figures = wait_for_figure(url, lambda figures: figures.sum(SENT) >= MESSAGES)
            assert figures.sum(SENT) == MESSAGES * FRAME_BYTES
            client.send("go on")
            figures = wait_for_figure(url, lambda figures: figures.sum("answers_waiting_for_client") == 1)
            before_bytes = figures.sum(SENT)
            assert before_bytes > MESSAGES * FRAME_BYTES
            client.vanish()
        figures = wait_for_figure(url, lambda figures: figures.sum("requests_total", mount="/") == 1)
        assert figures.sum(SENT) >= before_bytes
        edge.log.wait_for("ending='client left'")
        (line,) = access_lines(edge)
        assert line["sent_bytes"] == figures.sum(SENT)
