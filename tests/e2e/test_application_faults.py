"""What an application sends wrongly, through the bridge and over the wire: it ends its own request and nothing else."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.edge import Edge, running_edge
from tests.kit.raw_http1 import raw_http1
from tests.kit.raw_http2 import raw_http2
from tests.kit.websocket import Close, websocket

INTERNAL_ERROR = 2
WORDS_BYTES = 800
GATEWAY = f"""
import array, asyncio, os, sys

WORDS = memoryview(array.array("Q", range({WORDS_BYTES // 8})))
BODIES = {{"/text": "text", "/list": [1, 2], "/none": None, "/view": WORDS}}
LENGTHS = {{"/half": [], "/short": [(b"content-length", b"9")], "/long": [(b"content-length", b"2")]}}

async def app(scope, receive, send):
    if scope["type"] == "websocket":
        await receive()
        if scope["path"] == "/deny-close":
            await send({{"type": "websocket.http.response.start", "status": 401, "headers": []}})
            await send({{"type": "websocket.http.response.body", "body": b"partial", "more_body": True}})
            await send({{"type": "websocket.close"}})
        elif scope["path"] == "/deny-badly":
            await send({{"type": "websocket.http.response.start", "status": 401, "headers": [(b"bad name", b"")]}})
        else:
            await send({{"type": "websocket.accept"}})
            while (await receive())["type"] != "websocket.disconnect":
                pass
            try:
                while not os.path.exists("may-save"):
                    await asyncio.sleep(0.01)
                print("transcript saved", file=sys.stderr, flush=True)
            except asyncio.CancelledError:
                print("cancelled while saving", file=sys.stderr, flush=True)
                raise
        return
    assert scope["type"] == "http"
    if scope["path"] in LENGTHS:
        await send({{"type": "http.response.start", "status": 200, "headers": LENGTHS[scope["path"]]}})
        more = {{"type": "http.response.body", "body": b"half", "more_body": scope["path"] != "/short"}}
        await send(more)
        return
    body = BODIES.get(scope["path"], b"ok")
    await send({{"type": "http.response.start", "status": 200, "headers": iter([(b"x-a", b"1")])}})
    if scope["path"] == "/stream":
        while not os.path.exists("may-end"):
            await send({{"type": "http.response.body", "body": b"tick ", "more_body": True}})
            await asyncio.sleep(0.01)
    await send({{"type": "http.response.body", "body": body}})
"""


@pytest.fixture
def edge(tmp_path: Path, certificates: Path) -> Iterator[Edge]:
    (tmp_path / "wrong.py").write_text(GATEWAY)
    options = ("--gateway", "wrong:app", "--cancel-grace-seconds", "0.05")
    with running_edge(*options, certificates=certificates, cwd=tmp_path) as edge:
        yield edge


def read_to_the_end(sock: socket.socket) -> bytes:
    data = bytearray()
    while piece := sock.recv(65536):
        data += piece
    return bytes(data)


def test_a_body_that_is_no_bytes_ends_its_own_stream(edge: Edge, tmp_path: Path) -> None:
    with raw_http2(edge) as connection:
        beside = connection.request(b"/stream")
        connection.wait_until(lambda: len(connection.responses[beside].body) > 0)
        for path in (b"/text", b"/list", b"/none"):
            response = connection.wait_for(connection.request(path))
            assert (response.reset_code, response.is_ended) == (INTERNAL_ERROR, False)
            assert (b"x-a", b"1") in response.headers
        response = connection.wait_for(connection.request(b"/view"))
        assert (len(response.body), response.is_ended) == (WORDS_BYTES, True)
        (tmp_path / "may-end").touch()
        response = connection.wait_for(beside)
        assert response.is_ended
        assert bytes(response.body).replace(b"tick ", b"") == b"ok"
    for path in ("/text", "/list", "/none"):
        edge.log.wait_for(f"request failed .*path={path}")
        edge.log.wait_for(f"path={path} .*ending=error")


@pytest.mark.parametrize("path", ["/text", "/list", "/none"])
def test_a_body_that_is_no_bytes_ends_its_connection_over_http1(edge: Edge, path: str) -> None:
    with raw_http1(edge) as sock:
        sock.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        data = read_to_the_end(sock)
    assert data.startswith(b"HTTP/1.1 200 ")
    assert data.endswith(b"\r\n\r\n")
    edge.log.wait_for(f"path={path} .*ending=error")


@pytest.mark.parametrize("path", ["/half", "/short", "/long"])
@pytest.mark.parametrize("protocol", ["1.1", "2"])
def test_an_answer_that_is_cut_for_its_gateway_s_fault_is_told(edge: Edge, protocol: str, path: str) -> None:
    if protocol == "2":
        with raw_http2(edge) as connection:
            response = connection.wait_for(connection.request(path.encode()))
        assert (response.reset_code, response.is_ended) == (INTERNAL_ERROR, False)
    else:
        with raw_http1(edge) as sock:
            sock.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            assert read_to_the_end(sock).startswith(b"HTTP/1.1 200 ")
    reason = "longer than its content-length" if path == "/long" else "before its answer was complete"
    edge.log.wait_for(f"request failed .*path={path}")
    edge.log.wait_for(reason)
    edge.log.wait_for(f"path={path} .*ending=error")


def test_a_denial_is_not_followed_by_another_answer(edge: Edge) -> None:
    with raw_http1(edge) as sock:
        sock.sendall(
            b"GET /deny-close HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        data = read_to_the_end(sock)
    assert data.startswith(b"HTTP/1.1 401 ")
    assert data.endswith(b"7\r\npartial\r\n"), "it has no end"
    assert data.count(b"HTTP/1.1 ") == 1
    edge.log.wait_for("websocket.close was sent, but the WebSocket is closed or denied")


@pytest.mark.parametrize("protocol", ["h2", "http/1.1"])
def test_a_denial_that_cannot_be_sent_is_a_500(edge: Edge, protocol: str) -> None:
    with websocket(edge, protocol, "/deny-badly") as client:
        assert client.status == 500
        assert b"The gateway failed" in client.refusal


@pytest.mark.parametrize("protocol", ["h2", "http/1.1"])
def test_a_handler_whose_client_has_closed_is_not_cancelled(edge: Edge, tmp_path: Path, protocol: str) -> None:
    with websocket(edge, protocol, "/chat") as client:
        assert client.close() == Close(1000)
    with websocket(edge, protocol, "/chat") as client:
        client.vanish()
        edge.log.wait_for("cancelled while saving")  # more than the grace period after the first has closed
    (tmp_path / "may-save").touch()
    edge.log.wait_for("transcript saved")
    assert edge.log.text.count("cancelled while saving") == 1
