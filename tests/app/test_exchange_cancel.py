"""Cancel-through: what an application meets when its client goes away, in both places."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

import anyio
import pytest
import trio
import trio.testing

from sage_edge.app import exchange
from sage_edge.app.asgi import Receive, Scope, Send
from sage_edge.app.exchange import ApplicationHalf, ServerHalf
from sage_edge.core.exchange import WINDOW_BYTES, ClientDisconnectedError
from tests.app.conftest import GRACE_SECONDS, Place
from tests.kit.asgi_calls import (
    ANSWER,
    HTTP_DISCONNECT,
    WAIT_SECONDS,
    Server,
    Signal,
    http_scope,
    large_body,
    request,
    response_body,
    response_start,
)

LONG_SECONDS = 600.0
"""A grace period that no test waits for."""


async def call(place: Place, application: Any, server: Server, scope: Scope, grace_seconds: float) -> None:
    with trio.fail_after(WAIT_SECONDS):
        await place.mount(application, grace_seconds=grace_seconds)(scope, server.receive, server.send)


async def test_a_disconnect_is_received_before_the_body_that_is_unread(place: Place, nursery: trio.Nursery) -> None:
    received: list[str] = []
    may_read = place.new_gate()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await may_read.wait()
        received.extend([(await receive())["type"] for _ in range(3)])

    server = Server(*large_body(WINDOW_BYTES // 2)[:-1], HTTP_DISCONNECT)
    with trio.fail_after(WAIT_SECONDS):
        async with trio.open_nursery() as calling:
            calling.start_soon(call, place, application, server, http_scope(), LONG_SECONDS)
            await place.settle()
            may_read.open()
    assert received == ["http.disconnect"] * 3, "it may be asked for any number of times"


async def test_a_receive_that_waits_is_given_the_disconnect(place: Place) -> None:
    received: list[str] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        received.append((await receive())["type"])

    await call(place, application, Server(HTTP_DISCONNECT), http_scope(), LONG_SECONDS)
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

    server = Server()
    async with trio.open_nursery() as calling:
        calling.start_soon(call, place, application, server, http_scope(), LONG_SECONDS)
        await server.wait_for(1)
        server.put(HTTP_DISCONNECT)
    assert [type(error) for error in errors] == [ClientDisconnectedError] * 2
    assert server.types == ["http.response.start"]


async def test_a_send_that_waits_for_the_client_raises_oserror_when_it_goes(place: Place) -> None:
    errors: list[Exception] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send(response_start())
        try:
            while True:
                await send(response_body(bytes(WINDOW_BYTES), more_body=True))
        except OSError as error:
            errors.append(error)

    server = Server()
    server.block()
    async with trio.open_nursery() as calling:
        calling.start_soon(call, place, application, server, http_scope(), LONG_SECONDS)
        await place.settle()
        server.put(HTTP_DISCONNECT)
        await place.settle()
        server.unblock()
    assert [type(error) for error in errors] == [ClientDisconnectedError]


async def test_what_was_not_sent_yet_is_dropped_when_the_client_goes(place: Place) -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send(response_start())
        for _ in range(10):
            await send(response_body(b"part", more_body=True))
        await receive()

    server = Server()
    server.block()
    async with trio.open_nursery() as calling:
        calling.start_soon(call, place, application, server, http_scope(), LONG_SECONDS)
        await place.settle()
        server.put(HTTP_DISCONNECT)
        await place.settle()
        server.unblock()
    assert server.types == ["http.response.start"], "which was on its way already"


async def test_an_application_that_goes_on_is_cancelled_after_the_grace_period(place: Place) -> None:
    lasted_seconds: list[float] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        left_at = anyio.current_time()
        try:
            await anyio.sleep_forever()
        finally:
            lasted_seconds.append(anyio.current_time() - left_at)

    await call(place, application, Server(HTTP_DISCONNECT), http_scope(), grace_seconds=0.1)
    assert len(lasted_seconds) == 1
    assert lasted_seconds[0] >= 0.09


async def test_an_application_that_does_not_read_its_large_body_is_cancelled_when_the_client_goes(
    place: Place,
) -> None:
    is_cancelled = Signal()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            is_cancelled.set()

    # The disconnect waits behind a body that the window keeps out, so the server tells of it in passing.
    client_gone = trio.Event()
    scope = http_scope(extensions={"sage_edge.client_gone": client_gone})
    server = Server(*large_body(4 * WINDOW_BYTES)[:-1], HTTP_DISCONNECT)
    async with trio.open_nursery() as calling:
        calling.start_soon(call, place, application, server, scope, GRACE_SECONDS)
        await place.settle()
        assert HTTP_DISCONNECT not in server.taken
        client_gone.set()
        with trio.move_on_after(2):
            await is_cancelled.wait()
        has_been_cancelled = is_cancelled.is_set
        calling.cancel_scope.cancel()
    assert has_been_cancelled


async def test_a_cancelled_application_may_clean_up_before_the_call_returns(place: Place) -> None:
    steps: list[str] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.05)
            steps.append("cleaned up")

    await call(place, application, Server(HTTP_DISCONNECT), http_scope(), GRACE_SECONDS)
    assert steps == ["cleaned up"]


@pytest.mark.parametrize("server", [Server, lambda *messages: Server(request(), *messages)], ids=["no body", "body"])
async def test_background_work_after_a_complete_answer_is_not_cancelled(
    place: Place, monkeypatch: pytest.MonkeyPatch, server: Any
) -> None:
    monkeypatch.setattr(exchange, "ABANDON_SECONDS", GRACE_SECONDS)
    may_end = place.new_gate()
    steps: list[str] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        for message in ANSWER:
            await send(message)
        await may_end.wait()
        steps.append("worked")

    server = server()
    async with trio.open_nursery() as calling:
        calling.start_soon(call, place, application, server, http_scope(), GRACE_SECONDS)
        await server.wait_for(len(ANSWER))
        server.put(HTTP_DISCONNECT)
        await trio.sleep(5 * GRACE_SECONDS)  # nothing is to happen, so there is no event to wait for
        assert steps == []
        may_end.open()
    assert steps == ["worked"]


async def test_an_error_in_background_work_is_raised_although_the_client_has_gone(place: Place) -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        for message in ANSWER:
            await send(message)
        await receive()
        raise ValueError("in the background")

    server = Server()
    with pytest.RaisesGroup(pytest.RaisesExc(ValueError, match="in the background")):
        async with trio.open_nursery() as calling:
            calling.start_soon(call, place, application, server, http_scope(), LONG_SECONDS)
            await server.wait_for(len(ANSWER))
            server.put(HTTP_DISCONNECT)


async def test_an_error_after_the_client_has_gone_is_logged_for_debugging_only(
    place: Place, logs: list[MutableMapping[str, Any]]
) -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(response_start())

    await call(place, application, Server(HTTP_DISCONNECT), http_scope(), LONG_SECONDS)
    assert [(entry["log_level"], entry["event"]) for entry in logs] == [
        ("debug", "request ended after its client left"),
    ]


async def test_a_cancellation_that_finds_the_answer_complete_does_nothing() -> None:
    # The posts of both halves, carried late, as those of a thread may be.
    posts: list[Any] = []
    cancelled: list[bool] = []

    def post(function: Any, *arguments: Any) -> None:
        posts.append((function, arguments))

    half = ApplicationHalf(post, trio.Event)
    server_half = ServerHalf(post, half, lambda: cancelled.append(True), grace_seconds=0)
    server = Server(HTTP_DISCONNECT)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server_half.pump, server.receive, server.send)
        await trio.testing.wait_all_tasks_blocked(0.01)
        for message in ANSWER:
            await half.send(message)
        half.end(None)
        assert len(posts) == 5, "the disconnect, the cancellation, two messages and the end"
        for function, arguments in posts:
            function(*arguments)
    server_half.raise_error("http")
    assert cancelled == []
