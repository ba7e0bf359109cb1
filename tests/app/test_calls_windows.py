"""What is under way between a server and an application is bounded, in both directions and in both places."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable
from typing import Any

import anyio
import pytest
import trio

from sage_edge.app.asgi import Receive, Scope, Send
from sage_edge.app.exchange import HIGH_WATER_BYTES, LOW_WATER_BYTES
from sage_edge.core.exchange import MESSAGE_COST_BYTES, WINDOW_BYTES, body_bytes
from tests.app.applications import echo
from tests.app.conftest import Place
from tests.kit.asgi_calls import (
    BODY_PART_BYTES,
    WAIT_SECONDS,
    Signal,
    http_scope,
    large_body,
    request,
    response_body,
    response_start,
    websocket_scope,
)
from tests.kit.exchange import RecordingExchange

MOST_UNDER_WAY_BYTES = WINDOW_BYTES + HIGH_WATER_BYTES + BODY_PART_BYTES + MESSAGE_COST_BYTES
"""The window between the loops, what waits beside the server, and the message that overstepped it."""
SHORT_SECONDS = 3.0
"""For what must not wait at all."""


async def call(
    place: Place, application: Any, exchange: RecordingExchange, limit_seconds: float = WAIT_SECONDS
) -> None:
    with trio.fail_after(limit_seconds):
        await exchange.run(place.mount(application))


class Producer:
    """An application that answers with so many parts, and counts those it has begun to send."""

    def __init__(self, parts: int, part: bytes = bytes(BODY_PART_BYTES)) -> None:
        self._parts = parts
        self._part = part
        self.begun = 0

    @property
    def begun_bytes(self) -> int:
        return self.begun * len(self._part)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send(response_start())
        for _ in range(self._parts):
            self.begun += 1
            await send(response_body(self._part, more_body=True))
        await send(response_body())


async def test_bodies_of_many_windows_go_both_ways(place: Place) -> None:
    parts = large_body(10 * WINDOW_BYTES)
    exchange = RecordingExchange(*parts)
    await call(place, echo, exchange)
    assert [message["body"] for message in exchange.sent[1:]] == [part["body"] for part in parts]


async def test_an_application_that_sends_100_mb_to_a_client_that_does_not_read_is_held_back(place: Place) -> None:
    application = Producer(1600)
    exchange = RecordingExchange()
    exchange.block()
    async with trio.open_nursery() as calling:
        calling.start_soon(call, place, application, exchange)
        await place.settle()
        assert HIGH_WATER_BYTES <= application.begun_bytes <= MOST_UNDER_WAY_BYTES
        exchange.unblock()
    assert len(exchange.body) == 1600 * BODY_PART_BYTES


@pytest.mark.parametrize("size_bytes", [10, 100, 5000])
async def test_small_parts_are_held_back_like_large_ones(place: Place, size_bytes: int) -> None:
    application = Producer(4 * WINDOW_BYTES // size_bytes, bytes(size_bytes))
    exchange = RecordingExchange()
    exchange.block()
    async with trio.open_nursery() as calling:
        calling.start_soon(call, place, application, exchange)
        await place.settle()
        assert application.begun_bytes <= MOST_UNDER_WAY_BYTES
        exchange.unblock()
    assert exchange.progress.is_complete


async def test_an_application_goes_on_whenever_the_client_has_read_what_waited(place: Place) -> None:
    application = Producer(1600)
    exchange = RecordingExchange()
    exchange.block()
    async with trio.open_nursery() as calling:
        calling.start_soon(call, place, application, exchange)
        for _ in range(10):
            await place.settle()
            held_at = application.begun
            exchange.unblock()
            exchange.block()
            await place.settle()
            assert held_at < application.begun <= held_at + MOST_UNDER_WAY_BYTES // BODY_PART_BYTES
        calling.cancel_scope.cancel()


async def test_an_answer_that_is_not_sent_is_not_waited_for(place: Place) -> None:
    # To a HEAD request; the application need not know.
    exchange = RecordingExchange(scope=http_scope(method="HEAD"))
    await call(place, Producer(10), exchange, SHORT_SECONDS)
    assert exchange.progress.is_complete


SENT = {"type": "websocket.send", "bytes": bytes(BODY_PART_BYTES)}


def sending_to_websocket(count: int, may_go_on: Callable[[], Any], begun: list[int]) -> Any:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        for _ in range(count):
            await send(SENT)
        await may_go_on()
        for number in range(count):
            begun.append(number)
            await send(SENT)
        await send({"type": "websocket.close"})

    return application


async def test_messages_that_shrink_on_their_way_are_waited_for_no_longer_than_it_takes(place: Place) -> None:
    # As by a WebSocket's compression.
    exchange = RecordingExchange(scope=websocket_scope(), wire_bytes=lambda message: body_bytes(message) // 1000)
    await call(place, sending_to_websocket(10, anyio.lowlevel.checkpoint, []), exchange, SHORT_SECONDS)
    assert exchange.progress.is_complete


async def test_messages_that_grow_on_their_way_are_held_back_as_ever(place: Place) -> None:
    # As by a WebSocket's framing, and by text that is not ASCII.
    begun: list[int] = []
    is_ahead, may_go_on = Signal(), place.new_gate()

    async def wait() -> None:
        is_ahead.set()
        await may_go_on.wait()

    exchange = RecordingExchange(scope=websocket_scope(), wire_bytes=lambda message: 2 * body_bytes(message))
    async with trio.open_nursery() as calling:
        calling.start_soon(call, place, sending_to_websocket(20, wait, begun), exchange)
        await is_ahead.wait()
        exchange.block()
        may_go_on.open()
        await place.settle()
        begun_bytes = len(begun) * BODY_PART_BYTES
        calling.cancel_scope.cancel()
    assert begun_bytes <= MOST_UNDER_WAY_BYTES


async def test_a_body_of_10_mb_waits_with_the_server_while_the_application_does_not_read(place: Place) -> None:
    may_read = place.new_gate()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await may_read.wait()
        await echo(scope, receive, send)

    exchange = RecordingExchange(*large_body(10_000_000))
    async with trio.open_nursery() as calling:
        calling.start_soon(call, place, application, exchange)
        await place.settle()
        assert exchange.consumed_bytes == 0
        assert 0 < exchange.delivered_bytes <= WINDOW_BYTES
        may_read.open()
    assert len(exchange.body) >= 10_000_000


async def test_no_more_is_consumed_than_was_received(place: Place) -> None:
    may_read = place.new_gate()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        for _ in range(3):
            await receive()
        has_read.set()
        await may_read.wait()

    has_read = Signal()
    exchange = RecordingExchange(*large_body(10 * BODY_PART_BYTES), window_bytes=10 * BODY_PART_BYTES)
    async with trio.open_nursery() as calling:
        calling.start_soon(call, place, application, exchange)
        await has_read.wait()
        await place.settle()
        assert 3 * BODY_PART_BYTES - LOW_WATER_BYTES <= exchange.consumed_bytes <= 3 * BODY_PART_BYTES
        may_read.open()


async def test_a_body_goes_through_the_smallest_window_that_can_be_set(place: Place) -> None:
    # 65,535 is HTTP/2's own (RFC 9113 section 6.9.2).
    parts = [request(bytes(5000), more_body=True) for _ in range(100)]
    exchange = RecordingExchange(*parts, request(), window_bytes=65_535)
    await call(place, echo, exchange, SHORT_SECONDS)
    assert len(exchange.body) == 500_000


async def test_what_is_not_yet_known_to_be_consumed_is_less_than_what_a_server_waits_for(place: Place) -> None:
    # Servers go on at LOW_WATER_BYTES, when the application has nothing left to read, and waits for them.
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        for _ in range(50):
            await receive()
        has_read.set()
        await receive()

    exchange = RecordingExchange(*[request(bytes(1200), more_body=True)] * 50)
    has_read = Signal()
    async with trio.open_nursery() as calling:
        calling.start_soon(call, place, application, exchange)
        await has_read.wait()
        await place.settle()
        unconsumed_bytes = exchange.delivered_bytes - exchange.consumed_bytes
        calling.cancel_scope.cancel()
    assert unconsumed_bytes <= LOW_WATER_BYTES


async def test_empty_messages_of_a_websocket_wait_with_the_server_too(place: Place) -> None:
    may_read = place.new_gate()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await may_read.wait()
        for _ in range(5000):
            await receive()

    exchange = RecordingExchange(*[{"type": "websocket.receive", "text": ""}] * 5000, scope=websocket_scope())
    async with trio.open_nursery() as calling:
        calling.start_soon(call, place, application, exchange)
        await place.settle()
        assert exchange.consumed_bytes == 0
        assert exchange.delivered_bytes == WINDOW_BYTES
        may_read.open()
    assert exchange.delivered_bytes == 5000 * MESSAGE_COST_BYTES


@pytest.mark.parametrize("size_bytes", [WINDOW_BYTES // 4, 10])
async def test_a_server_hears_that_a_websockets_application_waits_after_a_large_message(
    place: Place, size_bytes: int
) -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await may_go_on.wait()
        await receive()

    may_go_on = place.new_gate()
    asked_bytes = []
    message = {"type": "websocket.receive", "bytes": bytes(size_bytes)}
    exchange = RecordingExchange(message, scope=websocket_scope())
    async with trio.open_nursery() as calling:
        calling.start_soon(call, place, application, exchange)
        await place.settle()
        exchange.want = lambda: asked_bytes.append(exchange.consumed_bytes)  # set now: it is no body that is withheld
        may_go_on.open()
        await place.settle()
        calling.cancel_scope.cancel()
    is_large = size_bytes >= WINDOW_BYTES // 4
    assert exchange.consumed_bytes == size_bytes + MESSAGE_COST_BYTES
    assert asked_bytes == [exchange.consumed_bytes] or not is_large


async def test_a_server_sees_that_a_websockets_application_goes_on_though_it_takes_little(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sage_edge.app.bridge.CREDIT_SECONDS", 0.0)

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        for _ in range(3):
            await receive()
        await never.wait()

    never = place.new_gate()
    exchange = RecordingExchange(*[{"type": "websocket.receive", "text": "a"}] * 5, scope=websocket_scope())
    async with trio.open_nursery() as calling:
        calling.start_soon(call, place, application, exchange)
        await place.settle()
        calling.cancel_scope.cancel()
    assert exchange.consumed_bytes == 3 * (1 + MESSAGE_COST_BYTES)


async def test_an_application_that_gives_up_its_sends_gets_no_further_ahead(place: Place) -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send(response_start())
        for _ in range(100):
            with anyio.move_on_after(0.001):
                await send(response_body(bytes(BODY_PART_BYTES), more_body=True))
        has_tried.set()
        await anyio.sleep_forever()

    has_tried = Signal()
    exchange = RecordingExchange()
    exchange.block()
    async with trio.open_nursery() as calling:
        calling.start_soon(call, place, application, exchange)
        await has_tried.wait()
        exchange.unblock()
        await place.settle()
        calling.cancel_scope.cancel()
    assert len(exchange.body) <= MOST_UNDER_WAY_BYTES


async def test_two_tasks_may_be_held_back_at_once(place: Place) -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_parts() -> None:
            for _ in range(10):
                await send(response_body(bytes(BODY_PART_BYTES), more_body=True))

        await send(response_start())
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(send_parts)
            tasks.start_soon(send_parts)
        await send(response_body())

    exchange = RecordingExchange()
    exchange.block()
    async with trio.open_nursery() as calling:
        calling.start_soon(call, place, application, exchange)
        await place.settle()
        exchange.unblock()
    assert len(exchange.body) == 20 * BODY_PART_BYTES


async def test_no_more_empty_messages_are_on_their_way_to_the_edge_than_the_window_holds(bridged: Place) -> None:
    sent = 0
    edge_may_go_on = threading.Event()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_for_ever() -> None:
            nonlocal sent
            while True:
                sent += 1
                await send(response_body(more_body=True))

        await send(response_start())
        has_begun.set()
        await may_send.wait()
        sending = asyncio.create_task(send_for_ever())
        await asyncio.sleep(0)  # returns once that has to wait
        counts.append(sent)
        sending.cancel()
        edge_may_go_on.set()

    counts: list[int] = []
    has_begun, may_send = Signal(), bridged.new_gate()
    async with trio.open_nursery() as calling:
        calling.start_soon(call, bridged, application, RecordingExchange())
        await has_begun.wait()
        await bridged.settle()
        may_send.open()
        edge_may_go_on.wait(WAIT_SECONDS)  # and nothing runs here
    assert counts == [WINDOW_BYTES // MESSAGE_COST_BYTES]


async def test_polling_for_a_disconnect_leaves_nothing_behind_in_the_gateway(bridged: Place) -> None:
    # As Starlette's is_disconnected() does, between two tokens of an answer.
    def count_futures() -> int:
        gc.collect()
        return sum(type(thing) is asyncio.Future for thing in gc.get_objects())

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        before = count_futures()
        for _ in range(100):
            with anyio.CancelScope() as polling:
                polling.cancel()
                await receive()
        left.append(count_futures() - before)

    left: list[int] = []
    await call(bridged, application, RecordingExchange())
    assert left[0] <= 1
