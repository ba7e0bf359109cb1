"""Cancel-through: what an application meets when its client goes away, in both places."""

from __future__ import annotations

import asyncio
import math
import threading
from typing import Any

import anyio
import pytest
import trio
import trio.testing

from sage_edge.app.asgi import Receive, Scope, Send
from sage_edge.core.exchange import WINDOW_BYTES, ClientDisconnectedError
from tests.app.conftest import GRACE_SECONDS, Place
from tests.kit.asgi_calls import (
    ANSWER,
    HTTP_DISCONNECT,
    WAIT_SECONDS,
    Signal,
    http_scope,
    large_body,
    request,
    response_body,
    response_start,
)
from tests.kit.exchange import LONG_SECONDS, RecordingExchange


async def call(
    place: Place, application: Any, exchange: RecordingExchange, grace_seconds: float = LONG_SECONDS
) -> None:
    with trio.fail_after(WAIT_SECONDS):
        await exchange.run(place.mount(application), grace_seconds=grace_seconds)


async def test_a_disconnect_is_received_before_the_body_that_is_unread(place: Place) -> None:
    received: list[str] = []
    may_read = place.new_gate()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await may_read.wait()
        received.extend([(await receive())["type"] for _ in range(3)])

    exchange = RecordingExchange(*large_body(WINDOW_BYTES // 2)[:-1])
    async with trio.open_nursery() as calling:
        calling.start_soon(call, place, application, exchange)
        await place.settle()
        exchange.put(HTTP_DISCONNECT)
        await place.settle()
        may_read.open()
    assert received == ["http.disconnect"] * 3, "it may be asked for any number of times"


async def test_a_receive_that_waits_is_given_the_disconnect(place: Place) -> None:
    received: list[str] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        received.append((await receive())["type"])

    exchange = RecordingExchange()
    async with trio.open_nursery() as calling:
        calling.start_soon(call, place, application, exchange)
        await place.settle()
        exchange.put(HTTP_DISCONNECT)
    assert received == ["http.disconnect"]


async def test_send_raises_oserror_once_the_client_has_gone(place: Place) -> None:
    errors: list[Exception] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send(response_start())
        await receive()
        for _ in range(2):
            try:
                await send(response_body(b"more", more_body=True))
            except OSError as error:
                errors.append(error)

    exchange = RecordingExchange()
    async with trio.open_nursery() as calling:
        calling.start_soon(call, place, application, exchange)
        await exchange.wait_for(1)
        exchange.put(HTTP_DISCONNECT)
    assert [type(error) for error in errors] == [ClientDisconnectedError] * 2
    assert exchange.types == ["http.response.start"]


async def test_a_send_that_waits_for_the_client_raises_oserror_when_it_goes(place: Place) -> None:
    errors: list[Exception] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send(response_start())
        try:
            while True:
                await send(response_body(bytes(WINDOW_BYTES), more_body=True))
        except OSError as error:
            errors.append(error)

    exchange = RecordingExchange()
    exchange.block()
    async with trio.open_nursery() as calling:
        calling.start_soon(call, place, application, exchange)
        await place.settle()
        assert errors == []
        exchange.put(HTTP_DISCONNECT)
    assert [type(error) for error in errors] == [ClientDisconnectedError]


async def test_an_application_that_goes_on_is_cancelled_after_the_grace_period(place: Place) -> None:
    lasted_seconds: list[float] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        left_at = anyio.current_time()
        try:
            await anyio.sleep_forever()
        finally:
            lasted_seconds.append(anyio.current_time() - left_at)

    exchange = RecordingExchange()
    async with trio.open_nursery() as calling:
        calling.start_soon(call, place, application, exchange, 0.1)
        await place.settle()
        exchange.put(HTTP_DISCONNECT)
    assert len(lasted_seconds) == 1
    assert lasted_seconds[0] >= 0.09


async def test_an_application_whose_client_left_before_it_began_is_cancelled(place: Place) -> None:
    # As when a request and what is wrong with it arrive together.
    is_cancelled = Signal()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            is_cancelled.set()

    exchange = RecordingExchange(HTTP_DISCONNECT)
    with trio.move_on_after(2):
        await exchange.run(place.mount(application), grace_seconds=GRACE_SECONDS)
    assert exchange.deadline < math.inf


async def test_an_application_that_does_not_read_its_large_body_is_cancelled_when_the_client_goes(
    place: Place,
) -> None:
    is_cancelled = Signal()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            is_cancelled.set()

    exchange = RecordingExchange(*large_body(4 * WINDOW_BYTES)[:-1])
    async with trio.open_nursery() as calling:
        calling.start_soon(call, place, application, exchange, GRACE_SECONDS)
        await place.settle()
        exchange.put(HTTP_DISCONNECT)
        await is_cancelled.wait()


async def test_a_cancelled_application_may_clean_up_before_the_call_returns(place: Place) -> None:
    steps: list[str] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.05)
            steps.append("cleaned up")

    exchange = RecordingExchange()
    async with trio.open_nursery() as calling:
        calling.start_soon(call, place, application, exchange, GRACE_SECONDS)
        await place.settle()
        exchange.put(HTTP_DISCONNECT)
    assert steps == ["cleaned up"]


@pytest.mark.parametrize("messages", [[], [request()]], ids=["no body", "body"])
async def test_background_work_after_a_complete_answer_is_not_cancelled(place: Place, messages: list[Any]) -> None:
    may_end = place.new_gate()
    steps: list[str] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        for message in ANSWER:
            await send(message)
        await may_end.wait()
        steps.append("worked")

    exchange = RecordingExchange(*messages)
    async with trio.open_nursery() as calling:
        calling.start_soon(call, place, application, exchange, 0.0)
        await exchange.wait_for(len(ANSWER))
        exchange.put(HTTP_DISCONNECT)
        await place.settle()
        assert exchange.deadline == math.inf
        assert steps == []
        may_end.open()
    assert steps == ["worked"]


async def test_background_work_after_the_last_byte_of_an_announced_length_is_not_cancelled(place: Place) -> None:
    # The end of the answer is often an empty message of its own, which the client has no use for.
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send(response_start(headers=[(b"content-length", b"3")]))
        await send(response_body(b"all", more_body=True))
        await receive()
        await send(response_body())

    exchange = RecordingExchange()
    async with trio.open_nursery() as calling:
        calling.start_soon(call, place, application, exchange, 0.0)
        await exchange.wait_for(2)
        exchange.put(HTTP_DISCONNECT)
    assert exchange.deadline == math.inf
    assert exchange.progress.is_complete


@pytest.mark.parametrize(("status", "method"), [(204, "GET"), (304, "GET"), (200, "HEAD")])
async def test_an_application_may_go_on_with_the_body_of_an_answer_that_has_none(
    place: Place, status: int, method: str
) -> None:
    # As a stream does, after whose head over HTTP/1.0 the connection is closed: its client has all of its answer.
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send(response_start(status))
        await receive()
        await send(response_body(b"more", more_body=True))
        await send(response_body())

    exchange = RecordingExchange(scope=http_scope(method=method))
    async with trio.open_nursery() as calling:
        calling.start_soon(call, place, application, exchange)
        await exchange.wait_for(1)
        exchange.put(HTTP_DISCONNECT)
    assert exchange.progress.is_complete
    assert exchange.deadline == math.inf


async def test_an_error_in_background_work_is_raised_although_the_client_has_gone(place: Place) -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        for message in ANSWER:
            await send(message)
        await receive()
        raise ValueError("in the background")

    exchange = RecordingExchange()
    with pytest.RaisesGroup(pytest.RaisesExc(ValueError, match="in the background")):
        async with trio.open_nursery() as calling:
            calling.start_soon(call, place, application, exchange)
            await exchange.wait_for(len(ANSWER))
            exchange.put(HTTP_DISCONNECT)


async def test_a_receive_is_cancelled_though_a_message_comes_in_the_same_moment(bridged: Place) -> None:
    # As with Starlette's is_disconnected(), which cancels what it has just asked, between two pieces of an answer.
    is_waiting, is_delivered = threading.Event(), threading.Event()
    outcomes: list[Any] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        receiving = asyncio.ensure_future(receive())
        await asyncio.sleep(0)
        is_waiting.set()
        is_delivered.wait(WAIT_SECONDS)  # in the way of the loop: the message is next, before the task is resumed
        receiving.cancel()
        await asyncio.wait([receiving])
        outcomes.extend([receiving.cancelled(), await receive()])

    exchange = RecordingExchange()
    async with trio.open_nursery() as calling:
        calling.start_soon(call, bridged, application, exchange)
        await trio.to_thread.run_sync(is_waiting.wait, WAIT_SECONDS)
        exchange.put(request(b"body"))
        await trio.testing.wait_all_tasks_blocked()
        is_delivered.set()
    assert outcomes == [True, request(b"body")]
