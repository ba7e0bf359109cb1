"""Clients that send all before they read anything, to applications that read in one task and write in another."""

from __future__ import annotations

import socket

import pytest
import trio
import trio.testing

from sage_edge.app.asgi import Receive, Scope, Send
from tests.server.test_connection import connected, serving

WEBSOCKET = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDAwMDAwMDAwMDAwMDAwMA==\r\n\r\n"
)
FRAME_BYTES = 64_000
FRAME = b"\x82\xfe" + FRAME_BYTES.to_bytes(2) + bytes(4 + FRAME_BYTES)
FRAMES = 128
BODY_BYTES = FRAMES * FRAME_BYTES
"""Far more than sockets hold."""
POST = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % BODY_BYTES


@pytest.fixture
def clock() -> trio.testing.MockClock:
    return trio.testing.MockClock(autojump_threshold=0.05)


class FullDuplex:
    """An application that writes for as long as it is let, and reads once nothing moves any more.

    Attributes:
        received_bytes: of the body, or of the WebSocket's messages.
        has_all: the body is whole, or the client has closed the WebSocket.
    """

    def __init__(self) -> None:
        self.received_bytes = 0
        self.has_all = trio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with trio.open_nursery() as nursery:
            if scope["type"] == "websocket":
                await receive()
                await send({"type": "websocket.accept"})
                nursery.start_soon(self._repeat, send, {"type": "websocket.send", "bytes": bytes(60_000)})
            else:
                await send({"type": "http.response.start", "status": 200, "headers": []})
                piece = {"type": "http.response.body", "body": bytes(60_000), "more_body": True}
                nursery.start_soon(self._repeat, send, piece)
            await trio.sleep(1)
            while not (message := await receive())["type"].endswith(".disconnect"):
                self.received_bytes += len(message.get("body") or message.get("bytes") or b"")
                if not message.get("more_body", True):
                    self.has_all.set()
            self.has_all.set()

    @staticmethod
    async def _repeat(send: Send, message: dict[str, object]) -> None:
        try:
            while True:
                await send(message)
        except OSError:
            return


async def test_an_upload_goes_on_while_its_answer_is_not_read(clock: trio.testing.MockClock) -> None:
    application = FullDuplex()
    async with serving(application) as port, connected(port) as stream:
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32_768)
        await stream.send_all(POST)
        for _ in range(FRAMES):
            await stream.send_all(bytes(FRAME_BYTES))
        await application.has_all.wait()
        assert application.received_bytes == BODY_BYTES


async def test_a_websocket_is_read_to_its_close_while_its_client_reads_nothing(clock: trio.testing.MockClock) -> None:
    application = FullDuplex()
    async with serving(application) as port, connected(port) as stream:
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32_768)
        await stream.send_all(WEBSOCKET)
        for _ in range(FRAMES):
            await stream.send_all(FRAME)
        await stream.send_all(b"\x88\x80" + bytes(4))
        await application.has_all.wait()
        assert application.received_bytes == BODY_BYTES
