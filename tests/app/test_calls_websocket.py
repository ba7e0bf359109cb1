"""Cancel-through for WebSockets: what was sent before the close is delivered before it."""

from __future__ import annotations

import math
from typing import Any

import anyio
import anyio.lowlevel
import trio

from sage_edge.app.asgi import Receive, Scope, Send
from sage_edge.core.exchange import ClientDisconnectedError, Message
from tests.app.conftest import GRACE_SECONDS, Place
from tests.kit.asgi_calls import WAIT_SECONDS, WEBSOCKET_DISCONNECT, websocket_scope
from tests.kit.exchange import LONG_SECONDS, RecordingExchange

CONNECT: Message = {"type": "websocket.connect"}
MESSAGES = [{"type": "websocket.receive", "text": text} for text in "abc"]


async def call(
    place: Place, application: Any, exchange: RecordingExchange, grace_seconds: float = LONG_SECONDS
) -> None:
    with trio.fail_after(WAIT_SECONDS):
        await exchange.run(place.mount(application), grace_seconds=grace_seconds)


def websocket(*messages: Message) -> RecordingExchange:
    return RecordingExchange(CONNECT, *messages, scope=websocket_scope())


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

    exchange = websocket()
    async with trio.open_nursery() as calling:
        calling.start_soon(call, place, application, exchange)
        await exchange.wait_for(1)
        exchange.put(*MESSAGES, WEBSOCKET_DISCONNECT)
        await place.settle()
        may_read.open()
    assert received == ["a", "b", "c", "websocket.disconnect"]


async def test_an_application_that_sends_as_its_client_closes_has_the_time_to_end(place: Place) -> None:
    steps: list[str] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        try:
            while True:
                await send({"type": "websocket.send", "text": "token"})
                await anyio.lowlevel.checkpoint()
        except OSError:
            steps.append("told")
            await anyio.sleep(0.05)
            steps.append("ended")

    class Closing(RecordingExchange):
        """Refuses what comes after the client's close, as a WebSocket's does."""

        def write(self, message: Message) -> None:
            if self.is_client_gone:
                raise ClientDisconnectedError
            super().write(message)

    exchange = Closing(CONNECT, scope=websocket_scope())
    async with trio.open_nursery() as calling:
        calling.start_soon(call, place, application, exchange)
        await exchange.wait_for(20)
        exchange.put(WEBSOCKET_DISCONNECT)
    assert steps == ["told", "ended"]


async def test_all_that_came_before_the_application_began_is_received(place: Place) -> None:
    received: list[str] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        with anyio.move_on_after(2):
            while not received or received[-1] != "websocket.disconnect":
                received.append((await receive())["type"])

    await call(place, application, websocket(*MESSAGES, WEBSOCKET_DISCONNECT))
    assert received == ["websocket.connect", *["websocket.receive"] * 3, "websocket.disconnect"]


async def test_a_websocket_application_that_goes_on_is_cancelled(place: Place) -> None:
    steps: list[str] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        try:
            await anyio.sleep_forever()
        finally:
            steps.append("cancelled")

    exchange = websocket()
    async with trio.open_nursery() as calling:
        calling.start_soon(call, place, application, exchange, GRACE_SECONDS)
        await exchange.wait_for(1)
        exchange.put(WEBSOCKET_DISCONNECT)
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

    exchange = websocket()
    async with trio.open_nursery() as calling:
        calling.start_soon(call, place, application, exchange, 0.0)
        await exchange.wait_for(2)
        exchange.put(WEBSOCKET_DISCONNECT)
        await place.settle()
        assert exchange.deadline == math.inf
        may_end.open()
    assert steps == ["worked"]


async def test_a_websocket_that_its_application_closed_is_waited_on_for_its_disconnect(place: Place) -> None:
    # Unlike a request's: the server tells of it.
    received: list[Message] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.close"})
        received.append(await receive())

    exchange = websocket()
    async with trio.open_nursery() as calling:
        calling.start_soon(call, place, application, exchange)
        await exchange.wait_for(1)
        await place.settle()
        assert received == []
        exchange.put(WEBSOCKET_DISCONNECT)
    assert received == [WEBSOCKET_DISCONNECT]
