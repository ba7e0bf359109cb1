"""Cancel-through for WebSockets: what was sent before the close is delivered before it."""

from __future__ import annotations

from typing import Any

import anyio
import trio

from sage_edge.app.asgi import Receive, Scope, Send
from tests.app.conftest import GRACE_SECONDS, Place
from tests.kit.asgi_calls import WAIT_SECONDS, WEBSOCKET_DISCONNECT, Server, websocket_scope


async def call(place: Place, application: Any, server: Server, grace_seconds: float = GRACE_SECONDS) -> None:
    with trio.fail_after(WAIT_SECONDS):
        await place.mount(application, grace_seconds=grace_seconds)(websocket_scope(), server.receive, server.send)


async def test_the_messages_of_a_websocket_are_received_before_its_disconnect(place: Place) -> None:
    received: list[str] = []
    may_read = place.new_gate()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await may_read.wait()
        while (message := await receive())["type"] == "websocket.receive":
            received.append(message["text"])
        received.append(message["type"])

    messages = [{"type": "websocket.receive", "text": text} for text in "abc"]
    server = Server({"type": "websocket.connect"})
    async with trio.open_nursery() as calling:
        calling.start_soon(call, place, application, server, 600.0)
        await server.wait_for(1)
        server.put(*messages, WEBSOCKET_DISCONNECT)
        await place.settle()
        may_read.open()
    assert received == ["a", "b", "c", "websocket.disconnect"]


async def test_a_websocket_application_that_goes_on_is_cancelled(place: Place) -> None:
    steps: list[str] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        try:
            await anyio.sleep_forever()
        finally:
            steps.append("cancelled")

    server = Server({"type": "websocket.connect"})
    async with trio.open_nursery() as calling:
        calling.start_soon(call, place, application, server)
        await server.wait_for(1)
        server.put(WEBSOCKET_DISCONNECT)
    assert steps == ["cancelled"]


async def test_a_websocket_that_the_application_closed_is_complete(place: Place) -> None:
    may_end = place.new_gate()
    steps: list[str] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close"})
        await may_end.wait()
        steps.append("worked")

    server = Server({"type": "websocket.connect"})
    async with trio.open_nursery() as calling:
        calling.start_soon(call, place, application, server)
        await server.wait_for(2)
        server.put(WEBSOCKET_DISCONNECT)
        await trio.sleep(5 * GRACE_SECONDS)  # nothing is to happen, so there is no event to wait for
        may_end.open()
    assert steps == ["worked"]
