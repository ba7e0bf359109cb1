"""A call of an application, the same in the edge's loop and in a gateway's thread: messages and errors."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
import trio

from sage_edge.app.asgi import NotAwaitableError, Receive, Scope, Send
from sage_edge.app.exchange import EXCHANGE
from sage_edge.core.exchange import UnexpectedMessageError
from tests.app.applications import answer, echo
from tests.app.conftest import Place
from tests.kit.asgi_calls import (
    ANSWER,
    WAIT_SECONDS,
    Server,
    Signal,
    http_scope,
    lifespan_scope,
    request,
    response_body,
    response_start,
)
from tests.kit.exchange import UNSENDABLE, RecordingExchange


async def call(place: Place, application: Any, exchange: RecordingExchange) -> None:
    with trio.fail_after(WAIT_SECONDS):
        await exchange.run(place.mount(application))


async def test_bodies_go_both_ways_whole_and_in_order(place: Place) -> None:
    parts = [request(b"%d," % number, more_body=number < 2000) for number in range(2001)]
    exchange = RecordingExchange(*parts)
    await call(place, echo, exchange)
    assert exchange.body == b"".join(part["body"] for part in parts)
    assert exchange.types == ["http.response.start", *["http.response.body"] * 2001]


async def test_the_scope_is_passed_on_without_the_exchange(place: Place) -> None:
    seen: list[Scope] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)

    exchange = RecordingExchange(scope=http_scope("/a"))
    await call(place, application, exchange)
    assert seen == [http_scope("/a")]
    assert exchange.scope[EXCHANGE] is exchange, "the layers above still need it"


async def test_an_application_may_use_its_message_again(place: Place, nursery: trio.Nursery) -> None:
    has_sent = Signal()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send(response_start())
        message = response_body(more_body=True)
        for part in (b"a", b"b", b"c"):
            message["body"] = part
            await send(message)
        message["body"], message["more_body"] = b"", False
        await send(message)
        has_sent.set()

    exchange = RecordingExchange()
    nursery.start_soon(call, place, application, exchange)
    await has_sent.wait()
    await exchange.wait_until(lambda: len(exchange.sent) == 5)
    assert exchange.body == b"abc"


async def test_two_tasks_may_wait_for_the_client(place: Place) -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(receive)
            tasks.start_soon(receive)
            await anyio.wait_all_tasks_blocked()
            are_waiting.set()
        for message in ANSWER:
            await send(message)

    are_waiting = Signal()
    exchange = RecordingExchange()
    async with trio.open_nursery() as calling:
        calling.start_soon(call, place, application, exchange)
        await are_waiting.wait()
        exchange.put(request(more_body=True), request())
    assert exchange.body == b"answer"


async def test_a_receive_that_is_given_up_loses_no_message(place: Place) -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        with anyio.CancelScope() as scope_of_receive:
            scope_of_receive.cancel()
            await receive()
        is_polled.set()
        await echo(scope, receive, send)

    is_polled = Signal()
    exchange = RecordingExchange()
    async with trio.open_nursery() as calling:
        calling.start_soon(call, place, application, exchange)
        await is_polled.wait()
        exchange.put(request(b"the body"))
    assert exchange.body == b"the body"


async def test_a_receive_after_the_answer_is_given_the_disconnect(place: Place) -> None:
    received: list[str] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await answer(scope, receive, send)
        received.extend([(await receive())["type"] for _ in range(2)])

    await call(place, application, RecordingExchange(request()))
    assert received == ["http.disconnect"] * 2


async def test_a_receive_after_the_answer_is_not_given_the_rest_of_a_body(place: Place) -> None:
    received: list[str] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await answer(scope, receive, send)
        received.append((await receive())["type"])

    await call(place, application, RecordingExchange(request(b"1", more_body=True), request(b"2")))
    assert received == ["http.disconnect"]


async def test_a_receive_that_waits_is_given_the_disconnect_when_the_answer_is_complete(place: Place) -> None:
    # As by a task beside the answer, which nobody would wake otherwise once its stream is over.
    received: list[str] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        async def watch() -> None:
            received.append((await receive())["type"])
            is_told.set()

        is_told = anyio.Event()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watch)
            await anyio.wait_all_tasks_blocked()
            await answer(scope, receive, send)
            with anyio.move_on_after(2):
                await is_told.wait()
            tasks.cancel_scope.cancel()

    await call(place, application, RecordingExchange())
    assert received == ["http.disconnect"]


async def test_a_body_that_its_client_withholds_is_asked_for_once_when_the_application_waits(place: Place) -> None:
    may_read = place.new_gate()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await may_read.wait()
        await echo(scope, receive, send)

    def want() -> None:
        asked.append(True)
        exchange.put(request(b"in ", more_body=True))
        if len(asked) == 1:
            trio.lowlevel.current_trio_token().run_sync_soon(exchange.put, request(b"parts"))

    asked: list[bool] = []
    exchange = RecordingExchange()
    exchange.want = want
    async with trio.open_nursery() as calling:
        calling.start_soon(call, place, application, exchange)
        await place.settle()
        assert asked == []
        may_read.open()
    assert exchange.body == b"in parts"
    assert asked == [True]
    assert exchange.want is None, "the server would go on as if its client waited to be asked"


async def test_a_body_that_comes_unasked_is_not_asked_for(place: Place) -> None:
    may_read = place.new_gate()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await may_read.wait()
        await echo(scope, receive, send)

    asked: list[bool] = []
    exchange = RecordingExchange()
    exchange.want = lambda: asked.append(True)
    async with trio.open_nursery() as calling:
        calling.start_soon(call, place, application, exchange)
        await place.settle()
        exchange.want = None
        may_read.open()
        await place.settle()
        exchange.put(request(b"unasked"))
    assert exchange.body == b"unasked"
    assert asked == []


async def test_messages_out_of_order_are_refused_where_they_are_sent(place: Place) -> None:
    refusals: list[str] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        for message in (response_body(), *ANSWER, response_body(), response_start()):
            try:
                await send(message)
            except UnexpectedMessageError as error:
                refusals.append(str(error))

    exchange = RecordingExchange()
    await call(place, application, exchange)
    assert exchange.sent == list(ANSWER)
    assert refusals == [
        "http.response.body was sent, but the response has not started",
        "http.response.body was sent, but the body is complete",
        "http.response.start was sent, but the response has started",
    ]


@pytest.mark.parametrize("sent", [(), ANSWER[:1], ANSWER], ids=["before", "amid", "after"])
async def test_what_the_application_raises_arrives_as_the_same_object(place: Place, sent: list[Any]) -> None:
    error = ValueError("on purpose")

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        for message in sent:
            await send(message)
        raise error

    exchange = RecordingExchange()
    with pytest.raises(ValueError, match="on purpose") as caught:
        await call(place, application, exchange)
    assert caught.value is error
    assert exchange.sent == list(sent)


async def test_an_application_that_is_a_plain_function_is_refused(place: Place) -> None:
    def application(scope: Scope, receive: Receive, send: Send) -> None:
        return None

    with pytest.raises(NotAwaitableError, match="not an asynchronous function"):
        await call(place, application, RecordingExchange())
    server = Server({"type": "lifespan.startup"})
    with pytest.raises(NotAwaitableError, match="not an asynchronous function"):
        await place.mount(application)(lifespan_scope(), server.receive, server.send)  # type: ignore[arg-type]


async def test_a_message_that_the_server_cannot_send_ends_the_call_with_its_error(place: Place) -> None:
    is_over = Signal()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await send(UNSENDABLE)
            await anyio.sleep_forever()
        finally:
            is_over.set()

    exchange = RecordingExchange()
    with pytest.raises(ValueError, match="a header that cannot be sent"):
        await call(place, application, exchange)
    await is_over.wait()
    assert exchange.sent == []
    assert not exchange.progress.has_started, "another answer may follow"


async def test_a_call_that_the_server_cancels_is_cancelled(place: Place, nursery: trio.Nursery) -> None:
    has_begun, is_cancelled = Signal(), Signal()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        has_begun.set()
        try:
            await anyio.sleep_forever()
        finally:
            is_cancelled.set()

    nursery.start_soon(call, place, application, RecordingExchange())
    await has_begun.wait()
    nursery.cancel_scope.cancel()
    with trio.CancelScope(shield=True):
        await is_cancelled.wait()
