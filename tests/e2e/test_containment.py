"""One connection's misbehaviour ends that connection alone (trap 1)."""

from __future__ import annotations

import re
import socket
import ssl
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.kit.attack import count_descriptors
from tests.kit.edge import Edge, running_edge
from tests.kit.raw_http1 import raw_http1
from tests.kit.raw_http2 import Header, RawHTTP2, raw_http2

GATEWAY = """
import asyncio

async def app(scope, receive, send):
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await receive()
        await send({"type": "websocket.close"})
        return
    assert scope["type"] == "http"
    if scope["path"] == "/early":
        await send({"type": "http.response.start", "status": 413, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    while True:
        await send({"type": "http.response.body", "body": b"tick ", "more_body": True})
        await asyncio.sleep(0.005)
"""

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
UPGRADE = (
    b"GET /ws HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
    b"sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
CONNECT: list[Header] = [
    (b":method", b"CONNECT"),
    (b":protocol", b"websocket"),
    (b":scheme", b"https"),
    (b":authority", b"localhost"),
    (b":path", b"/ws"),
    (b"sec-websocket-version", b"13"),
]


@pytest.fixture(scope="module", params=["tls", "plaintext"])
def edge(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, certificates: Path
) -> Iterator[Edge]:
    directory = tmp_path_factory.mktemp("gateway")
    (directory / "ticking.py").write_text(GATEWAY)
    with running_edge(
        "--gateway",
        "ticking:app",
        cwd=directory,
        certificates=certificates if request.param == "tls" else None,
    ) as running:
        yield running


@pytest.fixture(scope="module")
def resources(edge: Edge) -> int:
    """How many descriptors the edge has before anybody misbehaves."""
    with edge.client() as client:
        client.get("/healthz")
    return count_descriptors(edge)


@contextmanager
def others_go_on(edge: Edge) -> Iterator[None]:
    """Another connection's stream that goes on while something happens, and health that answers after it."""
    with raw_http2(edge) as connection:
        stream = connection.responses[connection.request(b"/ticks")]
        connection.wait_until(lambda: len(stream.body) > 5)
        written = len(edge.log.text)
        yield
        received = len(stream.body)
        connection.wait_until(lambda: len(stream.body) > received + 50)
        health = connection.wait_for(connection.request(b"/healthz"))
        assert health.status == 200
        assert not stream.is_over
    with edge.client() as client:
        assert client.get("/readyz").json()["status"] == "ready"
    failures = [line for line in edge.log.text[written:].splitlines() if re.search(r"\[(error|warning)\]", line)]
    assert len(failures) <= 1, failures
    assert all(re.search(r"connection=\d+", line) for line in failures), failures


def drain(sock: socket.socket) -> bytes:
    """Read until the other end closes; a reset counts as that."""
    received = b""
    try:
        while data := sock.recv(65536):
            received += data
    except ConnectionError:
        pass
    return received


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x00\x05hello",
        b"\x00" * 1000,
        b"GET / HTTP/1.1\r\n\r\n",
        b"\xff\xfe\xfd not tls, not http\r\n\r\n",
        PREFACE + b"\xff" * 500,
        PREFACE + SETTINGS + b"\x00\x00\x05\x01\x05\x00\x00\x00\x01\xff\xff\xff\xff\xff",
        PREFACE + SETTINGS + b"\x00\x40\x01\x00\x00\x00\x00\x00\x01",
        PREFACE + SETTINGS + b"\x00\x00\x04\x08\x00\x00\x00\x00\x00\x00\x00\x00\x00",
        b"",
    ],
    ids=["record", "zeros", "no host", "noise", "h2 noise", "bad hpack", "frame size", "zero window", "nothing"],
)
@pytest.mark.usefixtures("resources")
def test_bytes_that_are_no_protocol(edge: Edge, sent: bytes) -> None:
    with others_go_on(edge), socket.create_connection(("127.0.0.1", edge.port), timeout=5) as sock:
        sock.sendall(sent)
        sock.shutdown(socket.SHUT_WR)
        drain(sock)


