"""Clients that take little of their answers, over HTTP/1.1: how little is too little, and what becomes of the rest."""

from __future__ import annotations

import socket

import pytest
import trio
import trio.testing

from sage_edge.app.asgi import Receive, Scope, Send
from tests.server.test_connection import GET, connected, serving

STALL_SECONDS = 5.0


@pytest.fixture
def clock() -> trio.testing.MockClock:
    return trio.testing.MockClock(autojump_threshold=0.05)


async def answer_for_ever(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    while True:
        await send({"type": "http.response.body", "body": bytes(65_536), "more_body": True})


async def read(stream: trio.SocketStream, size_bytes: int) -> None:
    while size_bytes:
        size_bytes -= len(await stream.receive_some(size_bytes))


async def test_who_reads_steadily_is_served_though_its_socket_has_no_room_for_long(
    clock: trio.testing.MockClock,
) -> None:
    has_ended = False

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal has_ended
        try:
            await answer_for_ever(scope, receive, send)
        finally:
            has_ended = True

    async with serving(application, stall_seconds=STALL_SECONDS) as port, connected(port) as stream:
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32_768)
        await stream.send_all(GET)
        await read(stream, 2**25)  # so fast that the system makes much room
        for _ in range(4 * int(STALL_SECONDS)):
            await trio.sleep(1)
            await read(stream, 32_768)
        assert not has_ended


async def test_who_takes_a_byte_now_and_then_is_cut_and_the_rest_is_dropped(clock: trio.testing.MockClock) -> None:
    async with serving(answer_for_ever, stall_seconds=STALL_SECONDS) as port, connected(port) as stream:
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32_768)
        await stream.send_all(GET)
        for _ in range(3 * int(STALL_SECONDS)):
            assert await stream.receive_some(100)
            await trio.sleep(1)
        received = 0
        with pytest.raises(trio.BrokenResourceError):  # noqa: PT012  # until then
            async for data in stream:
                received += len(data)
        assert received < 2**18
