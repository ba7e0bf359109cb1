"""What a request leaves behind is freed as it ends, not by the garbage collector, for which everything has to wait."""

from __future__ import annotations

import socket
from collections.abc import Callable

import httpx2
import pytest

from tests.kit.edge import Edge, running_edge
from tests.kit.frame_client import frame_client, headers, request
from tests.kit.gateways.garbage import EVENT
from tests.kit.raw_http2 import raw_http2

OPTIONS = ("--gateway", "tests.kit.gateways.garbage:app", "--cancel-grace-seconds", "0.1", "--gateway-loop")
REQUESTS = 40

pytestmark = pytest.mark.usefixtures("unmeasured_edges")
loops = pytest.mark.parametrize("loop", ["asyncio", "trio"])


def ask(edge: Edge, client: httpx2.Client) -> None:
    assert client.get("/").content == b"ok"


def upload(edge: Edge, client: httpx2.Client) -> None:
    assert client.post("/upload", content=bytes(200_000)).content == b"ok"


def be_refused(edge: Edge, client: httpx2.Client) -> None:
    """Leave most of a body unread."""
    assert client.post("/", content=bytes(200_000)).content == b"ok"


def leave(edge: Edge, client: httpx2.Client) -> None:
    with socket.create_connection(("localhost", edge.port)) as sock:
        sock.sendall(b"GET /events HTTP/1.1\r\nhost: x\r\n\r\n")
        assert sock.recv(1)


@pytest.mark.parametrize("act", [ask, upload, be_refused, leave])
@pytest.mark.parametrize("is_http2", [True, False], ids=["h2c", "http/1.1"])
@loops
def test_a_request_leaves_no_garbage(loop: str, is_http2: bool, act: Callable[[Edge, httpx2.Client], None]) -> None:
    with running_edge(*OPTIONS, loop) as edge, edge.client(http2=is_http2) as client:
        act(edge, client)  # what is made once
        before = count_collected(client)
        for _ in range(REQUESTS):
            act(edge, client)
        assert count_collected(client) - before < REQUESTS


@loops
def test_a_stream_that_is_reset_leaves_no_garbage(loop: str) -> None:
    with running_edge(*OPTIONS, loop) as edge, edge.client() as client, raw_http2(edge) as connection:

        def reset() -> None:
            stream_id = connection.request(b"/events")
            connection.wait_until(lambda: EVENT in connection.responses[stream_id].body)
            connection.reset(stream_id)

        reset()
        before = count_collected(client)
        for _ in range(REQUESTS):
            reset()
        assert count_collected(client) - before < REQUESTS


@loops
def test_requests_that_are_cancelled_or_never_begun_leave_no_garbage(loop: str) -> None:
    with running_edge(*OPTIONS, loop) as edge, edge.client() as client:

        def abandon() -> None:
            with frame_client(edge) as asker:
                asker.send(*(headers(asker.next_id(), request(b"/wait")) for _ in range(250)))
                asker.ping()  # some have begun by now

        abandon()
        before = count_collected(client)
        for _ in range(4):
            abandon()
        assert count_collected(client) - before < REQUESTS


def count_collected(client: httpx2.Client) -> int:
    """How many objects the collector had to free so far, for all requests that have ended."""
    client.get("/collected")  # what ended last is let go
    return int(client.get("/collected").content)
