"""A client of a silent event stream hears from the edge, over each protocol, and gets each event whole."""

from __future__ import annotations

import pytest

from sage_edge.core.heartbeat import COMMENT
from tests.kit.edge import running_edge
from tests.kit.gateways.silent import EVENT

GATEWAY = ("--gateway", "tests.kit.gateways.silent:app")


@pytest.mark.parametrize("is_http2", [False, True], ids=["http/1.1", "h2c"])
@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_a_silent_event_stream_is_kept_alive(is_http2: bool, loop: str) -> None:
    options = (*GATEWAY, "--gateway-loop", loop, "--sse-heartbeat-seconds", "0.1")
    with running_edge(*options) as edge, edge.client(http2=is_http2) as client:
        body = client.get("/").content
    assert body.startswith(EVENT)
    assert body.count(COMMENT) >= 3
    assert body.replace(COMMENT, b"") == EVENT * 2


def test_nothing_is_added_unless_asked_for() -> None:
    with running_edge(*GATEWAY) as edge, edge.client() as client:
        assert client.get("/").content == EVENT * 2
