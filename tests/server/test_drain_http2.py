"""The end of an HTTP/2 answer is not overtaken by the end of its connection."""

from __future__ import annotations

import signal
from contextlib import ExitStack
from pathlib import Path

from tests.kit.edge import running_edge
from tests.kit.raw_http2 import raw_http2

CONNECTIONS = 12

# The end of the answer is a message of its own, as event streams end: by then its bytes have gone.
GATEWAY = """
import asyncio, pathlib

async def app(scope, receive, send):
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"all", "more_body": True})
    while not pathlib.Path("finish").exists():
        await asyncio.sleep(0.01)
    await send({"type": "http.response.body", "body": b""})
"""


def test_answers_whose_end_comes_alone_are_ended_while_draining(tmp_path: Path, certificates: Path) -> None:
    (tmp_path / "late_end.py").write_text(GATEWAY)
    with (
        running_edge("--gateway", "late_end:app", certificates=certificates, cwd=tmp_path) as edge,
        ExitStack() as stack,
    ):
        connections = [stack.enter_context(raw_http2(edge)) for _ in range(CONNECTIONS)]
        responses = []
        for connection in connections:
            response = connection.responses[connection.request(b"/")]
            connection.wait_until(lambda response=response: response.body == b"all")
            responses.append(response)
        edge.process.send_signal(signal.SIGTERM)
        edge.log.wait_for(r"\[info\] draining")
        (tmp_path / "finish").touch()
        for connection, response in zip(connections, responses, strict=True):
            connection.wait_until(lambda response=response: response.is_over)
        assert [response.is_ended for response in responses] == [True] * CONNECTIONS
        assert edge.process.wait(15) == 0