@pytest.mark.parametrize(
    "sent",
    [
        b"PRI * HTTP/1.1\r\nhost: localhost\r\n\r\n",
        b"CONNECT localhost:443 HTTP/1.1\r\nhost: localhost:443\r\n\r\n",
        b"GET /caf\xc3\xa9 HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n",
        b"G\xc3\x89T / HTTP/1.1\r\nhost: localhost\r\n\r\n",
        b"POST /early HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100000\r\nconnection: close\r\n\r\nearly",
        b"POST /early HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        UPGRADE + b"content-length: 5\r\n\r\nhello",
        UPGRADE + b"\r\n\x81\x85abcdhello",
        UPGRADE + b"\r\n" + b"\xff" * 200,
        UPGRADE + b"sec-websocket-extensions: permessage-deflate; server_max_window_bits=99\r\n\r\n",
        UPGRADE + b"sec-websocket-extensions: permessage-deflate; client_max_window_bits=x\r\n\r\n",
        UPGRADE + b"sec-websocket-protocol: caf\xc3\xa9\r\n\r\n",
        UPGRADE.replace(b"dGhlIHNhbXBsZSBub25jZQ==", b"caf\xc3\xa9") + b"\r\n",
        b"GET /early HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: h2c\r\nhttp2-settings: !!!\r\n\r\n",
    ],
    ids=[
        "pri",
        "connect",
        "non-ascii path",
        "non-ascii method",
        "early answer",
        "bad chunk",
        "websocket with a body",
        "websocket with early data",
        "websocket noise",
        "deflate out of range",
        "deflate not a number",
        "websocket non-ascii protocol",
        "websocket non-ascii key",
        "h2c with bad settings",
    ],
)
def test_http1_that_breaks_the_rules(edge: Edge, sent: bytes) -> None:
    with others_go_on(edge), raw_http1(edge) as sock:
        sock.sendall(sent)
        # Answered or closed; what it must not do is hang.
        assert sock.recv(65536)[:9] in {b"HTTP/1.1 ", b""}


def frame(kind: int, flags: int, stream_id: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream_id) + payload


def send_data_after_an_early_answer(connection: RawHTTP2) -> None:
    stream_id = connection.request(b"/early", method=b"POST", body=None, headers=[(b"x", b"y")])
    connection.wait_for(stream_id)
    fields = [(b":method", b"POST"), (b":scheme", b"https"), (b":authority", b"localhost"), (b":path", b"/early")]
    late = connection.send_headers(fields, end_stream=False)
    connection.wait_until(lambda: bool(connection.responses[late].status))
    connection.sock.sendall(frame(0, 0, late, b"late" * 100) * 5 + frame(0, 1, late, b"end"))


def send_priority_frames(connection: RawHTTP2) -> None:
    frames = [frame(2, 0, 2 * number + 1, struct.pack(">IB", 0, 15)) for number in range(1, 1500)]
    connection.sock.sendall(b"".join(frames))


def send_priority_loop(connection: RawHTTP2) -> None:
    depends = [(1, 3), (3, 5), (5, 1), (7, 7)]
    connection.sock.sendall(b"".join(frame(2, 0, number, struct.pack(">IB", on, 15)) for number, on in depends))


def send_websocket_data_after_its_close(connection: RawHTTP2) -> None:
    stream_id = connection.send_headers(CONNECT, end_stream=False)
    connection.wait_until(lambda: bool(connection.responses[stream_id].status))
    connection.sock.sendall(frame(0, 0, stream_id, b"\x88\x80abcd") * 2 + frame(0, 0, stream_id, b"\x81\x85abcdhello"))


def request(method: bytes = b"GET", path: bytes = b"/early") -> Callable[[RawHTTP2], None]:
    return lambda connection: connection.wait_for(connection.request(path, method=method)) and None


def send(fields: list[Header]) -> Callable[[RawHTTP2], None]:
    return lambda connection: connection.wait_for(connection.send_headers(fields)) and None


@pytest.mark.parametrize(
    "misbehave",
    [
        send_data_after_an_early_answer,
        send_priority_frames,
        send_priority_loop,
        send_websocket_data_after_its_close,
        request(path=b"/caf\xc3\xa9"),
        request(method=b"G\xc3\x89T"),
        send([(b":method", b"CONNECT"), (b":authority", b"localhost:443")]),
        send([(b":method", b"GET"), (b":scheme", b"https")]),
        send([*CONNECT, (b"sec-websocket-extensions", b"permessage-deflate; server_max_window_bits=99")]),
        send([*CONNECT, (b"sec-websocket-protocol", b"caf\xc3\xa9")]),
    ],
    ids=[
        "late data",
        "priority flood",
        "priority loop",
        "websocket after close",
        "non-ascii path",
        "non-ascii method",
        "plain connect",
        "no path",
        "deflate out of range",
        "websocket non-ascii protocol",
    ],
)
def test_http2_that_breaks_the_rules(edge: Edge, misbehave: Callable[[RawHTTP2], None]) -> None:
    with others_go_on(edge), raw_http2(edge) as connection:
        connection.sock.settimeout(5)
        # A PING comes back once everything before it has been read, unless the connection was ended.
        try:
            misbehave(connection)
            connection.sock.sendall(frame(6, 0, 0, b"12345678"))
            while data := connection.sock.recv(65536):
                if b"12345678" in data:
                    break
        except (ConnectionError, ssl.SSLError):
            pass


def test_nothing_is_left_of_them(edge: Edge, resources: int) -> None:
    for _ in range(250):
        if count_descriptors(edge) <= resources:
            break
        time.sleep(0.02)
    assert count_descriptors(edge) <= resources
    started = time.monotonic()
    assert edge.stop() == 0
    assert time.monotonic() - started < 10
    assert "[info] stopped" in edge.log.wait_for_end()
