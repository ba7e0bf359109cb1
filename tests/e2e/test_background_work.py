"""What the gateway does once the whole answer is sent is no matter of the client's; what it left behind before is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sage_edge.server.fairness import MOST_EXPIRING
from tests.kit.edge import Edge, running_edge
from tests.kit.raw_http2 import raw_http2

REQUESTS = 650
"""More than twice the streams that a connection may have at once, and what a budget allows to be reset beside them."""
LOOPS = ("asyncio", "trio")
GATEWAY = """
import asyncio, sys, sniffio, trio

async def wait():
    if sniffio.current_async_library() == "trio":
        with trio.CancelScope(shield=True):
            await trio.sleep(60)
    else:
        end = asyncio.get_running_loop().time() + 60
        while (left := end - asyncio.get_running_loop().time()) > 0:
            try:
                await asyncio.sleep(left)
            except asyncio.CancelledError:
                pass

async def app(scope, receive, send):
    assert scope["type"] == "http"
    print("begun", scope["path"], file=sys.stderr, flush=True)
    if scope["path"] == "/background":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"all of it"})
    await wait()
    print("over", scope["path"], file=sys.stderr, flush=True)
"""


@contextmanager
def working(directory: Path, loop: str, *options: str) -> Iterator[Edge]:
    """An edge whose gateway goes on for a minute after each answer, or without one, whatever happens."""
    (directory / "working.py").write_text(GATEWAY)
    arguments = ("--gateway", "working:app", "--gateway-loop", loop, "--no-access-log", *options)
    with running_edge(*arguments, cwd=directory) as edge:
        yield edge
        edge.process.kill()


@pytest.mark.parametrize("loop", LOOPS)
def test_background_work_refuses_its_client_nothing(tmp_path: Path, loop: str) -> None:
    with working(tmp_path, loop) as edge, raw_http2(edge) as connection:
        kept = connection.request(b"/left")
        for _ in range(REQUESTS):
            assert connection.wait_for(connection.request(b"/background")).body == b"all of it"
        assert connection.wait_for(connection.request(b"/healthz")).status == 200
        assert not connection.goaways
        assert not connection.responses[kept].is_over
        edge.log.wait_for(r"begun /background", count=REQUESTS)
        assert "over" not in edge.log.text


@pytest.mark.parametrize("loop", LOOPS)
def test_what_clients_have_left_behind_is_bounded(tmp_path: Path, loop: str) -> None:
    options = ("--max-resets", "10000")
    with working(tmp_path, loop, *options) as edge, raw_http2(edge) as connection:
        for _ in range(20):
            stream_ids = [connection.request(b"/left") for _ in range(50)]
            assert connection.wait_for(connection.request(b"/healthz")).status == 200
            for stream_id in stream_ids:
                connection.reset(stream_id)
        assert connection.wait_for(connection.request(b"/healthz")).status == 200
        assert not connection.goaways
        edge.log.wait_for("begun /left", count=MOST_EXPIRING)
        assert edge.log.text.count("begun /left") <= MOST_EXPIRING + 50, "those of one round are let in together"
