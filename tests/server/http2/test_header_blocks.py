"""Header blocks in pieces, and blocks that are too much (RFC 9113 sections 4.3, 6.10 and 10.5.1)."""

from __future__ import annotations

import hpack
import pytest

from sage_edge.core.limits import MAX_FIELDS
from tests.kit.http2_client import HTTP2Client
from tests.kit.http2_frames import (
    CONTINUATION,
    ENHANCE_YOUR_CALM,
    FRAME_BYTES,
    HEADERS,
    PROTOCOL_ERROR,
    continuation_frame,
    data_frame,
    frame,
    get_fields,
    headers_frame,
    ping_frame,
    plain_block,
    priority_frame,
    reset_frame,
    settings_frame,
    window_frame,
)
from tests.kit.protocol_host import respond

BLOCK = plain_block(get_fields((b"x-long", b"abc" * 100)))
MAX_PARTS = 64


def test_a_block_may_come_in_pieces() -> None:
    client = HTTP2Client()
    pieces = [BLOCK[start : start + 10] for start in range(0, len(BLOCK), 10)]
    client.send(headers_frame(1, pieces[0], is_whole=False, pad=3, depends_on=0))
    for piece in pieces[1:]:
        client.send(continuation_frame(1, piece, is_last=False))
    assert not client.host.exchanges
    client.send(continuation_frame(1))
    (exchange,) = client.host.exchanges
    assert dict(exchange.scope["headers"])[b"x-long"] == b"abc" * 100


def test_the_flag_of_the_first_piece_says_whether_a_body_follows() -> None:
    client = HTTP2Client()
    client.send(headers_frame(1, BLOCK, end=False, is_whole=False), frame(CONTINUATION, 0x05, 1))
    client.send(data_frame(1, b"body", end=True))
    assert client.goaway_code() is None


def test_trailers_may_come_in_pieces() -> None:
    client = HTTP2Client()
    stream_id, exchange = client.ask(body=b"abc", end=False)
    client.send(
        headers_frame(stream_id, b"", is_whole=False), continuation_frame(stream_id, plain_block([(b"a", b"b")]))
    )
    respond(exchange)
    assert client.answer(stream_id).has_ended
    assert client.connection.is_idle


@pytest.mark.parametrize(
    "between",
    [
        data_frame(1),
        headers_frame(3, BLOCK),
        priority_frame(1),
        reset_frame(1),
        settings_frame(),
        ping_frame(),
        window_frame(0, 1),
        continuation_frame(3),
        frame(0x42),
    ],
)
def test_nothing_may_come_between_the_pieces(between: bytes) -> None:
    client = HTTP2Client()
    client.send(headers_frame(1, BLOCK, is_whole=False), between, continuation_frame(1))
    assert client.goaway_code() == PROTOCOL_ERROR
    assert not client.host.exchanges


def test_a_continuation_of_a_block_that_is_whole_ends_the_connection() -> None:
    client = HTTP2Client()
    client.send(headers_frame(1, BLOCK), continuation_frame(1))
    assert client.goaway_code() == PROTOCOL_ERROR


def test_a_block_may_have_so_many_pieces() -> None:
    client = HTTP2Client()
    empty = continuation_frame(1, is_last=False)
    client.send(headers_frame(1, BLOCK, is_whole=False), *[empty] * (MAX_PARTS - 2), continuation_frame(1))
    assert client.goaway_code() is None
    assert len(client.host.exchanges) == 1


def test_a_flood_of_empty_continuations_ends_the_connection() -> None:
    client = HTTP2Client()
    empty = continuation_frame(1, is_last=False)
    client.send(headers_frame(1, BLOCK, is_whole=False), *[empty] * MAX_PARTS)
    assert client.goaway_code() == ENHANCE_YOUR_CALM


def test_a_block_that_is_long_as_it_stands_ends_the_connection() -> None:
    client = HTTP2Client(max_header_bytes=1024)
    piece = plain_block([(b"a", b"b" * 1000)])
    client.send(headers_frame(1, piece, is_whole=False), *[continuation_frame(1, piece, is_last=False)] * 5)
    assert client.goaway_code() == ENHANCE_YOUR_CALM


def test_a_list_up_to_the_limit_is_served() -> None:
    client = HTTP2Client(max_header_bytes=4096)
    fields = get_fields()
    spent = sum(len(name) + len(value) + 32 for name, value in fields)
    client.ask((b"a", b"b" * (4096 - spent - 33)))


def test_a_list_over_the_limit_is_answered_with_431() -> None:
    client = HTTP2Client(max_header_bytes=4096)
    spent = sum(len(name) + len(value) + 32 for name, value in get_fields())
    stream_id = client.request((b"a", b"b" * (4096 - spent - 32)))
    answer = client.answer(stream_id)
    assert (answer.status, answer.has_ended) == (431, True)
    assert client.connection.is_idle
    client.ask()  # the decoder's state is whole


def test_more_fields_than_http1_takes_are_answered_with_431_and_cookies_are_one() -> None:
    client = HTTP2Client()
    fields = [(b"x-%d" % number, b"1") for number in range(MAX_FIELDS - 2)]
    cookies = [(b"cookie", b"a=%d" % number) for number in range(100)]
    _, exchange = client.ask(*fields, *cookies)
    assert len(exchange.scope["headers"]) == MAX_FIELDS, "with host and cookie"
    answer = client.answer(client.request(*fields, *cookies, (b"x-more", b"1")))
    assert (answer.status, answer.has_ended) == (431, True)


def test_a_list_far_over_the_limit_ends_the_connection() -> None:
    client = HTTP2Client(max_header_bytes=1024)
    client.request((b"a", b"b" * 4096))
    assert client.goaway_code() == ENHANCE_YOUR_CALM


def test_a_small_block_that_decodes_to_much_ends_the_connection() -> None:
    client = HTTP2Client()
    encoder = hpack.Encoder()
    block = encoder.encode([*get_fields(), (b"x", b"y" * 4000)])
    assert encoder.encode([(b"x", b"y" * 4000)]) == b"\xbe"
    client.send(headers_frame(1, block + b"\xbe" * (FRAME_BYTES - len(block))))
    assert client.goaway_code() == ENHANCE_YOUR_CALM
    assert not client.host.exchanges


def test_many_small_fields_count_for_more_than_their_bytes() -> None:
    client = HTTP2Client(max_header_bytes=1024)
    client.send(headers_frame(1, BLOCK[:0] + plain_block(get_fields()) + b"\x82" * 200))
    assert client.goaway_code() == ENHANCE_YOUR_CALM


def test_a_refused_request_is_decoded_nonetheless() -> None:
    client = HTTP2Client(max_streams=1)
    client.ask()
    client.request((b"x-remembered", b"value"))  # refused
    client.send(reset_frame(1))
    client.take()
    block = client.block(get_fields((b"x-remembered", b"value")))
    assert b"x-remembered" not in block
    client.send(frame(HEADERS, 0x05, 5, block))
    assert dict(client.host.exchanges[-1].scope["headers"])[b"x-remembered"] == b"value"
