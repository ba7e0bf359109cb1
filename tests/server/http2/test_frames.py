"""Frames that are wrong in themselves, whatever the state of their stream (RFC 9113 sections 3.4, 4 and 6)."""

from __future__ import annotations

import struct

import pytest

from tests.kit.http2_client import HTTP2Client
from tests.kit.http2_frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    FLOW_CONTROL_ERROR,
    FRAME_BYTES,
    FRAME_SIZE_ERROR,
    GOAWAY,
    HAS_PRIORITY,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    MAX_CONCURRENT_STREAMS,
    MAX_FRAME_SIZE,
    MAX_HEADER_LIST_SIZE,
    PADDED,
    PING,
    PREFACE,
    PRIORITY,
    PROTOCOL_ERROR,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    SETTINGS_ACK,
    WINDOW_UPDATE,
    data_frame,
    frame,
    get_fields,
    goaway_frame,
    headers_frame,
    ping_frame,
    plain_block,
    priority_frame,
    read_frames,
    settings_frame,
    window_frame,
)
from tests.kit.protocol_host import read_body, respond

BLOCK = plain_block(get_fields())


def test_the_server_speaks_first_and_says_its_limits() -> None:
    client = HTTP2Client(is_open=False, max_streams=7, stream_window_bytes=100_000, connection_window_bytes=300_000)
    assert client.connection.has_output
    assert [one.kind for one in client.take()] == [SETTINGS, WINDOW_UPDATE]
    assert client.settings == {
        MAX_CONCURRENT_STREAMS: 7,
        INITIAL_WINDOW_SIZE: 100_000,
        MAX_HEADER_LIST_SIZE: client.host.limits.max_header_bytes,
        8: 1,  # RFC 8441
    }
    assert client.room_bytes == 300_000


def test_a_connection_window_of_the_protocols_own_size_is_not_announced() -> None:
    client = HTTP2Client(is_open=False, connection_window_bytes=65_535)
    assert [one.kind for one in client.take()] == [SETTINGS]


def test_the_preface_may_come_byte_by_byte() -> None:
    client = HTTP2Client(is_open=False)
    for byte in PREFACE + settings_frame() + SETTINGS_ACK + headers_frame(1, BLOCK):
        client.feed(bytes((byte,)))
    client.take()
    assert client.acks == 1
    assert len(client.host.exchanges) == 1


@pytest.mark.parametrize(
    "data", [b"GET / HTTP/1.1\r\n\r\n", b"x", PREFACE[:-1] + b"x", b"\x16\x03\x01", PREFACE.lower()]
)
def test_anything_but_the_preface_ends_the_connection(data: bytes) -> None:
    client = HTTP2Client(is_open=False)
    client.connection.receive(data)
    assert client.goaway_code() == PROTOCOL_ERROR


@pytest.mark.parametrize(
    "first", [SETTINGS_ACK, ping_frame(), headers_frame(1, BLOCK), frame(0x42), window_frame(0, 1)]
)
def test_a_first_frame_that_is_not_settings_ends_the_connection(first: bytes) -> None:
    client = HTTP2Client(is_open=False)
    client.send(PREFACE, first, settings_frame())
    assert client.goaway_code() == PROTOCOL_ERROR
    assert not client.host.exchanges


def test_nothing_is_read_after_the_connection_has_failed() -> None:
    client = HTTP2Client()
    client.send(frame(DATA, 0, 0), headers_frame(1, BLOCK))
    client.send(headers_frame(1, BLOCK))
    client.wait(1000)
    client.connection.drain()
    assert [one.kind for one in client.take()] == [GOAWAY]
    assert client.connection.wants_close
    assert not client.host.exchanges


def test_the_shell_is_woken_for_what_is_to_be_written() -> None:
    client = HTTP2Client()
    before = client.host.wakes
    client.send(ping_frame())
    assert client.host.wakes == before + 1
    client.take()
    client.send(window_frame(0, 1))
    assert client.host.wakes == before + 1


def test_settings_are_acknowledged_one_by_one() -> None:
    client = HTTP2Client()
    client.send(settings_frame(), settings_frame((0x99, 5), (2, 0), (2, 1), (8, 1)))
    client.take()
    assert client.acks == 3


