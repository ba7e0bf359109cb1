"""Trap 9: what costs a client nothing and the server something is counted, and over budget the connection is ended."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterable, Iterator

import pytest

from tests.e2e.traps.conftest import Launch
from tests.kit.eventually import eventually
from tests.kit.frame_client import FrameClient, frame_client, headers, request
from tests.kit.http2_frames import (
    CONTINUATION,
    END_HEADERS,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    NO_ERROR,
    PING,
    PRIORITY,
    SETTINGS,
    data_frame,
    frame,
    plain_block,
    priority_frame,
    reset_frame,
    settings_frame,
    window_frame,
)
from tests.kit.others import others_go_on
from tests.kit.stock import Server

BOUND_BYTES = 32 * 2**20
"""How far memory may grow."""
MANY = 20_000


def assert_calmed(client: FrameClient) -> None:
    client.wait_until(lambda: bool(client.goaways) or client.is_closed)
    assert [code for _, code in client.goaways] == [ENHANCE_YOUR_CALM]
    client.wait_until(lambda: client.is_closed)


@pytest.mark.parametrize("path", [b"/ok", b"/hold", b"/ticks"])
def test_rapid_reset(launch: Launch, path: bytes) -> None:
    """CVE-2023-44487."""
    with launch() as server, others_go_on(server), frame_client(server) as asking:
        with frame_client(server) as client:
            opened = (client.next_id() for _ in range(10_000))
            client.flood(headers(each, request(path)) + reset_frame(each) for each in opened)
            assert_calmed(client)
        # The other connection's endless answer is still running.
        assert eventually(lambda: json.loads(asking.get(b"/counts").body)["running"] == 1)


FLOODS: dict[str, Callable[[int], Iterable[bytes]]] = {
    "ping": lambda _: (frame(PING, 0, 0, struct.pack(">Q", number)) for number in range(MANY)),
    "ping answer": lambda _: (frame(PING, 1, 0, bytes(8)) for _ in range(MANY)),
    "settings": lambda _: (settings_frame() for _ in range(MANY)),
    "window sizes": lambda _: (settings_frame((INITIAL_WINDOW_SIZE, 65_535 + each % 2)) for each in range(MANY)),
    "settings answer": lambda _: (frame(SETTINGS, 1) for _ in range(MANY)),
    "priority": lambda stream_id: (priority_frame(stream_id) for _ in range(MANY)),
    "priority of many": lambda stream_id: (priority_frame(stream_id + 2 * number) for number in range(1, MANY)),
    "empty data": lambda stream_id: (data_frame(stream_id) for _ in range(MANY)),
    "window of the connection": lambda _: (window_frame(0, 1) for _ in range(2 * MANY)),
    "window of a stream": lambda stream_id: (window_frame(stream_id, 1) for _ in range(2 * MANY)),
}


@pytest.mark.parametrize("flood", FLOODS)
def test_flood_of_frames(server: Server, flood: str) -> None:
    with others_go_on(server), frame_client(server) as client:
        stream_id = client.open(request(b"/hold", b"POST"), end_stream=False)
        client.flood(FLOODS[flood](stream_id))
        assert_calmed(client)


@pytest.mark.parametrize("flood", ["ping", "settings"])
def test_answers_that_nobody_reads_are_bounded(launch: Launch, flood: str) -> None:
    """CVE-2019-9512 and CVE-2019-9515."""
    with launch() as server, others_go_on(server), frame_client(server) as client:
        before = server.resident_bytes
        client.sock.settimeout(2)
        frames = b"".join(FLOODS[flood](1))
        try:
            for _ in range(100):
                client.sock.sendall(frames)
        except OSError:
            pass  # it takes no more, or has left
        assert server.resident_bytes - before < BOUND_BYTES


def twice(client: FrameClient, second: Callable[[int], bytes]) -> Iterator[bytes]:
    """Requests whose applications run, each with a frame on its stream that is an error of the stream."""
    for stream_id in (client.next_id() for _ in range(5000)):
        yield headers(stream_id, request(b"/hold"), end_stream=True) + second(stream_id)


MISTAKES: dict[str, Callable[[int], bytes]] = {
    "window update of nothing": lambda stream_id: window_frame(stream_id, 0),
    "window too large": lambda stream_id: window_frame(stream_id, 2**31 - 1),
    "data after the end": lambda stream_id: data_frame(stream_id, b"more"),
    "headers after the end": lambda stream_id: headers(stream_id, request(b"/hold")),
    "priority of four bytes": lambda stream_id: frame(PRIORITY, 0, stream_id, bytes(4)),
}


def assert_bounded(client: FrameClient) -> None:
    """It comes to an end before the server has reset many streams; which fault is named depends on the mistake."""
    client.wait_until(lambda: client.is_closed)
    assert [code for _, code in client.goaways if code != NO_ERROR]
    assert sum(stream.reset_code is not None for stream in client.streams.values()) < 1000


@pytest.mark.parametrize("mistake", MISTAKES)
def test_made_you_reset(launch: Launch, mistake: str) -> None:
    """CVE-2025-8671: the server is brought to reset streams itself, whose applications go on."""
    with launch() as server, others_go_on(server), frame_client(server) as asking:
        with frame_client(server) as client:
            client.flood(twice(client, MISTAKES[mistake]), at_once=100)
            assert_bounded(client)
        assert eventually(lambda: json.loads(asking.get(b"/counts").body)["running"] == 1)


MALFORMED = {
    "length that is not kept": request(b"/hold", b"POST", (b"content-length", b"5")),
    "upper case": request(b"/hold", b"GET", (b"X-Upper", b"case")),
    "connection field": request(b"/hold", b"GET", (b"connection", b"close")),
}


@pytest.mark.parametrize("malformed", MALFORMED)
def test_flood_of_malformed_requests(server: Server, malformed: str) -> None:
    with others_go_on(server), frame_client(server) as client:
        opened = (client.next_id() for _ in range(5000))
        client.flood((headers(each, MALFORMED[malformed]) for each in opened), at_once=100)
        assert_bounded(client)


@pytest.mark.parametrize("size", [0, 1, 1000, 16_384])
def test_continuation_flood(launch: Launch, size: int) -> None:
    """CVE-2024-27316 and others."""
    with launch() as server, others_go_on(server), frame_client(server) as client:
        before = server.resident_bytes
        field = plain_block([(b"x-field", b"v" * max(0, size - 11))])
        piece = field[:size] if size >= len(field) else field[:1] * size
        first = frame(HEADERS, END_STREAM, client.next_id(), plain_block(request()))
        client.send(first)
        client.flood((frame(CONTINUATION, 0, 1, piece) for _ in range(10_000)), at_once=50)
        client.wait_until(lambda: client.is_closed)
        assert client.goaways
        assert server.resident_bytes - before < BOUND_BYTES


def bomb(stream_id: int) -> bytes:
    """A request of 16 KB whose fields are 48 MB: one that is put in the table, and then named again and again."""
    value = b"v" * 3900
    entry = b"\x40" + plain_block([(b"x-bomb", value)])[1:]
    block = plain_block(request()) + entry + b"\xbe" * 12_000
    return frame(HEADERS, END_STREAM | END_HEADERS, stream_id, block)


def test_hpack_bomb(launch: Launch) -> None:
    with launch() as server, others_go_on(server), frame_client(server) as client:
        before = server.resident_bytes
        for _ in range(20):
            stream_id = client.next_id()
            client.send(bomb(stream_id))
            stream = client.wait_for(stream_id)
            assert stream.status == 431 or stream.reset_code or client.goaways
            if client.goaways:
                break
        assert server.resident_bytes - before < BOUND_BYTES


def test_ordinary_clients_are_within_the_budgets(server: Server) -> None:
    """A browser's manners: a few resets, a PING a second, credit for each piece, 2,000 requests at full speed."""
    with others_go_on(server), frame_client(server) as client:
        for _ in range(40):
            opened = [client.next_id() for _ in range(50)]
            client.send(*(headers(each, request()) for each in opened), settings_frame() if client.is_closed else b"")
            client.send(reset_frame(opened[0]))
            assert {client.wait_for(each).status for each in opened[1:]} == {200}
        client.ping()
        assert not client.goaways
