"""What a client can make the server keep."""

from __future__ import annotations

import gc
import tracemalloc
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import hpack
import pytest
from structlog.testing import ReturnLogger

from sage_edge.server import refusal
from sage_edge.server.http2.hpack import HeaderDecoder
from tests.kit.http2_client import HTTP2Client
from tests.kit.http2_frames import (
    PING,
    WINDOW_BYTES,
    data_frame,
    get_fields,
    headers_frame,
    ping_frame,
    plain_block,
    reset_frame,
)
from tests.kit.protocol_host import read_body, respond


@contextmanager
def traced() -> Iterator[Callable[[], int]]:
    """What tells how many bytes are held that were allocated within."""

    def count_held_bytes() -> int:
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    gc.collect()
    tracemalloc.start()
    try:
        yield count_held_bytes
    finally:
        tracemalloc.stop()


def test_a_client_that_does_not_take_the_answers_to_its_frames_is_not_read() -> None:
    client = HTTP2Client(max_pings=10**6)
    pings = ping_frame() * 1000
    sent = 0
    while client.connection.may_read:
        client.connection.receive(pings)
        sent += 1000
        assert sent < 100_000
    assert sent * 17 < 300_000
    assert len([one for one in client.take() if one.kind == PING]) == sent
    assert client.connection.may_read


def test_reset_streams_are_let_go_while_the_connection_window_is_empty() -> None:
    client = HTTP2Client()
    _, exchange = client.ask()
    respond(exchange, bytes(WINDOW_BYTES))
    client.take()
    kept = []
    for _ in range(10):
        stream_id, exchange = client.ask()
        respond(exchange, b"x")
        client.send(reset_frame(stream_id))
        client.connection.end(exchange)
        client.take()
        kept.append(weakref.ref(exchange))
    client.host.exchanges.clear()
    del exchange
    gc.collect()
    assert not any(reference() for reference in kept)
    assert not client.connection.has_output


@pytest.mark.parametrize("is_reset", [False, True])
def test_streams_are_let_go_when_they_end(is_reset: bool) -> None:
    client = HTTP2Client()
    stream_id, exchange = client.ask(body=b"abc", end=False)
    respond(exchange, b"fine")
    client.send(reset_frame(stream_id) if is_reset else data_frame(stream_id, b"", end=True))
    client.take()
    client.connection.end(exchange)
    kept = weakref.ref(exchange)
    client.host.exchanges.clear()
    del exchange
    gc.collect()
    assert kept() is None


def test_one_byte_frames_cost_no_more_than_a_few_times_what_they_are_accounted_for() -> None:
    client = HTTP2Client()
    stream_id, exchange = client.ask(method=b"POST", end=False)
    pieces = data_frame(stream_id, b"x") * 200
    with traced() as held_bytes:
        for _ in range(50):
            client.connection.receive(pieces)
        held = held_bytes()
    assert held < 3 * client.host.account.buffered_bytes + 65_536
    assert read_body(exchange) == b"x" * 10_000
    assert client.host.account.buffered_bytes == 0


def test_requests_leave_nothing_behind() -> None:
    client = HTTP2Client()

    def serve(count: int) -> None:
        for _ in range(count):
            stream_id, exchange = client.ask((b"x-long", b"y" * 1000), body=b"abc")
            respond(exchange, b"fine")
            client.connection.end(exchange)
            client.take()
            del client.answers[stream_id], client.windows[stream_id], client.rooms[stream_id]
            client.host.exchanges.clear()

    with traced() as held_bytes:
        serve(300)  # what is remembered of closed streams, and of fields, is bounded
        held = held_bytes()
        serve(300)
        assert held_bytes() - held < 100_000


def test_long_huffman_strings_are_not_remembered() -> None:
    decoder = HeaderDecoder(2**20)
    encoder = hpack.Encoder()
    blocks = [encoder.encode([(b"x", b"%d" % number + b"a" * 20_000, True)]) for number in range(20)]
    with traced() as held_bytes:
        for block in blocks:
            decoder.decode(block)
        assert held_bytes() < 20_000


def test_headers_of_streams_that_are_refused_are_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refusal, "access_log", ReturnLogger())  # what holds the lines here is the test's own
    client = HTTP2Client(max_streams=1, max_resets=10**6)
    client.ask()
    block = plain_block(get_fields((b"x", b"y" * 10_000)))
    stream_ids = iter(range(3, 10_000, 2))

    def refuse(count: int) -> None:
        for _ in range(count):
            client.connection.receive(headers_frame(next(stream_ids), block))
            client.connection.take_output(65_536)

    with traced() as held_bytes:
        refuse(300)  # what is remembered of them is bounded
        held = held_bytes()
        refuse(300)
        assert held_bytes() - held < 50_000
