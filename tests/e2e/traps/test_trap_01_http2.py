"""Trap 1, HTTP/2: what one client sends ends nobody else's connection, let alone the worker."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.e2e.traps.conftest import Launch
from tests.kit.frame_client import FrameClient, Stream, frame_client, headers, request
from tests.kit.http2_frames import (
    ENABLE_CONNECT_PROTOCOL,
    INTERNAL_ERROR,
    PROTOCOL_ERROR,
    data_frame,
    priority_frame,
    window_frame,
)
from tests.kit.others import others_go_on, wait_for_drain
from tests.kit.raw_http2 import Header
from tests.kit.stock import Server

CONNECT: list[Header] = [
    (b":method", b"CONNECT"),
    (b":protocol", b"websocket"),
    (b":scheme", b"https"),
    (b":authority", b"localhost"),
    (b":path", b"/ws"),
    (b"sec-websocket-version", b"13"),
]
MASKED_HELLO = b"\x81\x85\0\0\0\0hello"
MASKED_CLOSE = b"\x88\x80\0\0\0\0"


def assert_refused(stream: Stream) -> None:
    """Refused on its stream alone: an answer that says so, or a reset."""
    assert 400 <= stream.status < 600 or stream.reset_code in {PROTOCOL_ERROR, INTERNAL_ERROR}


def answer_to(client: FrameClient, fields: list[Header]) -> Stream:
    stream = client.wait_for(client.open(fields))
    assert client.get(b"/ok").status == 200
    return stream


@pytest.mark.parametrize("status", [404, 413, 200])
def test_data_after_an_early_response(server: Server, status: int) -> None:
    with others_go_on(server), frame_client(server) as client:
        stream_id = client.open(request(b"/status/%d" % status, b"POST"), end_stream=False)
        client.wait_until(lambda: bool(client.streams[stream_id].status))
        client.send(*[data_frame(stream_id, b"late" * 100)] * 5, data_frame(stream_id, b"end", end=True))
        client.ping()
        assert client.streams[stream_id].status == status
        assert client.get(b"/ok").status == 200


def test_data_in_the_same_breath_as_an_early_response(server: Server) -> None:
    with others_go_on(server), frame_client(server) as client:
        for _ in range(50):
            stream_id = client.next_id()
            post = headers(stream_id, request(b"/status/404", b"POST"), end_stream=False)
            client.send(post, data_frame(stream_id, b"early"))
            client.send(data_frame(stream_id, b"late", end=True))
            assert client.wait_for(stream_id).status == 404
        client.ping()


@pytest.mark.parametrize(
    "fields",
    [
        request(b"/caf\xc3\xa9"),
        request(b"/ok", b"G\xc3\x89T"),
        [*CONNECT[:4], (b":path", b"/caf\xc3\xa9"), *CONNECT[5:]],
    ],
    ids=["path", "method", "path of a websocket"],
)
def test_request_that_is_not_ascii(server: Server, fields: list[Header]) -> None:
    with others_go_on(server), frame_client(server) as client:
        assert_refused(answer_to(client, fields))


def test_plain_connect(server: Server) -> None:
    with others_go_on(server), frame_client(server) as client:
        assert_refused(answer_to(client, [(b":method", b"CONNECT"), (b":authority", b"localhost:443")]))


def test_a_thousand_priority_frames(server: Server) -> None:
    with others_go_on(server), frame_client(server) as client:
        client.send(*(priority_frame(number) for number in range(1, 3001, 2)))
        client.ping()
        assert client.wait_for(client.open(request())).status == 200


@pytest.mark.parametrize(
    "pairs",
    [
        [(1, 3), (3, 5), (5, 1)],
        [(3, 5), (5, 3), (7, 3), (3, 7)],
        [*((number, number - 2) for number in range(3, 401, 2)), (1, 399)],
    ],
    ids=["ring", "pair", "deep"],
)
def test_priority_loop(server: Server, pairs: list[tuple[int, int]]) -> None:
    with others_go_on(server), frame_client(server) as client:
        client.send(*(priority_frame(number, depends_on) for number, depends_on in pairs))
        client.ping()
        assert client.wait_for(client.open(request())).status == 200


def test_priority_frame_on_itself_ends_that_connection_alone(server: Server) -> None:
    with others_go_on(server), frame_client(server) as client:
        client.send(priority_frame(7, 7))
        client.open()
        client.wait_until(lambda: client.is_closed or bool(client.streams[1].status))


@pytest.mark.parametrize("after", [MASKED_HELLO, MASKED_CLOSE, b"\xff" * 50], ids=["message", "close", "noise"])
def test_websocket_data_after_its_close(server: Server, after: bytes) -> None:
    with others_go_on(server), frame_client(server) as client:
        assert client.settings.get(ENABLE_CONNECT_PROTOCOL) == 1
        stream_id = client.open(CONNECT, end_stream=False)
        client.wait_until(lambda: client.streams[stream_id].status == 200)
        client.send(data_frame(stream_id, MASKED_CLOSE), data_frame(stream_id, after), data_frame(stream_id, after))
        client.ping()
        client.send(data_frame(stream_id, after, end=True))
        assert client.get(b"/ok").status == 200


def test_websocket_data_after_the_servers_close(server: Server) -> None:
    with others_go_on(server), frame_client(server) as client:
        stream_id = client.open(CONNECT, end_stream=False)
        stream = client.streams[stream_id]
        client.wait_until(lambda: stream.status == 200)
        client.send(data_frame(stream_id, MASKED_HELLO))
        client.wait_until(lambda: b"\x88" in stream.body)
        client.send(
            data_frame(stream_id, MASKED_CLOSE),
            data_frame(stream_id, MASKED_HELLO),
            data_frame(stream_id, MASKED_HELLO),
        )
        client.send(data_frame(stream_id, b"", end=True))
        assert client.get(b"/ok").status == 200


def test_websocket_data_before_it_is_accepted(server: Server) -> None:
    with others_go_on(server), frame_client(server) as client:
        stream_id = client.next_id()
        client.send(headers(stream_id, CONNECT, end_stream=False), data_frame(stream_id, MASKED_HELLO))
        client.wait_until(lambda: bool(client.streams[stream_id].status) or client.streams[stream_id].is_over)
        assert client.get(b"/ok").status == 200


@pytest.mark.parametrize(
    "field",
    [
        (b"sec-websocket-extensions", b"permessage-deflate; server_max_window_bits=99"),
        (b"sec-websocket-extensions", b"permessage-deflate; client_max_window_bits=x"),
        (b"sec-websocket-extensions", b"caf\xc3\xa9"),
        (b"sec-websocket-protocol", b"caf\xc3\xa9"),
    ],
    ids=["deflate out of range", "deflate not a number", "non-ascii extension", "non-ascii protocol"],
)
def test_websocket_header_that_makes_no_sense(server: Server, field: Header) -> None:
    with others_go_on(server), frame_client(server) as client:
        stream_id = client.open([*CONNECT, field], end_stream=False)
        client.wait_until(lambda: bool(client.streams[stream_id].status) or client.streams[stream_id].is_over)
        assert client.get(b"/ok").status == 200


def test_data_that_arrives_during_the_drain(launch: Launch, directory: Path) -> None:
    with launch({"--drain-seconds": 20}) as server, frame_client(server) as other, frame_client(server) as client:
        others, own = other.open(request(b"/stream")), client.open(request(b"/stream"))
        other.wait_until(lambda: other.streams[others].body == b"all")
        client.wait_until(lambda: client.streams[own].body == b"all")
        server.process.send_signal(signal.SIGTERM)
        wait_for_drain(client)
        for _ in range(3):
            late = client.next_id()
            post = headers(late, request(b"/length", b"POST"), end_stream=False)
            client.send(post, data_frame(late, b"late"), window_frame(late, 10), data_frame(late, b"later", end=True))
        client.ping()
        (directory / "finish").touch()
        assert other.wait_for(others).is_ended
        assert client.wait_for(own).is_ended
        assert server.process.wait(20) == 0


def test_system_exit_in_an_application(server: Server) -> None:
    with others_go_on(server), frame_client(server) as client:
        stream = client.get(b"/exit")
        assert stream.status == 500 or stream.reset_code == INTERNAL_ERROR
        assert client.get(b"/ok").status == 200
