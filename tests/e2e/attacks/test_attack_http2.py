"""An attack by HTTP/2 frames ends its own connection, and costs others nothing."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress

import pytest

from tests.e2e.attacks.conftest import MakeTarget
from tests.kit.attack import GROWTH_BYTES, HOLD_SECONDS, Target, attacker, goaway_code, open_tls, rss_bytes, siege
from tests.kit.frame_client import FrameClient, headers, request
from tests.kit.http2_frames import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    PING,
    PREFACE,
    PRIORITY,
    REFUSED_STREAM,
    SETTINGS,
    data_frame,
    frame,
    plain_block,
    priority_frame,
    reset_frame,
    settings_frame,
    window_frame,
)

FLOOD_SECONDS = 0.4
"""How long one goes on that is ended: it comes again."""
MANY = 10_000
STREAM_IDS = range(1, 2 * MANY, 2)
GET = request()
IGNORED = request(b"/ignore")
POST = request(b"/ignore", b"POST")
POST_NONE = request(b"/none", b"POST")
Frames = Iterator[bytes]


def reset_rapidly() -> Frames:
    return (headers(stream_id, GET) + reset_frame(stream_id) for stream_id in STREAM_IDS)


def provoke_resets_by_windows_of_nothing() -> Frames:
    return (headers(stream_id, POST, end_stream=False) + window_frame(stream_id, 0) for stream_id in STREAM_IDS)


def provoke_resets_by_windows_too_large() -> Frames:
    return (headers(stream_id, POST) + window_frame(stream_id, 2**31 - 1) for stream_id in STREAM_IDS)


def provoke_resets_by_data_on_half_closed_streams() -> Frames:
    return (headers(stream_id, IGNORED) + data_frame(stream_id, b"late") for stream_id in STREAM_IDS)


def provoke_resets_by_headers_on_half_closed_streams() -> Frames:
    return (headers(stream_id, IGNORED) + headers(stream_id, [(b"x", b"y")]) for stream_id in STREAM_IDS)


def provoke_resets_by_malformed_requests() -> Frames:
    return (headers(stream_id, [(b":method", b"GET")]) for stream_id in STREAM_IDS)


def provoke_resets_by_priorities_of_a_wrong_size() -> Frames:
    return (headers(stream_id, POST) + frame(PRIORITY, 0, stream_id, b"1234") for stream_id in STREAM_IDS)


def continue_with_nothing() -> Frames:
    yield frame(HEADERS, END_STREAM, 1, plain_block(GET))
    yield from (frame(CONTINUATION, 0, 1) for _ in range(MANY))


def continue_without_end() -> Frames:
    piece = plain_block([(b"x-filling", bytes(1000).replace(b"\0", b"x"))])
    yield frame(HEADERS, END_STREAM, 1, plain_block(GET))
    yield from (frame(CONTINUATION, 0, 1, piece) for _ in range(MANY))


def change_settings() -> Frames:
    return (settings_frame((INITIAL_WINDOW_SIZE, number)) for number in range(MANY))


def send_empty_settings() -> Frames:
    return (settings_frame() for _ in range(MANY))


def acknowledge_settings() -> Frames:
    return (frame(SETTINGS, 1) for _ in range(MANY))


def ping() -> Frames:
    return (frame(PING, 0, 0, struct.pack(">Q", number)) for number in range(MANY))


def acknowledge_pings() -> Frames:
    return (frame(PING, 1, 0, struct.pack(">Q", number)) for number in range(MANY))


def set_priorities() -> Frames:
    return (priority_frame(stream_id) for stream_id in STREAM_IDS)


def send_empty_data() -> Frames:
    yield headers(1, POST, end_stream=False)
    yield from (data_frame(1) for _ in range(MANY))


def send_padded_data_of_nothing() -> Frames:
    yield headers(1, POST, end_stream=False)
    yield from (frame(DATA, 8, 1, b"\x05" + bytes(5)) for _ in range(MANY))


def open_a_stream_window_by_bytes() -> Frames:
    yield headers(1, POST, end_stream=False)
    yield from (window_frame(1, 1) for _ in range(MANY))


def open_the_connection_window_by_bytes() -> Frames:
    return (window_frame(0, 1) for _ in range(MANY))


def repeat_a_large_entry_of_the_table() -> Frames:
    # 4,000 bytes in the table, and then a byte for each time they are named.
    entry = b"\x40\x01x" + b"\x7f" + _integer(4000 - 127) + b"v" * 4000
    yield frame(HEADERS, END_STREAM | END_HEADERS, 1, plain_block(GET) + entry)
    for stream_id in STREAM_IDS[1:200]:
        yield frame(HEADERS, END_STREAM | END_HEADERS, stream_id, plain_block(GET) + b"\xbe" * 16_000)


def send_64_kb_of_indexed_fields() -> Frames:
    for stream_id in STREAM_IDS[:50]:
        yield frame(HEADERS, END_STREAM, stream_id, b"\x90" * 16_384)
        yield frame(CONTINUATION, 0, stream_id, b"\x90" * 16_384)
        yield frame(CONTINUATION, 0, stream_id, b"\x90" * 16_384)
        yield frame(CONTINUATION, END_HEADERS, stream_id, b"\x90" * 16_384)


def ask_for_refusals() -> Frames:
    # Thirteen bytes each, by the table; and before them what costs nothing, so that much is read at once.
    first = b"\x86\x41\x09localhost\x44\x04/a b\x42\x04HEAD"
    yield from (frame(0x20) for _ in range(10))
    yield frame(HEADERS, END_STREAM | END_HEADERS, 1, first)
    yield from (
        frame(HEADERS, END_STREAM | END_HEADERS, stream_id, b"\x86\xc0\xbf\xbe") for stream_id in STREAM_IDS[1:]
    )


def _integer(value: int) -> bytes:
    """The rest of an integer that did not fit its prefix (RFC 7541 section 5.1)."""
    encoded = bytearray()
    while value >= 128:
        encoded.append(value % 128 + 128)
        value //= 128
    return bytes((*encoded, value))


@pytest.mark.parametrize(
    "attack",
    [
        reset_rapidly,
        provoke_resets_by_windows_of_nothing,
        provoke_resets_by_windows_too_large,
        provoke_resets_by_data_on_half_closed_streams,
        provoke_resets_by_headers_on_half_closed_streams,
        provoke_resets_by_malformed_requests,
        provoke_resets_by_priorities_of_a_wrong_size,
        continue_with_nothing,
        continue_without_end,
        change_settings,
        send_empty_settings,
        acknowledge_settings,
        ping,
        acknowledge_pings,
        set_priorities,
        send_empty_data,
        send_padded_data_of_nothing,
        open_a_stream_window_by_bytes,
        open_the_connection_window_by_bytes,
        repeat_a_large_entry_of_the_table,
        send_64_kb_of_indexed_fields,
        ask_for_refusals,
    ],
)
def test_a_flood_of_frames_ends_its_connection(target: Target, attack: Callable[[], Frames]) -> None:
    with siege(target, attack.__name__, connections=0) as toll:
        deadline = time.monotonic() + FLOOD_SECONDS
        while time.monotonic() < deadline:
            toll.connections += 1
            with attacker(target) as client:
                if toll.connections % 2:
                    client.send(*attack())
                else:
                    client.flood(attack(), at_once=50)
                assert goaway_code(client) == ENHANCE_YOUR_CALM


def test_a_flood_of_requests_before_the_limit_is_known_ends_its_connection(target: Target) -> None:
    asked = b"".join(headers(stream_id, IGNORED) for stream_id in STREAM_IDS)
    with siege(target, "requests without an ACK", connections=4):
        for _ in range(4):
            with open_tls(target, http2=True) as sock, suppress(ConnectionError):
                sock.sendall(PREFACE + settings_frame() + asked)
                received = b""
                while piece := sock.recv(65_536):
                    received += piece
                assert b"too many refused requests" in received


def hold(client: FrameClient) -> None:
    """Stay for a while, and take what comes."""
    deadline = time.monotonic() + HOLD_SECONDS
    while (left := deadline - time.monotonic()) > 0:
        client.receive(left)


def test_readers_without_a_window(target: Target) -> None:
    with siege(target, "zero-window readers"), attacker(target, {INITIAL_WINDOW_SIZE: 0}) as client:
        client.send(*(headers(client.next_id(), request(b"/download")) for _ in range(250)))
        hold(client)
        assert not any(stream.body for stream in client.streams.values())


def test_readers_without_a_window_on_many_connections(fresh: Target) -> None:
    with siege(fresh, "zero-window readers, 8 connections", connections=8), ExitStack() as stack:
        clients = [stack.enter_context(attacker(fresh, {INITIAL_WINDOW_SIZE: 0})) for _ in range(8)]
        for client in clients:
            client.send(*(headers(client.next_id(), request(b"/download")) for _ in range(250)))
        hold(clients[0])


def test_readers_with_a_window_of_a_byte(target: Target) -> None:
    with siege(target, "one-byte-window readers"), attacker(target, {INITIAL_WINDOW_SIZE: 1}) as client:
        stream_ids = [client.next_id() for _ in range(250)]
        client.send(*(headers(stream_id, request(b"/download")) for stream_id in stream_ids))
        for _ in range(10):
            client.receive(0.1)
            client.send(*(window_frame(stream_id, 1) for stream_id in stream_ids))
        hold(client)
        assert all(len(client.streams[stream_id].body) <= 11 for stream_id in stream_ids)


def test_requests_that_never_end(target: Target) -> None:
    with siege(target, "half-open streams"), attacker(target) as client:
        client.send(*(headers(client.next_id(), request(b"/read", b"POST"), end_stream=False) for _ in range(250)))
        hold(client)
        assert not client.goaways


def test_uploads_that_nobody_reads(fresh: Target) -> None:
    with siege(fresh, "unread uploads"), attacker(fresh) as client:
        _upload(client)
        hold(client)


def test_uploads_that_nobody_reads_on_many_connections(make_target: MakeTarget) -> None:
    # What one address may have in memory is far less than its connections' windows.
    with (
        make_target("--max-buffered-bytes", str(8 * 2**20)) as target,
        siege(target, "unread uploads, 2 connections", connections=2),
        ExitStack() as stack,
    ):
        clients = [stack.enter_context(attacker(target)) for _ in range(2)]
        for client in clients:
            _upload(client)
        hold(clients[-1])


def test_uploads_that_nobody_reads_in_small_pieces(fresh: Target) -> None:
    # Each piece costs the edge far more than it weighs.
    with siege(fresh, "unread uploads by the byte"), attacker(fresh) as client:
        stream_ids = [client.open(POST, end_stream=False) for _ in range(100)]
        for _ in range(20):
            client.send(*(data_frame(stream_id, b"x") * 100 for stream_id in stream_ids))
            while client.receive(0):
                pass
        hold(client)


def _upload(client: FrameClient) -> None:
    """Send as much on each of 250 streams as the server lets in."""
    piece = bytes(16_384)
    for stream_id in [client.open(POST, end_stream=False) for _ in range(250)]:
        for _ in range(64):
            if min(client.windows[0], client.windows[stream_id]) < len(piece):
                break
            if client.streams[stream_id].is_over or client.is_closed:
                break
            client.windows[0] -= len(piece)
            client.windows[stream_id] -= len(piece)
            client.send(data_frame(stream_id, piece))
        client.receive(0)


FEW = 5
MORE = 10


@pytest.fixture(scope="module")
def frugal(make_target: MakeTarget) -> Iterator[Target]:
    """An edge with small budgets that do not fill again."""
    budgets = ("resets", "pings", "settings", "priorities", "empty-frames", "window-updates")
    options = [part for budget in budgets for part in (f"--max-{budget}", str(FEW))]
    with make_target(*options, "--max-streams", str(MORE), "--budget-seconds", "3600") as running:
        yield running


@pytest.mark.parametrize(
    ("spend", "spent_before"),
    [
        (lambda client: headers(stream_id := client.next_id(), POST, end_stream=False) + reset_frame(stream_id), 0),
        (lambda client: headers(stream_id := client.next_id(), POST) + window_frame(stream_id, 0), 0),
        (
            lambda client: headers(stream_id := client.next_id(), IGNORED) + data_frame(stream_id, b"late"),
            0,
        ),
        (lambda _: frame(PING, 0, 0, b"12345678"), 0),
        (lambda _: settings_frame(), 1),
        (lambda _: priority_frame(1), 0),
        (lambda client: headers(stream_id := client.next_id(), POST_NONE, end_stream=False) + data_frame(stream_id), 0),
        (lambda _: window_frame(0, 1), 0),
    ],
    ids=["resets", "resets by window", "resets by data", "pings", "settings", "priorities", "empty", "windows"],
)
def test_a_budget_is_what_its_option_says(
    frugal: Target, spend: Callable[[FrameClient], bytes], spent_before: int
) -> None:
    with attacker(frugal) as client:
        for _ in range(FEW - spent_before):
            client.send(spend(client))
            assert client.get(b"/none").status == 204
        assert not client.goaways
        client.send(spend(client))
        assert goaway_code(client) == ENHANCE_YOUR_CALM
        client.wait_until(lambda: client.is_closed)


def test_streams_beyond_the_limit_are_refused_one_by_one(frugal: Target) -> None:
    with attacker(frugal) as client:
        stream_ids = [client.open(request(b"/events")) for _ in range(MORE)]
        refused = client.wait_for(client.open(request(b"/none")))
        assert refused.reset_code == REFUSED_STREAM
        client.wait_until(lambda: all(client.streams[stream_id].body for stream_id in stream_ids))
        client.send(reset_frame(stream_ids[0]))
        assert client.get(b"/none").status == 204


def test_little_is_left_of_them_all(target: Target) -> None:
    assert rss_bytes(target.edge) - target.rss_bytes < GROWTH_BYTES
