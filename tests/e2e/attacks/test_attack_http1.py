"""Whoever sends slowly, or not at all, is ended in time and costs others nothing: http/1.1 and HTTP/2."""

from __future__ import annotations

import socket
import time
from contextlib import ExitStack, suppress

import pytest

from tests.e2e.attacks.conftest import MakeTarget
from tests.kit.attack import Target, attacker, dribble, goaway_code, open_tls, siege, wait_for_ends
from tests.kit.frame_client import headers, request
from tests.kit.http2_frames import (
    CANCEL,
    CONTINUATION,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    HEADERS,
    NO_ERROR,
    PREFACE,
    data_frame,
    frame,
    plain_block,
)

MANY = 100
LIMIT_SECONDS = 4.0
"""By then a wait of a second is over: its limit, the edge's clock, the last bytes, and a loaded machine."""
POST = b"POST /read HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000\r\n\r\n"
UPGRADE = (
    b"GET /ws HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
    b"sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
HEAD = b"GET /ok HTTP/1.1\r\nhost: localhost\r\n"


def open_many(stack: ExitStack, target: Target, begin: bytes) -> list[socket.socket]:
    """Connections that have sent this, and are left open."""
    sockets: list[socket.socket] = []
    for _ in range(MANY):
        sock = stack.enter_context(open_tls(target))
        sock.sendall(begin)
        sockets.append(sock)
    return sockets


def test_a_head_that_comes_slowly_is_refused(hasty: Target) -> None:
    with siege(hasty, "slow heads", connections=MANY), ExitStack() as stack:
        sockets = open_many(stack, hasty, HEAD)
        dribble(sockets, b"x-slow: " + b"y" * 12)
        assert {answer[:12] for answer in wait_for_ends(sockets, LIMIT_SECONDS)} == {b"HTTP/1.1 408"}


def test_a_head_that_is_not_begun_ends_in_time(hasty: Target) -> None:
    with siege(hasty, "idle connections, http/1.1", connections=MANY), ExitStack() as stack:
        answers = wait_for_ends(open_many(stack, hasty, b""), LIMIT_SECONDS)
        assert {answer[:12] for answer in answers} <= {b"", b"HTTP/1.1 408"}


def test_a_connection_that_is_kept_for_nothing_ends_in_time(hasty: Target) -> None:
    with siege(hasty, "kept-alive connections", connections=MANY), ExitStack() as stack:
        answers = wait_for_ends(open_many(stack, hasty, HEAD + b"\r\n"), LIMIT_SECONDS)
        assert {answer[:12] for answer in answers} == {b"HTTP/1.1 200"}
        assert {answer.count(b"HTTP/1.1") for answer in answers} == {1}


def test_a_body_that_stops_is_refused(hasty: Target) -> None:
    with siege(hasty, "slow bodies", connections=MANY), ExitStack() as stack:
        sockets = open_many(stack, hasty, POST)
        dribble(sockets, b"12345")
        assert {answer[:12] for answer in wait_for_ends(sockets, LIMIT_SECONDS)} == {b"HTTP/1.1 408"}


def test_an_answer_that_is_not_taken_ends_in_time(hasty: Target) -> None:
    get = b"GET /download HTTP/1.1\r\nhost: localhost\r\n\r\n"
    with siege(hasty, "answers not taken", connections=MANY), ExitStack() as stack:
        sockets = open_many(stack, hasty, get * 20)
        time.sleep(2.5)
        assert all(len(answer) < 20 * 2**22 for answer in wait_for_ends(sockets, LIMIT_SECONDS))


def test_a_head_of_http2_that_comes_slowly_ends_its_connection(hasty: Target) -> None:
    with siege(hasty, "slow heads, HTTP/2"), attacker(hasty) as client:
        client.send(frame(HEADERS, END_STREAM, 1, plain_block(request())))
        for _ in range(12):
            client.send(frame(CONTINUATION, 0, 1, plain_block([(b"x-slow", b"y")])))
            client.receive(0.1)
        # Where the machine is slow, the second without a request is over first.
        assert goaway_code(client) in {ENHANCE_YOUR_CALM, NO_ERROR}


def test_a_preface_that_does_not_come_ends_its_connection(hasty: Target) -> None:
    with siege(hasty, "slow prefaces", connections=MANY), ExitStack() as stack:
        sockets = [stack.enter_context(open_tls(hasty, http2=True)) for _ in range(MANY)]
        dribble(list(sockets), PREFACE[:12])
        wait_for_ends(sockets, LIMIT_SECONDS)


def test_a_frame_that_does_not_end_keeps_no_connection(hasty: Target) -> None:
    with siege(hasty, "slow frames"), attacker(hasty) as client:
        for byte in headers(1, [*request(), (b"x-slow", b"y" * 40)])[:40]:
            client.send(bytes((byte,)))
            client.receive(0.1)
            if client.goaways:
                break
        assert goaway_code(client) == NO_ERROR


def test_a_body_of_http2_that_stops_ends_its_stream(hasty: Target) -> None:
    with siege(hasty, "slow bodies, HTTP/2"), attacker(hasty) as client:
        stream_ids = [client.open(request(b"/read", b"POST"), end_stream=False) for _ in range(MANY)]
        client.send(*(data_frame(stream_id, b"x") for stream_id in stream_ids))
        client.wait_until(lambda: all(client.streams[stream_id].is_over for stream_id in stream_ids), LIMIT_SECONDS)
        assert {client.streams[stream_id].reset_code for stream_id in stream_ids} == {CANCEL}


def test_an_answer_of_http2_that_is_not_taken_ends_its_stream(hasty: Target) -> None:
    with siege(hasty, "answers not taken, HTTP/2"), attacker(hasty, {4: 1}) as client:
        stream_ids = [client.open(request(b"/download")) for _ in range(MANY)]
        assert {client.wait_for(stream_id).reset_code for stream_id in stream_ids} == {CANCEL}


def test_connections_of_http2_that_are_kept_for_nothing_end_in_time(hasty: Target) -> None:
    with siege(hasty, "idle connections, HTTP/2", connections=MANY), ExitStack() as stack:
        clients = [stack.enter_context(attacker(hasty)) for _ in range(MANY)]
        assert {goaway_code(client) for client in clients} == {NO_ERROR}


def test_requests_without_end_on_one_connection_are_read_as_they_are_answered(target: Target) -> None:
    with siege(target, "pipelined requests"), open_tls(target) as sock:
        sock.settimeout(0.5)
        sent = 0
        deadline = time.monotonic() + 2
        with suppress(TimeoutError):  # it is not read any more
            while time.monotonic() < deadline:
                sent += sock.send((HEAD + b"\r\n") * 400)
        assert sent < 64 * 2**20


def test_bytes_without_end_are_refused(target: Target) -> None:
    with siege(target, "heads without end", connections=20), ExitStack() as stack:
        sockets = [stack.enter_context(open_tls(target)) for _ in range(20)]
        for sock in sockets:
            sock.sendall(HEAD + b"x: " + b"y" * 40_000)
        assert {answer[:12] for answer in wait_for_ends(sockets, LIMIT_SECONDS)} == {b"HTTP/1.1 431"}


def test_chunks_of_a_byte_cost_no_more_than_their_bytes(target: Target) -> None:
    begin = b"POST /ignore HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n"
    with siege(target, "chunks of a byte", connections=20), ExitStack() as stack:
        sockets = [stack.enter_context(open_tls(target)) for _ in range(20)]
        for sock in sockets:
            sock.settimeout(0.05)
            with suppress(TimeoutError):  # it is not read any more
                sock.sendall(begin)
                for _ in range(20):
                    sock.sendall(b"1\r\nx\r\n" * 5000)
        time.sleep(0.5)


def test_uploads_that_nobody_reads(make_target: MakeTarget) -> None:
    # How much is read of each goes by what waits for all of them.
    begin = b"POST /ignore HTTP/1.1\r\nhost: localhost\r\ncontent-length: 10000000\r\n\r\n"
    with (
        make_target() as target,
        siege(target, "unread uploads, http/1.1", connections=MANY),
        ExitStack() as stack,
    ):
        for sock in open_many(stack, target, begin):
            sock.settimeout(0.05)
            with suppress(TimeoutError):  # it is not read any more
                sock.sendall(bytes(2_000_000))
        time.sleep(0.5)


def test_a_frame_behind_a_handshake_is_answered(target: Target) -> None:
    hello = b"\x82\x85" + bytes(4) + b"hello"
    with siege(target, "early WebSocket frames", connections=20), ExitStack() as stack:
        sockets = [stack.enter_context(open_tls(target)) for _ in range(20)]
        for sock in sockets:
            sock.sendall(UPGRADE + hello)
        for sock in sockets:
            received = b""
            while not received.endswith(b"\x82\x05hello"):
                received += sock.recv(4096)


@pytest.mark.parametrize("nothing", [b"\x89\x80", b"\x8a\x80", b"\x00\x80"], ids=["PING", "PONG", "empty fragments"])
def test_frames_of_a_websocket_that_say_nothing(target: Target, nothing: bytes) -> None:
    mask = bytes(4)
    with siege(target, "WebSocket frames of nothing", connections=4), ExitStack() as stack:
        sockets = [stack.enter_context(open_tls(target)) for _ in range(4)]
        for sock in sockets:
            sock.sendall(UPGRADE + b"\x01\x81" + mask + b"a")
            assert sock.recv(4096).startswith(b"HTTP/1.1 101 ")
        for _ in range(4):
            for sock in sockets:
                sock.sendall((nothing + mask) * 10_000)
        for sock in sockets:
            sock.sendall(b"\x80\x81" + mask + b"z")
            received = b""
            while not received.endswith(b"\x81\x02az"):
                piece = sock.recv(65_536)
                assert piece
                received += piece
