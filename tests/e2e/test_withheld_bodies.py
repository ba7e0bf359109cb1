"""A client that withholds its body until it is asked for it (`Expect: 100-continue`) has to send it then, in time."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.kit.edge import Edge, running_edge
from tests.kit.raw_http1 import raw_http1
from tests.kit.raw_http2 import raw_http2

GATEWAY = ("--gateway", "tests.kit.gateways.measuring:app")
CANCEL = 8


@pytest.fixture(scope="module", params=["asyncio", "trio"])
def edge(request: pytest.FixtureRequest) -> Iterator[Edge]:
    """An edge that soon gives bodies up, with its gateway in either place."""
    with running_edge(*GATEWAY, "--gateway-loop", request.param, "--body-seconds", "1") as edge:
        yield edge


def test_one_that_does_not_is_given_up_over_http1(edge: Edge) -> None:
    with raw_http1(edge) as sock:
        sock.sendall(b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\nexpect: 100-continue\r\n\r\n")
        received = b""
        while piece := sock.recv(65536):
            received += piece
    interim, _, answer = received.partition(b"\r\n\r\n")
    assert interim == b"HTTP/1.1 100 Continue"
    assert answer.startswith(b"HTTP/1.1 408 ")


def test_one_that_does_not_is_given_up_over_http2(edge: Edge) -> None:
    with raw_http2(edge) as client:
        fields = [(b":method", b"POST"), (b":scheme", b"http"), (b":authority", b"localhost"), (b":path", b"/")]
        stream_id = client.send_headers([*fields, (b"expect", b"100-continue")], end_stream=False)
        assert client.wait_for(stream_id).reset_code == CANCEL
        assert not client.goaways