@pytest.mark.parametrize(
    "setting", [(2, 2), (8, 2), (MAX_FRAME_SIZE, FRAME_BYTES - 1), (MAX_FRAME_SIZE, 2**24)], ids=str
)
def test_a_setting_out_of_its_range_ends_the_connection(setting: tuple[int, int]) -> None:
    client = HTTP2Client()
    client.send(settings_frame((0x99, 1), setting))
    assert client.goaway_code() == PROTOCOL_ERROR  # section 6.5.2


def test_an_initial_window_over_the_largest_ends_the_connection() -> None:
    client = HTTP2Client()
    client.send(settings_frame((INITIAL_WINDOW_SIZE, 2**31)))
    assert client.goaway_code() == FLOW_CONTROL_ERROR  # section 6.5.2


def test_a_client_that_takes_larger_frames_gets_none_nonetheless() -> None:
    client = HTTP2Client()
    client.send(settings_frame((MAX_FRAME_SIZE, 2**24 - 1)))
    stream_id, exchange = client.ask((b"x", b"y"))
    respond(exchange, bytes(60_000), (b"long", b"a" * 50_000))
    answer = client.answer(stream_id)
    assert max(answer.frame_sizes) == FRAME_BYTES
    assert dict(answer.fields)[b"long"] == b"a" * 50_000


def test_a_ping_is_answered_with_its_payload() -> None:
    client = HTTP2Client()
    client.send(ping_frame(b"abcdefgh"))
    client.take()
    assert [(one.flags, one.payload) for one in client.pings] == [(ACK, b"abcdefgh")]


@pytest.mark.parametrize("kind", range(10, 256, 7))
def test_frames_of_unknown_kinds_are_ignored(kind: int) -> None:
    client = HTTP2Client()
    client.send(frame(kind, 0xFF, 0, b"abc"), frame(kind, 0, 77, b""))  # section 5.5
    assert client.take() == []
    client.ask()


def test_unknown_flags_are_ignored() -> None:
    client = HTTP2Client()
    client.send(frame(HEADERS, 0xFF & ~PADDED & ~HAS_PRIORITY, 1, BLOCK), frame(PING, 0xFE, 0, b"12345678"))
    client.take()
    assert len(client.host.exchanges) == 1
    assert client.pings


def test_the_reserved_bit_of_a_stream_number_is_ignored() -> None:
    client = HTTP2Client()
    client.connection.receive(frame(HEADERS, END_HEADERS | END_STREAM, 1 | 1 << 31, BLOCK))  # section 4.1
    assert len(client.host.exchanges) == 1


def test_the_reserved_bit_of_a_window_increment_is_ignored() -> None:
    client = HTTP2Client()
    client.connection.receive(frame(WINDOW_UPDATE, 0, 0, struct.pack(">L", 5 | 1 << 31)))  # section 6.9
    assert client.goaway_code() is None


def test_a_frame_of_the_largest_size_is_taken() -> None:
    client = HTTP2Client()
    _, exchange = client.ask(method=b"POST", end=False)
    client.send(data_frame(1, bytes(FRAME_BYTES), end=True))
    assert len(read_body(exchange)) == FRAME_BYTES


@pytest.mark.parametrize("kind", [*range(10), 0x42])
def test_a_frame_over_the_largest_size_ends_the_connection(kind: int) -> None:
    client = HTTP2Client()
    client.connection.receive((FRAME_BYTES + 1).to_bytes(3, "big") + bytes((kind, 0)) + bytes(4))  # its head is enough
    assert client.goaway_code() == FRAME_SIZE_ERROR  # section 4.2


WRONG_SIZES = {
    "PRIORITY of 4 on an idle stream": frame(PRIORITY, 0, 3, bytes(4)),
    "RST_STREAM of 3": frame(RST_STREAM, 0, 1, bytes(3)),
    "RST_STREAM of 5": frame(RST_STREAM, 0, 1, bytes(5)),
    "SETTINGS of 5": frame(SETTINGS, 0, 0, bytes(5)),
    "SETTINGS ACK of 6": frame(SETTINGS, ACK, 0, bytes(6)),
    "PING of 7": frame(PING, 0, 0, bytes(7)),
    "PING of 9": frame(PING, ACK, 0, bytes(9)),
    "GOAWAY of 7": frame(GOAWAY, 0, 0, bytes(7)),
    "WINDOW_UPDATE of 3": frame(WINDOW_UPDATE, 0, 0, bytes(3)),
    "WINDOW_UPDATE of 5": frame(WINDOW_UPDATE, 0, 1, bytes(5)),
    "padded DATA of 0": frame(DATA, PADDED, 1),
    "padded HEADERS of 0": frame(HEADERS, PADDED | END_HEADERS, 3),
    "HEADERS with priority of 4": frame(HEADERS, HAS_PRIORITY | END_HEADERS, 3, bytes(4)),
}


