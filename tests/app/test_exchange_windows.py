"""What is under way between a server and an application is bounded, in both directions and in both places."""

from __future__ import annotations

import weakref
from typing import Any

import anyio
import trio

from sage_edge.app.asgi import Receive, Scope, Send
from sage_edge.app.exchange import ApplicationHalf
from sage_edge.core.exchange import MESSAGE_COST_BYTES, WINDOW_BYTES
from tests.app.applications import echo
from tests.app.conftest import Place
from tests.kit.asgi_calls import (
    BODY_PART_BYTES,
    WAIT_SECONDS,
    Server,
    Signal,
    http_scope,
    large_body,
    response_body,
    response_start,
)

MOST_UNDER_WAY_BYTES = WINDOW_BYTES + BODY_PART_BYTES + MESSAGE_COST_BYTES
"""The window, and the message that overstepped it."""


async def test_bodies_of_many_windows_go_both_ways(place: Place) -> None:
    parts = large_body(10 * WINDOW_BYTES)
    server = Server(*parts)
    with trio.fail_after(WAIT_SECONDS):
        await place.mount(echo)(http_scope(), server.receive, server.send)
    assert [message["body"] for message in server.sent[1:]] == [part["body"] for part in parts]


async def test_an_application_that_sends_100_mb_to_a_client_that_does_not_read_is_held_back(
    place: Place, nursery: trio.Nursery
) -> None:
    sent_parts = 0
    is_ahead = Signal()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal sent_parts
        part = bytes(BODY_PART_BYTES)
        await send(response_start())
        for _ in range(1600):
            sent_parts += 1
            if sent_parts * BODY_PART_BYTES >= WINDOW_BYTES:
                is_ahead.set()
            await send(response_body(part, more_body=True))
        await send(response_body())

    server = Server()
    server.block()
    has_returned = trio.Event()

    async def call() -> None:
        await place.mount(application)(http_scope(), server.receive, server.send)
        has_returned.set()

    nursery.start_soon(call)
    await is_ahead.wait()
    await place.settle()
    assert sent_parts * BODY_PART_BYTES <= MOST_UNDER_WAY_BYTES
    server.unblock()
    with trio.fail_after(WAIT_SECONDS):
        await has_returned.wait()
    assert len(server.body) == 1600 * BODY_PART_BYTES


async def test_many_empty_messages_are_held_back_too(place: Place, nursery: trio.Nursery) -> None:
    sent = 0
    is_ahead = Signal()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal sent
        await send(response_start())
        while True:
            sent += 1
            if sent == WINDOW_BYTES // MESSAGE_COST_BYTES:
                is_ahead.set()
            await send(response_body(more_body=True))

    server = Server()
    server.block()
    nursery.start_soon(place.mount(application), http_scope(), server.receive, server.send)
    await is_ahead.wait()
    await place.settle()
    assert sent == WINDOW_BYTES // MESSAGE_COST_BYTES
    nursery.cancel_scope.cancel()


async def test_a_body_of_10_mb_waits_with_the_server_while_the_application_does_not_read(
    place: Place, nursery: trio.Nursery
) -> None:
    has_begun, may_read = Signal(), place.new_gate()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        has_begun.set()
        await may_read.wait()
        await echo(scope, receive, send)

    server = Server(*large_body(10_000_000))
    nursery.start_soon(place.mount(application), http_scope(), server.receive, server.send)
    await has_begun.wait()
    await place.settle()
    assert sum(len(message["body"]) for message in server.taken) <= MOST_UNDER_WAY_BYTES
    may_read.open()
    await server.wait_until(lambda: len(server.body) >= 10_000_000)


async def test_an_application_that_gives_up_its_sends_gets_no_further_ahead(place: Place) -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send(response_start())
        for _ in range(100):
            with anyio.move_on_after(0.001):
                await send(response_body(bytes(BODY_PART_BYTES), more_body=True))
        has_tried.set()
        await anyio.sleep_forever()

    has_tried = Signal()
    server = Server()
    server.block()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(place.mount(application), http_scope(), server.receive, server.send)
        await has_tried.wait()
        server.unblock()
        await place.settle()
        nursery.cancel_scope.cancel()
    assert len(server.body) <= MOST_UNDER_WAY_BYTES


class Ignored:
    """The other half of an exchange, where the test needs none."""

    def __getattr__(self, name: str) -> Any:
        return None


async def test_polling_for_a_disconnect_leaves_nothing_behind() -> None:
    # As Starlette's is_disconnected() does, between two tokens of an answer.
    events: weakref.WeakSet[trio.Event] = weakref.WeakSet()

    def new_event() -> trio.Event:
        event = trio.Event()
        events.add(event)
        return event

    half = ApplicationHalf(lambda function, *arguments: None, new_event)
    half.server = Ignored()  # type: ignore[assignment]
    for _ in range(100):
        with trio.CancelScope() as scope:
            scope.cancel()
            await half.receive()
    assert len(events) <= 1
