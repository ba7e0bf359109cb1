"""A call of an application, the same in the edge's loop and in a gateway's thread: messages and errors."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
import trio

from sage_edge.app.asgi import NotAwaitableError, Receive, Scope, Send
from sage_edge.core.exchange import LifespanUnsupportedError, UnexpectedMessageError
from tests.app.applications import echo
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


async def test_bodies_go_both_ways_whole_and_in_order(place: Place) -> None:
    parts = [request(b"%d," % number, more_body=number < 2000) for number in range(2001)]
    server = Server(*parts)
    await place.mount(echo)(http_scope(), server.receive, server.send)
    assert server.body == b"".join(part["body"] for part in parts)
    assert server.types == ["http.response.start", *["http.response.body"] * 2001]


async def test_the_scope_is_passed_on(place: Place) -> None:
    seen: list[Scope] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)

    scope = http_scope("/a")
    await place.mount(application)(scope, Server().receive, Server().send)
    assert seen == [scope]


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

    server = Server()
    server.block()
    nursery.start_soon(place.mount(application), http_scope(), server.receive, server.send)
    await has_sent.wait()
    server.unblock()
    await server.wait_until(lambda: len(server.sent) == 5)
    assert server.body == b"abc"


async def test_two_tasks_may_wait_for_the_client(place: Place) -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(receive)
            tasks.start_soon(receive)
        for message in ANSWER:
            await send(message)

    server = Server(request(more_body=True), request())
    with trio.fail_after(WAIT_SECONDS):
        await place.mount(application)(http_scope(), server.receive, server.send)
    assert server.body == b"answer"


async def test_a_receive_that_is_given_up_loses_no_message(place: Place) -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        with anyio.CancelScope() as scope_of_receive:
            scope_of_receive.cancel()
            await receive()
        is_polled.set()
        await echo(scope, receive, send)

    is_polled = Signal()
    server = Server()

    async def ask() -> None:
        await is_polled.wait()
        server.put(request(b"the body"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await place.mount(application)(http_scope(), server.receive, server.send)
    assert server.body == b"the body"


async def test_messages_out_of_order_are_refused_where_they_are_sent(place: Place) -> None:
    refusals: list[str] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        for message in (response_body(), *ANSWER, response_body(), response_start()):
            try:
                await send(message)
            except UnexpectedMessageError as error:
                refusals.append(str(error))

    server = Server()
    await place.mount(application)(http_scope(), server.receive, server.send)
    assert server.sent == list(ANSWER)
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

    server = Server()
    with pytest.raises(ValueError, match="on purpose") as caught:
        await place.mount(application)(http_scope(), server.receive, server.send)
    assert caught.value is error
    assert server.sent == list(sent)


async def test_an_application_that_is_a_plain_function_is_refused(place: Place) -> None:
    def application(scope: Scope, receive: Receive, send: Send) -> None:
        return None

    for scope in (http_scope(), lifespan_scope()):
        with pytest.raises(NotAwaitableError, match="not an asynchronous function"):
            await place.mount(application)(scope, Server().receive, Server().send)  # type: ignore[arg-type]


async def test_an_error_in_the_server_ends_the_application_and_is_raised(place: Place) -> None:
    is_cancelled = Signal()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await send(response_start())
            await anyio.sleep_forever()
        finally:
            is_cancelled.set()

    async def send(message: Any) -> None:
        raise RuntimeError("a header that cannot be sent")

    with pytest.RaisesGroup(pytest.RaisesExc(RuntimeError, match="cannot be sent"), flatten_subgroups=True):
        await place.mount(application)(http_scope(), Server().receive, send)
    await is_cancelled.wait()


async def test_a_call_that_the_server_cancels_is_cancelled(place: Place, nursery: trio.Nursery) -> None:
    has_begun, is_cancelled = Signal(), Signal()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        has_begun.set()
        try:
            await anyio.sleep_forever()
        finally:
            is_cancelled.set()

    server = Server()
    nursery.start_soon(place.mount(application), http_scope(), server.receive, server.send)
    await has_begun.wait()
    nursery.cancel_scope.cancel()
    with trio.CancelScope(shield=True):
        await is_cancelled.wait()


async def test_a_lifespan_has_its_messages_in_order(place: Place) -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        for _ in range(2):
            message = await receive()
            await send({"type": f"{message['type']}.complete"})

    server = Server({"type": "lifespan.startup"}, {"type": "lifespan.shutdown"})
    await place.mount(application)(lifespan_scope(), server.receive, server.send)
    assert server.types == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


@pytest.mark.parametrize("error", [None, TypeError("no lifespan here")])
async def test_a_lifespan_that_asks_for_nothing_is_not_supported(place: Place, error: Exception | None) -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        if error is not None:
            raise error

    server = Server({"type": "lifespan.startup"})
    with pytest.raises(LifespanUnsupportedError) as caught:
        await place.mount(application)(lifespan_scope(), server.receive, server.send)
    assert caught.value.__cause__ is error


async def test_a_lifespan_that_fails_raises_its_error(place: Place) -> None:
    error = ValueError("no database")

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        raise error

    server = Server({"type": "lifespan.startup"})
    with pytest.raises(ValueError, match="no database") as caught:
        await place.mount(application)(lifespan_scope(), server.receive, server.send)
    assert caught.value is error
