"""How long an answer has to wait for its client, wherever the application runs."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress

import pytest
import trio

from sage_edge.app.asgi import Receive, Scope, Send
from sage_edge.app.exchange import HIGH_WATER_BYTES, LOW_WATER_BYTES
from sage_edge.app.metrics import MetricsLayer
from sage_edge.core.exchange import WINDOW_BYTES
from sage_edge.core.metric_families import Metrics
from tests.app.conftest import Place
from tests.kit.asgi_calls import WAIT_SECONDS, request, response_body, response_start
from tests.kit.exchange import RecordingExchange
from tests.kit.meter import RecordingMeter

MINUTE = 60.0


class Call:
    """One call of an application that sends pieces without end, with a clock that a test sets."""

    def __init__(self, piece: bytes) -> None:
        self.metrics = Metrics()
        self.now = 0.0
        self.exchange = RecordingExchange(request())
        self.exchange.mount = "/"
        self.exchange.timeline.clock = lambda: self.now
        self._piece = piece

    async def run(self, place: Place) -> None:
        with trio.fail_after(WAIT_SECONDS):
            await self.exchange.run(MetricsLayer(place.mount(self._send_on), self.metrics))

    async def _send_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send(response_start())
        with suppress(OSError):  # once the client has left
            while True:
                await send(response_body(self._piece, more_body=True))

    async def wait_until_held(self, place: Place) -> None:
        """Return once the application may send no more: from a thread, that takes many turns."""
        with trio.fail_after(WAIT_SECONDS):
            while self.exchange.timeline.waited_since is None:
                await place.settle()

    @property
    def waits(self) -> tuple[int, float]:
        """How many were counted, and their seconds."""
        waits = self.metrics.client_wait_seconds.of("/", "2")
        return waits.count, waits.total

    @property
    def waiting(self) -> int:
        """How many answers wait now."""
        ((_, number),) = self.metrics.snapshot()["sage_edge_answers_waiting_for_client"]
        return int(number)

    @property
    def counted_bytes(self) -> int:
        """How many were sent."""
        rows = self.metrics.snapshot()["sage_edge_response_body_bytes"]
        return int(sum(number for _, number in rows))


@pytest.mark.parametrize("size_bytes", [20, 1000, 100_000], ids=str)
async def test_it_is_counted_when_the_client_makes_room(place: Place, size_bytes: int) -> None:
    # Of the smallest pieces far less than the high water mark has to wait beside the server before a gateway in a
    # thread of its own may send no more.
    call = Call(bytes(size_bytes))
    call.exchange.block()
    async with trio.open_nursery() as calling:
        calling.start_soon(call.run, place)
        await call.wait_until_held(place)
        assert call.waits == (0, 0)
        assert call.waiting == 1
        call.now += MINUTE
        call.exchange.unblock()
        call.exchange.block()
        assert call.waits == (1, MINUTE)
        assert call.waiting == 0
        await call.wait_until_held(place)
        call.now += MINUTE
        call.exchange.unblock()
        call.exchange.block()
        assert call.waits == (2, 2 * MINUTE)
        calling.cancel_scope.cancel()


async def test_it_is_counted_when_the_client_leaves(place: Place) -> None:
    call = Call(bytes(HIGH_WATER_BYTES))
    call.exchange.block()
    async with trio.open_nursery() as calling:
        calling.start_soon(call.run, place)
        await call.wait_until_held(place)
        call.now += MINUTE
        call.exchange.lose_client()
        calling.cancel_scope.cancel()
    assert call.waits == (1, MINUTE)


async def test_it_does_not_begin_once_the_client_has_left(bridged: Place) -> None:
    # A gateway in a thread of its own sends on until it has heard of that.
    may_go_on, may_end, has_sent = bridged.new_gate(), bridged.new_gate(), threading.Event()

    async def send_until_held(scope: Scope, receive: Receive, send: Send) -> None:
        await send(response_start())
        await send(response_body(bytes(HIGH_WATER_BYTES), more_body=True))
        await may_go_on.wait()
        rest = asyncio.ensure_future(send(response_body(bytes(WINDOW_BYTES - HIGH_WATER_BYTES), more_body=True)))
        await asyncio.sleep(0)
        has_sent.set()
        with suppress(OSError):
            await rest
        await may_end.wait()

    metrics = Metrics()
    exchange = RecordingExchange(request())
    exchange.block()
    async with trio.open_nursery() as calling:
        calling.start_soon(exchange.run, MetricsLayer(bridged.mount(send_until_held), metrics))
        await bridged.settle()
        assert exchange.is_congested
        assert exchange.timeline.waited_since is None
        may_go_on.open()
        assert has_sent.wait(WAIT_SECONDS), "in the meantime the edge takes nothing"
        exchange.lose_client()
        await bridged.settle()
        ((_, waiting),) = metrics.snapshot()["sage_edge_answers_waiting_for_client"]
        assert waiting == 0
        may_end.open()


def test_it_lasts_until_half_of_the_room_is_free_and_is_one_until_then() -> None:
    now = 0.0
    exchange = RecordingExchange()
    exchange.timeline.clock = lambda: now
    exchange.meter = meter = RecordingMeter()
    waits = meter.waits
    exchange.note_waiting(HIGH_WATER_BYTES)
    exchange.note_written(HIGH_WATER_BYTES)
    assert waits == [], "there was room for it"
    exchange.note_waiting(HIGH_WATER_BYTES + 1)
    now += 1
    exchange.note_written(HIGH_WATER_BYTES - LOW_WATER_BYTES)
    assert waits == []
    now += 1
    exchange.note_waiting(HIGH_WATER_BYTES)
    now += 1
    exchange.note_written(HIGH_WATER_BYTES + 1)
    assert waits == [3]


async def test_what_is_on_its_way_is_counted_meanwhile_and_once(place: Place) -> None:
    call = Call(bytes(1000))
    async with trio.open_nursery() as calling:
        call.exchange.block()
        calling.start_soon(call.run, place)
        await call.wait_until_held(place)
        assert call.counted_bytes == 0
        for _ in range(2):
            call.exchange.unblock()
            call.exchange.block()
            assert call.counted_bytes == len(call.exchange.body) > 0
            await call.wait_until_held(place)
        call.exchange.lose_client()
        calling.cancel_scope.cancel()
    assert call.counted_bytes == len(call.exchange.body)


async def test_what_waited_when_the_answer_was_cut_was_not_sent(place: Place) -> None:
    call = Call(bytes(1000))
    async with trio.open_nursery() as calling:
        call.exchange.block()
        calling.start_soon(call.run, place)
        await call.wait_until_held(place)
        call.exchange.unblock()
        call.exchange.block()
        await call.wait_until_held(place)
        sent_bytes = len(call.exchange.body)
        waiting_bytes = call.exchange.waiting_bytes
        assert waiting_bytes
        call.exchange.lose_client()
        calling.cancel_scope.cancel()
    assert call.exchange.sent_bytes == sent_bytes + waiting_bytes
    assert call.metrics.snapshot()["sage_edge_response_body_bytes"] == [[["/", "2"], sent_bytes]]