@pytest.mark.parametrize("wrong", WRONG_SIZES.values(), ids=WRONG_SIZES)
def test_a_wrong_size_ends_the_connection(wrong: bytes) -> None:
    client = HTTP2Client()
    client.ask(method=b"POST", end=False)
    client.send(wrong)
    assert client.goaway_code() == FRAME_SIZE_ERROR


def test_a_priority_frame_of_a_wrong_size_ends_its_stream_alone() -> None:
    client = HTTP2Client()
    client.ask(method=b"POST", end=False)
    other, exchange = client.ask()
    client.send(frame(PRIORITY, 0, 1, bytes(4)))  # section 6.3
    assert client.answer(1).reset_code == FRAME_SIZE_ERROR
    respond(exchange, b"fine")
    assert client.answer(other).body == b"fine"


WRONG_STREAMS = {
    "DATA on 0": frame(DATA, 0, 0),
    "HEADERS on 0": frame(HEADERS, END_HEADERS, 0, BLOCK),
    "PRIORITY on 0": priority_frame(0),
    "RST_STREAM on 0": frame(RST_STREAM, 0, 0, bytes(4)),
    "SETTINGS on 1": frame(SETTINGS, 0, 1),
    "SETTINGS ACK on 1": frame(SETTINGS, ACK, 1),
    "PING on 1": frame(PING, 0, 1, bytes(8)),
    "GOAWAY on 1": frame(GOAWAY, 0, 1, bytes(8)),
    "CONTINUATION on 0": frame(CONTINUATION, END_HEADERS, 0),
    "CONTINUATION on 1": frame(CONTINUATION, END_HEADERS, 1),
    "PUSH_PROMISE": frame(PUSH_PROMISE, END_HEADERS, 1, bytes(4) + BLOCK),
    "WINDOW_UPDATE of 0 on 0": window_frame(0, 0),
    "priority on itself": priority_frame(1, 1),
}


@pytest.mark.parametrize("wrong", WRONG_STREAMS.values(), ids=WRONG_STREAMS)
def test_a_frame_on_a_stream_it_has_no_place_on_ends_the_connection(wrong: bytes) -> None:
    client = HTTP2Client()
    client.ask(method=b"POST", end=False)
    client.send(wrong)
    assert client.goaway_code() == PROTOCOL_ERROR


def test_padding_is_dropped() -> None:
    client = HTTP2Client()
    client.send(headers_frame(1, BLOCK, end=False, pad=9, depends_on=0))
    client.send(data_frame(1, b"abc", pad=0), data_frame(1, b"def", pad=255), data_frame(1, b"", end=True, pad=7))
    assert read_body(client.host.exchanges[0]) == b"abcdef"


@pytest.mark.parametrize(
    "wrong",
    [frame(DATA, PADDED, 1, b"\x04abc"), frame(DATA, PADDED, 1, b"\x01"), frame(HEADERS, PADDED, 3, b"\xffabc")],
)
def test_padding_as_long_as_its_frame_ends_the_connection(wrong: bytes) -> None:
    client = HTTP2Client()
    client.ask(method=b"POST", end=False)
    client.send(wrong)
    assert client.goaway_code() == PROTOCOL_ERROR  # section 6.1


def test_a_request_that_depends_on_itself_is_reset() -> None:
    client = HTTP2Client()
    client.send(headers_frame(1, BLOCK, depends_on=1))
    assert client.answer(1).reset_code == PROTOCOL_ERROR
    assert client.goaway_code() is None


def test_priorities_have_no_effect() -> None:
    client = HTTP2Client()
    client.send(priority_frame(5, 3), headers_frame(1, BLOCK, depends_on=9), priority_frame(1), priority_frame(2, 1))
    assert client.goaway_code() is None
    assert len(client.host.exchanges) == 1


def test_a_goaway_may_carry_words() -> None:
    client = HTTP2Client()
    client.ask()
    client.send(frame(GOAWAY, 0, 0, read_frames(goaway_frame())[0].payload + b"good bye"))
    assert client.goaway_code() is None
