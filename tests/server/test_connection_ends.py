"""How connections end that ended by halves: on one side, within what comes first, or before their application."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.kit.edge import Edge, running_edge
from tests.kit.eventually import eventually
from tests.kit.raw_http1 import raw_http1
from tests.kit.websocket_session import BINARY, CLOSE, frame

SIZE_BYTES = 8_000_000
"""More than an answer's head."""
UPLOAD_BYTES = 1_000_000
"""More than a socket's buffer takes in whose bytes are not read, and as much as a prompt with an image may have."""
GATEWAY = f"""
import asyncio, os, sys

def say(text):
    print(text, file=sys.stderr, flush=True)

async def app(scope, receive, send):
    assert scope["type"] != "lifespan"
    if scope["type"] == "websocket":
        await receive()
        await send({{"type": "websocket.accept"}})
        if scope["path"] == "/unread":
            try:
                await asyncio.Event().wait()
            finally:
                say("unread cancelled")
        count = 0
        while (message := await receive())["type"] == "websocket.receive":
            count += 1
        say(f"{{count}} messages, {{message['code']}}")
        return
    if scope["path"] == "/unanswered":
        say("begun")
        while (await receive())["type"] != "http.disconnect":
            pass
        say("left")
        while not os.path.exists("finish"):
            await asyncio.sleep(0.01)
        return
    if scope["path"] == "/unread":
        say("unread begun")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            say("unread cancelled")
            raise
    if scope["path"] == "/endless":
        fields = [(b"content-type", b"text/event-stream")]
        await send({{"type": "http.response.start", "status": 200, "headers": fields}})
        try:
            while True:
                await send({{"type": "http.response.body", "body": b"piece", "more_body": True}})
                await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            say("endless cancelled")
            raise
    if scope["path"] == "/no-content":
        await send({{"type": "http.response.start", "status": 204, "headers": []}})
        await send({{"type": "http.response.body"}})
        while not os.path.exists("finish"):
            await asyncio.sleep(0.01)
        say("background finished")
        return
    await send({{"type": "http.response.start", "status": 200, "headers": []}})
    await send({{"type": "http.response.body", "body": bytes({SIZE_BYTES} if scope["path"] == "/large" else 2)}})
    if scope["path"] == "/background":
        await asyncio.Event().wait()
"""


@pytest.fixture
def gateway(tmp_path: Path) -> Path:
    (tmp_path / "halves.py").write_text(GATEWAY)
    return tmp_path


@pytest.fixture
def edge(gateway: Path) -> Iterator[Edge]:
    options = ("--max-connections-per-client", "2", "--drain-seconds", "1")
    with running_edge("--gateway", "halves:app", *options, cwd=gateway) as edge:
        yield edge


def read_to_the_end(sock: socket.socket) -> bytes:
    data = bytearray()
    while piece := sock.recv(65536):
        data += piece
    return bytes(data)


def read_into_the_body(sock: socket.socket) -> bytes:
    """The answer's head and the first byte behind it: its body, which is one message, is whole at the edge by then."""
    data = b""
    while not data.partition(b"\r\n\r\n")[2]:
        data += sock.recv(1)
    return data


def ask(path: str, *, version: str = "1.1", connection: str = "keep-alive") -> bytes:
    return f"GET {path} HTTP/{version}\r\nHost: localhost\r\nConnection: {connection}\r\n\r\n".encode()


def open_websocket(sock: socket.socket, path: str) -> None:
    upgrade = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    key = "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    sock.sendall((upgrade + key).encode())
    assert sock.recv(4096).startswith(b"HTTP/1.1 101 ")


def upload(size_bytes: int, missing_bytes: int = 0) -> bytes:
    length = b"Content-Length: %d\r\n\r\n" % (size_bytes + missing_bytes)
    return b"POST /unread HTTP/1.1\r\nHost: localhost\r\n" + length + bytes(size_bytes)


def is_served(edge: Edge) -> bool:
    """Whether a connection is taken, and its request answered."""
    with suppress(ConnectionError), raw_http1(edge) as sock:
        sock.sendall(ask("/"))
        return sock.recv(65536).startswith(b"HTTP/1.1 200 ")
    return False


@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize("connection", ["keep-alive", "close"])
def test_a_whole_answer_is_written_to_its_end_though_the_client_has_ended_its_side(
    edge: Edge, version: str, connection: str
) -> None:
    with socket.socket() as sock:
        sock.settimeout(30)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)  # so that most of it waits at the edge
        sock.connect(("127.0.0.1", edge.port))
        sock.sendall(ask("/large", version=version, connection=connection))
        begun = read_into_the_body(sock)
        sock.shutdown(socket.SHUT_WR)
        assert SIZE_BYTES < len(begun + read_to_the_end(sock)) < SIZE_BYTES + 1000


def test_a_connection_ends_after_the_answer_that_was_whole_whatever_was_asked_behind_it(edge: Edge) -> None:
    with raw_http1(edge) as sock:
        sock.sendall(ask("/large") + ask("/background") * 3000)  # more than is read ahead
        begun = read_into_the_body(sock)
        sock.shutdown(socket.SHUT_WR)
        assert len(begun + read_to_the_end(sock)) > SIZE_BYTES


def test_a_client_that_ends_its_side_and_does_not_read_is_cut(gateway: Path) -> None:
    options = ("--gateway", "halves:app", "--stall-seconds", "1", "--log-level", "debug")
    with running_edge(*options, cwd=gateway) as edge, raw_http1(edge) as sock:
        sock.sendall(ask("/large"))
        read_into_the_body(sock)
        sock.shutdown(socket.SHUT_WR)
        edge.log.wait_for("client does not read")


