"""Bridged calls by callers that are no server of the edge, as lifespans are called: by a plain `receive` and `send`."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from sage_edge.app.asgi import Receive, Scope, Send
from sage_edge.app.called import CalledExchange
from sage_edge.app.exchange import EXCHANGE, HIGH_WATER_BYTES
from sage_edge.core.exchange import (
    MESSAGE_COST_BYTES,
    WINDOW_BYTES,
    ClientDisconnectedError,
    LifespanUnsupportedError,
    Message,
    UnexpectedMessageError,
)
from tests.app.applications import echo
from tests.app.conftest import Place
from tests.kit.asgi_calls import (
    ANSWER,
    BODY_PART_BYTES,
    HTTP_DISCONNECT,
    WAIT_SECONDS,
    Server,
    Signal,
    http_scope,
    large_body,
    lifespan_scope,
    request,
    response_body,
    response_start,
)

STARTUP: Message = {"type": "lifespan.startup"}
SHUTDOWN: Message = {"type": "lifespan.shutdown"}


async def call(place: Place, application: Any, server: Server, scope: Scope | None = None) -> None:
    with trio.fail_after(WAIT_SECONDS):
        await place.mount(application)(scope or http_scope(), server.receive, server.send)


async def test_bodies_go_both_ways_whole_and_in_order(place: Place) -> None:
    parts = [request(b"%d," % number, more_body=number < 2000) for number in range(2001)]
    server = Server(*parts)
    await call(place, echo, server)
    assert server.body == b"".join(part["body"] for part in parts)
    assert server.types == ["http.response.start", *["http.response.body"] * 2001]


async def test_large_bodies_go_both_ways(bridged: Place) -> None:
    parts = large_body(10 * WINDOW_BYTES)
    server = Server(*parts)
    await call(bridged, echo, server)
    assert len(server.body) == 10 * WINDOW_BYTES


async def test_the_callers_scope_is_left_alone(place: Place) -> None:
    seen: list[Scope] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)

    scope = http_scope()
    await call(place, application, Server(), scope)
    assert seen == [scope] == [http_scope()]


async def test_a_lifespan_may_put_something_into_its_callers_state(place: Place) -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        scope["state"]["name"] = "a"

    scope = lifespan_scope()
    await call(place, application, Server(STARTUP), scope)
    assert scope["state"] == {"name": "a"}


async def test_the_call_returns_when_all_is_sent(bridged: Place) -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        for message in ANSWER:
            await send(message)
        has_sent.set()

    has_sent = Signal()
    server = Server()
    server.block()
    async with trio.open_nursery() as calling:
        calling.start_soon(call, bridged, application, server)
        await has_sent.wait()
        await bridged.settle()
        assert server.sent == []
        server.unblock()
    assert server.sent == list(ANSWER)


async def test_an_application_is_held_back_by_a_caller_that_waits(bridged: Place) -> None:
    begun = 0

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal begun
        await send(response_start())
        for _ in range(100):
            begun += 1
            await send(response_body(bytes(BODY_PART_BYTES), more_body=True))

    server = Server()
    server.block()
    async with trio.open_nursery() as calling:
        calling.start_soon(call, bridged, application, server)
        await bridged.settle()
        assert begun * BODY_PART_BYTES <= WINDOW_BYTES + HIGH_WATER_BYTES + BODY_PART_BYTES + MESSAGE_COST_BYTES
        server.unblock()
    assert len(server.body) == 100 * BODY_PART_BYTES


async def test_a_callers_client_that_leaves_is_told_of(bridged: Place) -> None:
    errors: list[Exception] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        try:
            await send(response_start())
        except OSError as error:
            errors.append(error)

    await call(bridged, application, Server(HTTP_DISCONNECT))
    assert [type(error) for error in errors] == [ClientDisconnectedError]


async def test_a_lifespan_has_its_messages_in_order(place: Place) -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        for _ in range(2):
            message = await receive()
            await send({"type": f"{message['type']}.complete"})

    server = Server(STARTUP, SHUTDOWN)
    await call(place, application, server, lifespan_scope())
    assert server.types == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


@pytest.mark.parametrize("error", [None, TypeError("no lifespan here")], ids=repr)
async def test_a_lifespan_that_asks_for_nothing_is_not_supported(place: Place, error: Exception | None) -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        if error is not None:
            raise error

    with pytest.raises(LifespanUnsupportedError) as caught:
        await call(place, application, Server(STARTUP), lifespan_scope())
    assert caught.value.__cause__ is error


async def test_a_lifespan_that_fails_raises_its_error(place: Place) -> None:
    error = ValueError("no database")

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        raise error

    with pytest.raises(ValueError, match="no database") as caught:
        await call(place, application, Server(STARTUP), lifespan_scope())
    assert caught.value is error


async def test_a_lifespan_says_why_it_fails_before_it_raises(place: Place) -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})
        raise ValueError("no database")

    server = Server(STARTUP)
    with pytest.raises(ValueError, match="no database"):
        await call(place, application, server, lifespan_scope())
    assert server.types == ["lifespan.startup.failed"]


async def test_an_error_of_the_callers_send_ends_the_application_and_is_raised(place: Place) -> None:
    is_over = Signal()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await send(response_start())
            await receive()
        finally:
            is_over.set()

    async def send(message: Message) -> None:
        raise RuntimeError("a header that cannot be sent")

    with (
        pytest.RaisesGroup(
            pytest.RaisesExc(RuntimeError, match="cannot be sent"), flatten_subgroups=True, allow_unwrapped=True
        ),
        trio.fail_after(WAIT_SECONDS),
    ):
        await place.mount(application)(http_scope(), Server().receive, send)
    await is_over.wait()


async def test_an_error_of_the_callers_receive_ends_the_application_and_is_raised(place: Place) -> None:
    has_begun, is_over = Signal(), Signal()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        has_begun.set()
        try:
            await receive()
        finally:
            is_over.set()

    async def receive() -> Message:
        await has_begun.wait()
        raise RuntimeError("a socket that is broken")

    with (
        pytest.RaisesGroup(
            pytest.RaisesExc(RuntimeError, match="that is broken"), flatten_subgroups=True, allow_unwrapped=True
        ),
        trio.fail_after(WAIT_SECONDS),
    ):
        await place.mount(application)(http_scope(), receive, Server().send)
    await is_over.wait()


async def test_a_call_that_its_caller_cancels_is_cancelled(place: Place, nursery: trio.Nursery) -> None:
    has_begun, is_cancelled = Signal(), Signal()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        has_begun.set()
        try:
            await receive()
        finally:
            is_cancelled.set()

    nursery.start_soon(call, place, application, Server())
    await has_begun.wait()
    nursery.cancel_scope.cancel()
    with trio.CancelScope(shield=True):
        await is_cancelled.wait()


async def test_it_is_an_exchange_like_a_servers() -> None:
    server, scope = Server(), http_scope()
    async with CalledExchange.open(scope, server.receive, server.send) as exchange:
        assert exchange.scope == {**scope, EXCHANGE: exchange}
        exchange.deliver_body(b"a", is_last=False)
        exchange.deliver_body(b"b", is_last=True)
        assert [await exchange.receive() for _ in range(2)] == [request(b"a", more_body=True), request(b"b")]
        with pytest.raises(UnexpectedMessageError):
            exchange.write(response_body())
        for message in ANSWER:
            await exchange.send(message)
        exchange.end()
    assert server.sent == list(ANSWER)
