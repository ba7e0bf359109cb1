"""An application on trio, in the edge's own loop."""

from __future__ import annotations

import contextvars

import pytest
import trio
import trio.lowlevel

from sage_edge.app.asgi import ASGIApplication, Receive, Scope, Send
from sage_edge.app.exchange import MESSAGES_A_TURN
from sage_edge.app.native import NativeApplication
from tests.kit.asgi_calls import ANSWER, HTTP_DISCONNECT, Server, http_scope, response_body, response_start
from tests.kit.exchange import UNSENDABLE, RecordingExchange

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")


async def call(application: ASGIApplication, exchange: RecordingExchange, grace_seconds: float = 1.0) -> None:
    await exchange.run(NativeApplication(application), grace_seconds=grace_seconds)


async def leave(exchange: RecordingExchange) -> None:
    """Let the client leave once the application has begun."""
    await trio.testing.wait_all_tasks_blocked()
    exchange.put(HTTP_DISCONNECT)


async def test_the_application_sees_the_callers_context_variables() -> None:
    seen: list[str] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(variable.get())

    variable.set("of the caller")
    await call(application, RecordingExchange())
    assert seen == ["of the caller"]


async def test_an_application_that_sends_in_a_loop_and_never_waits_lets_others_run_and_can_be_cancelled() -> None:
    sent = 0

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal sent
        await send(response_start())
        for _ in range(10 * MESSAGES_A_TURN):
            await send(response_body(more_body=True))
            sent += 1

    async with trio.open_nursery() as calling:
        calling.start_soon(call, application, RecordingExchange())
        while not sent:
            await trio.lowlevel.checkpoint()
        calling.cancel_scope.cancel()
    assert sent < 2 * MESSAGES_A_TURN


async def test_the_grace_period_is_kept_to_the_second(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await trio.sleep_forever()

    exchange = RecordingExchange()
    began_at = trio.current_time()
    nursery.start_soon(leave, exchange)
    await call(application, exchange, grace_seconds=7.0)
    assert trio.current_time() - began_at == pytest.approx(7.0)


async def test_an_application_that_ends_within_the_grace_period_is_not_cancelled(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    steps: list[str] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await trio.sleep(6.9)
        steps.append("done")

    exchange = RecordingExchange()
    nursery.start_soon(leave, exchange)
    await call(application, exchange, grace_seconds=7.0)
    assert steps == ["done"]


async def test_background_work_may_go_on_for_hours(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    steps: list[str] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        for message in ANSWER:
            await send(message)
        await trio.sleep(7200)
        steps.append("worked")

    exchange = RecordingExchange()
    nursery.start_soon(leave, exchange)
    await call(application, exchange)
    assert steps == ["worked"]


async def test_a_caller_that_is_no_server_of_the_edge_is_called_as_it_is() -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        seen.extend([scope, receive, send])

    seen: list[object] = []
    server = Server()
    await NativeApplication(application)(http_scope(), server.receive, server.send)
    assert seen == [http_scope(), server.receive, server.send]


async def test_an_application_may_answer_otherwise_where_its_answer_could_not_be_sent() -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        with pytest.raises(ValueError, match="cannot be sent"):
            await send(UNSENDABLE)
        await send(response_start(500))

    exchange = RecordingExchange()
    await call(application, exchange)
    assert exchange.status == 500


async def test_systemexit_is_an_error_of_its_request() -> None:
    leaving = SystemExit("no licence")

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        raise leaving

    with pytest.raises(RuntimeError, match="no licence") as caught:
        await call(application, RecordingExchange())
    assert caught.value.__cause__ is leaving


async def test_systemexit_in_a_nursery_of_the_application_is_an_error_of_its_request() -> None:
    async def exit_here() -> None:
        raise SystemExit("no licence")

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(exit_here)
            await trio.sleep_forever()

    with pytest.raises(RuntimeError, match="no licence"):
        await call(application, RecordingExchange())


async def test_an_exception_group_of_the_application_arrives_as_the_same_object() -> None:
    group = ExceptionGroup("of a nursery", [ValueError("on purpose")])
    cause = KeyError("the reason")

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        raise group from cause

    with pytest.raises(ExceptionGroup) as caught:
        await call(application, RecordingExchange())
    assert caught.value is group
    assert caught.value.__cause__ is cause


async def test_a_keyboard_interrupt_is_let_through() -> None:
    # It is the terminal's, where no signal handler is installed, and not the application's.
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await call(application, RecordingExchange())


async def test_systemexit_beside_a_keyboard_interrupt_does_not_hide_it() -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        raise BaseExceptionGroup("of a nursery", [SystemExit(1), KeyboardInterrupt()])

    with pytest.RaisesGroup(SystemExit, KeyboardInterrupt):
        await call(application, RecordingExchange())


async def test_a_keyboard_interrupt_in_a_nursery_of_the_application_is_let_through_too() -> None:
    async def interrupt() -> None:
        raise KeyboardInterrupt

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(interrupt)

    with pytest.RaisesGroup(KeyboardInterrupt, flatten_subgroups=True):
        await call(application, RecordingExchange())