def test_an_application_that_goes_on_after_its_answer_takes_up_no_connection(edge: Edge) -> None:
    for _ in range(5):
        with raw_http1(edge) as sock:
            sock.sendall(ask("/background", connection="close"))
            assert read_to_the_end(sock).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("http2", [False, True])
def test_an_endless_answer_to_a_head_ends_after_the_grace_and_a_background_task_goes_on(
    gateway: Path, certificates: Path, http2: bool
) -> None:
    options = ("--gateway", "halves:app", "--cancel-grace-seconds", "0.5")
    with running_edge(*options, certificates=certificates, cwd=gateway) as edge, edge.client(http2=http2) as client:
        assert client.head("/endless").status_code == 200
        assert client.get("/no-content").status_code == 204
        edge.log.wait_for("endless cancelled")
        edge.log.wait_for("path=/endless .* ending=complete ")
        (gateway / "finish").touch()
        edge.log.wait_for("background finished")


@pytest.mark.parametrize("missing_bytes", [0, 1], ids=["whole", "within its body"])
@pytest.mark.parametrize("is_tls", [False, True], ids=["plaintext", "tls"])
def test_a_client_that_leaves_behind_a_large_body_is_missed_though_nobody_reads_that(
    gateway: Path, certificates: Path, is_tls: bool, missing_bytes: int
) -> None:
    options = ("--gateway", "halves:app")
    with (
        running_edge(*options, certificates=certificates if is_tls else None, cwd=gateway) as edge,
        raw_http1(edge) as sock,
    ):
        sock.sendall(upload(UPLOAD_BYTES, missing_bytes))
        edge.log.wait_for("unread begun")
        sock.shutdown(socket.SHUT_WR)
        edge.log.wait_for("unread cancelled")


@pytest.mark.parametrize(("size_bytes", "count"), [(1000, 200), (1, 20_000)])
@pytest.mark.parametrize("leaves", [True, False], ids=["gone", "waiting"])
def test_all_that_a_client_said_before_it_closed_its_websocket_is_heard(
    edge: Edge, size_bytes: int, count: int, leaves: bool
) -> None:
    # More than there is time for in one turn, and than is read before the application has taken some.
    with raw_http1(edge) as sock:
        open_websocket(sock, "/chat")
        sock.sendall(frame(BINARY, bytes(size_bytes)) * count + frame(CLOSE, (1000).to_bytes(2, "big")))
        sock.shutdown(socket.SHUT_WR)
        if not leaves:
            assert read_to_the_end(sock) == b"\x88\x02\x03\xe8"
    edge.log.wait_for(f"{count} messages, 1000")


@pytest.mark.parametrize("count", [10, 155_000])  # a little more than is read
def test_a_client_that_leaves_its_websocket_is_missed_though_nobody_hears_what_it_has_said(
    gateway: Path, count: int
) -> None:
    options = ("--gateway", "halves:app", "--cancel-grace-seconds", "0.1")
    with running_edge(*options, cwd=gateway) as edge, raw_http1(edge) as sock:
        open_websocket(sock, "/unread")
        sock.sendall(frame(BINARY, b"x") * count)
        sock.shutdown(socket.SHUT_WR)
        edge.log.wait_for("unread cancelled")
        assert "Traceback" not in edge.log.text


def test_a_client_that_leaves_is_missed_once_others_of_its_address_have_made_room_for_its_body(gateway: Path) -> None:
    options = ("--gateway", "halves:app", "--max-buffered-bytes", "1048576")
    with running_edge(*options, cwd=gateway) as edge, raw_http1(edge) as first, raw_http1(edge) as second:
        for count, sock in enumerate((first, second), 1):
            sock.sendall(upload(200_000))  # a quarter of what may wait has room for one of them
            edge.log.wait_for("unread begun", count=count)
        second.shutdown(socket.SHUT_WR)
        first.shutdown(socket.SHUT_WR)
        edge.log.wait_for("unread cancelled", count=2)


def test_an_application_that_goes_on_without_its_client_takes_up_its_connection(gateway: Path) -> None:
    options = ("--max-connections-per-client", "1", "--cancel-grace-seconds", "600")
    with running_edge("--gateway", "halves:app", *options, cwd=gateway) as edge:
        with raw_http1(edge) as sock:
            sock.sendall(ask("/unanswered"))
            edge.log.wait_for("begun")
        edge.log.wait_for("left")
        assert not is_served(edge)
        (gateway / "finish").touch()
        assert eventually(lambda: is_served(edge))


@pytest.mark.parametrize("data", [b"", b"\x16\x03\x01\x02\x00\x01\x00"], ids=["silent", "half a hello"])
def test_a_drain_does_not_wait_for_half_a_handshake(gateway: Path, certificates: Path, data: bytes) -> None:
    options = ("--gateway", "halves:app", "--handshake-seconds", "600", "--drain-seconds", "600")
    with (
        running_edge(*options, certificates=certificates, cwd=gateway) as edge,
        socket.create_connection(("127.0.0.1", edge.port), timeout=30) as sock,
    ):
        sock.sendall(data)
        with edge.client() as client:
            client.get("/")  # by now the other is accepted
        edge.process.send_signal(signal.SIGTERM)
        assert edge.process.wait(15) == 0


def test_a_drain_does_not_wait_for_half_a_head(gateway: Path) -> None:
    options = ("--gateway", "halves:app", "--header-seconds", "600", "--drain-seconds", "600")
    with running_edge(*options, cwd=gateway) as edge, raw_http1(edge) as sock:
        sock.sendall(ask("/") + b"GET / HTTP/1.1\r\n")
        assert sock.recv(65536).startswith(b"HTTP/1.1 200 ")
        edge.process.send_signal(signal.SIGTERM)
        assert edge.process.wait(15) == 0
        assert b"HTTP/1.1 503 " in read_to_the_end(sock)
