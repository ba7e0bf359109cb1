"""An asyncio application in its gateway's thread, called from trio."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import MutableMapping
from contextlib import suppress
from typing import Any

import pytest
import sniffio
import trio
import trio.testing

from sage_edge.app import bridge
from sage_edge.app.asgi import ASGIApplication, Receive, Scope, Send
from sage_edge.app.gateway_thread import GatewayThread
from sage_edge.app.rescue import RescueLayer
from sage_edge.core.exchange import WINDOW_BYTES, ClientDisconnectedError
from tests.app.applications import answer, echo
from tests.app.conftest import GRACE_SECONDS, BridgedPlace, Place, run_in
from tests.kit.asgi_calls import (
    ANSWER,
    HTTP_DISCONNECT,
    WAIT_SECONDS,
    Signal,
    request,
    response_body,
    response_start,
)
from tests.kit.exchange import LONG_SECONDS, UNSENDABLE, RecordingExchange

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")


async def call(
    bridged: Place, application: ASGIApplication, exchange: RecordingExchange, grace_seconds: float = LONG_SECONDS
) -> None:
    with trio.fail_after(WAIT_SECONDS):
        await exchange.run(bridged.mount(application), grace_seconds=grace_seconds)


async def test_the_application_runs_on_asyncio_in_the_gateways_thread(bridged: Place) -> None:
    seen: list[str] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        seen.extend([threading.current_thread().name, sniffio.current_async_library()])
        await asyncio.sleep(0)

    await call(bridged, application, RecordingExchange())
    assert seen == ["gateway", "asyncio"]


async def test_the_application_sees_the_callers_context_variables_and_keeps_its_own(bridged: Place) -> None:
    seen: list[str] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(variable.get())
        variable.set("of the application")

    for value in ("a", "b"):
        variable.set(value)
        await call(bridged, application, RecordingExchange())
        assert variable.get() == value
    assert seen == ["a", "b"]


async def test_100_calls_at_once_are_kept_apart(bridged: Place) -> None:
    arrived = 0
    all_are_there = bridged.new_gate()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal arrived
        arrived += 1
        if arrived == 100:
            all_are_there.open()
        await all_are_there.wait()
        await echo(scope, receive, send)

    exchanges = [
        RecordingExchange(*[request(b"%d" % number, more_body=more_body) for more_body in (True, False)])
        for number in range(100)
    ]
    async with trio.open_nursery() as nursery:
        for exchange in exchanges:
            nursery.start_soon(call, bridged, application, exchange)
    assert [exchange.body for exchange in exchanges] == [b"%d" % number * 2 for number in range(100)]


OUTSIDERS = [SystemExit("no licence"), KeyboardInterrupt(), BaseExceptionGroup("of a task group", [SystemExit(1)])]


@pytest.mark.parametrize("error", OUTSIDERS, ids=lambda error: type(error).__name__)
async def test_what_is_no_exception_is_an_error_of_its_call_and_of_no_other(
    bridged: Place, error: BaseException
) -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        raise error

    with pytest.raises(RuntimeError, match=type(error).__name__) as caught:
        await call(bridged, application, RecordingExchange())
    assert caught.value.__cause__ is error
    exchange = RecordingExchange()
    await call(bridged, answer, exchange)
    assert exchange.sent == list(ANSWER)


@pytest.mark.parametrize("error", OUTSIDERS, ids=lambda error: type(error).__name__)
async def test_whatever_the_application_raises_becomes_a_500_and_never_reaches_the_edge(
    bridged: Place, error: BaseException
) -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        raise error

    exchange = RecordingExchange()
    with trio.fail_after(WAIT_SECONDS):
        await exchange.run(RescueLayer(bridged.mount(application)))
    assert exchange.status == 500


@pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt()], ids=["SystemExit", "KeyboardInterrupt"])
async def test_a_task_of_the_application_that_ends_the_loop_ends_no_call(bridged: Place, error: BaseException) -> None:
    async def leave() -> None:
        raise error

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        task = asyncio.create_task(leave())
        await asyncio.wait([task])
        assert task.exception() is error
        await answer(scope, receive, send)

    exchange = RecordingExchange()
    await call(bridged, application, exchange)
    assert exchange.sent == list(ANSWER)


async def test_an_application_that_stops_its_loop_goes_on_in_it(bridged: Place) -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        asyncio.get_running_loop().stop()
        await asyncio.sleep(0.01)
        await answer(scope, receive, send)

    for _ in range(3):
        exchange = RecordingExchange()
        await call(bridged, application, exchange)
        assert exchange.sent == list(ANSWER)


async def test_an_application_that_cancels_itself_has_failed(bridged: Place) -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(1)

    with pytest.raises(RuntimeError, match="the gateway cancelled its own request") as caught:
        await call(bridged, application, RecordingExchange())
    assert isinstance(caught.value.__cause__, asyncio.CancelledError)


async def test_an_application_that_ignores_its_cancellation_is_given_up(
    bridged: Place, monkeypatch: pytest.MonkeyPatch, logs: list[MutableMapping[str, Any]]
) -> None:
    monkeypatch.setattr(bridge, "ABANDON_SECONDS", 0.05)
    cancellations = 0
    may_end, has_begun, has_ended = bridged.new_gate(), Signal(), Signal()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal cancellations
        has_begun.set()
        waiting = asyncio.ensure_future(may_end.wait())
        while not waiting.done():
            try:
                await asyncio.shield(waiting)
            except asyncio.CancelledError:
                cancellations += 1
        has_ended.set()

    exchange = RecordingExchange()
    async with trio.open_nursery() as calling:
        calling.start_soon(call, bridged, application, exchange, GRACE_SECONDS)
        await has_begun.wait()
        exchange.put(HTTP_DISCONNECT)
    assert exchange.has_ended
    assert not has_ended.is_set
    assert logs == [
        {"event": "the gateway ignored its cancellation", "after_seconds": 0.05, "log_level": "warning"},
    ]
    may_end.open()
    await has_ended.wait()
    assert cancellations == 1


async def test_an_application_that_blocks_its_loop_while_its_client_leaves_is_given_up(
    bridged: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bridge, "ABANDON_SECONDS", 0.05)
    unblock, has_begun, has_ended = threading.Event(), Signal(), Signal()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        has_begun.set()
        unblock.wait(WAIT_SECONDS)
        has_ended.set()

    exchange = RecordingExchange()
    async with trio.open_nursery() as calling:
        calling.start_soon(call, bridged, application, exchange, GRACE_SECONDS)
        await has_begun.wait()
        exchange.put(HTTP_DISCONNECT)
    assert not has_ended.is_set
    unblock.set()
    await has_ended.wait()


async def test_a_call_that_is_cancelled_before_its_application_began_never_begins_it(
    bridged: Place, thread: GatewayThread
) -> None:
    steps: list[str] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        steps.append("begun")

    unblock, is_blocked = threading.Event(), Signal()

    def block() -> None:
        is_blocked.set()
        unblock.wait(WAIT_SECONDS)

    thread.post(block)
    await is_blocked.wait()
    calling = trio.CancelScope()

    async def call_cancelled() -> None:
        with calling:
            await call(bridged, application, RecordingExchange())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(call_cancelled)
        await trio.testing.wait_all_tasks_blocked()
        calling.cancel()
        await trio.testing.wait_all_tasks_blocked()
        unblock.set()
    assert steps == []


async def test_an_application_that_sent_what_the_server_cannot_send_is_cancelled_and_sends_nothing_more(
    bridged: Place,
) -> None:
    steps: list[str] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send(UNSENDABLE)
        await send(response_body(b"of no answer", more_body=True))
        try:
            await receive()
        except asyncio.CancelledError:
            steps.append("cancelled")
            raise ValueError("of what comes of it") from None

    exchange = RecordingExchange()
    with pytest.raises(ValueError, match="a header that cannot be sent"):
        await call(bridged, application, exchange)
    await bridged.settle()
    assert steps == ["cancelled"]
    assert exchange.sent == []


@pytest.mark.parametrize("waits_for", ["credit", "a message"])
async def test_an_application_that_swallows_the_cancellation_for_what_it_sent_is_told_that_nobody_hears_it(
    bridged: Place, waits_for: str
) -> None:
    told: list[object] = []
    has_ended = Signal()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send(UNSENDABLE)
        try:
            await asyncio.sleep(WAIT_SECONDS)
        except asyncio.CancelledError:
            told.append("cancelled")
        try:
            while waits_for == "credit":
                await send(response_body(bytes(WINDOW_BYTES), more_body=True))
            told.append(await receive())
        except OSError as error:
            told.append(type(error))
        has_ended.set()

    with pytest.raises(ValueError, match="a header that cannot be sent"):
        await call(bridged, application, RecordingExchange())
    await has_ended.wait()
    assert told == ["cancelled", ClientDisconnectedError if waits_for == "credit" else HTTP_DISCONNECT]


async def test_an_application_that_is_given_up_waits_for_no_credit(
    bridged: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bridge, "ABANDON_SECONDS", 0.05)
    has_begun, has_ended = Signal(), Signal()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send(response_start())
        has_begun.set()
        with suppress(OSError):
            while True:
                with suppress(asyncio.CancelledError):
                    await send(response_body(bytes(WINDOW_BYTES), more_body=True))
        has_ended.set()

    exchange = RecordingExchange()
    exchange.block()
    async with trio.open_nursery() as calling:
        calling.start_soon(call, bridged, application, exchange)
        await has_begun.wait()
        await bridged.settle()
        calling.cancel_scope.cancel()
    await has_ended.wait()


async def test_what_is_sent_after_the_call_has_ended_is_of_no_consequence(
    bridged: Place, logs: list[MutableMapping[str, Any]]
) -> None:
    # By a task that the application left behind; its client knows that the answer was cut.
    async def send_later(send: Send) -> None:
        await may_send.wait()
        await send(response_body(b"late"))
        has_sent.set()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send(response_start())
        tasks.append(asyncio.create_task(send_later(send)))

    tasks: list[asyncio.Task[None]] = []
    may_send, has_sent = bridged.new_gate(), Signal()
    exchange = RecordingExchange()
    await call(bridged, application, exchange)
    assert exchange.is_cut
    may_send.open()
    await has_sent.wait()
    await bridged.settle()
    assert exchange.types == ["http.response.start"]
    assert logs == []


async def test_calls_in_flight_end_with_an_error_when_the_thread_is_stopped() -> None:
    thread = GatewayThread()
    await thread.start()
    has_begun = Signal()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        has_begun.set()
        await asyncio.sleep(WAIT_SECONDS)

    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def _() -> None:
            with pytest.raises(RuntimeError, match="the gateway cancelled its own request"):
                await call(BridgedPlace(thread), application, RecordingExchange())

        await has_begun.wait()
        assert await thread.stop(WAIT_SECONDS)


async def test_no_task_is_left_in_the_gateway_after_its_calls(bridged: Place, thread: GatewayThread) -> None:
    for _ in range(10):
        await call(bridged, answer, RecordingExchange())
    await bridged.settle()
    assert await run_in(thread, lambda: len(asyncio.all_tasks())) == 0
