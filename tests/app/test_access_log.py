"""One log line for each request, whatever its ending."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from typing import Any

import pytest
import trio
import trio.testing

from sage_edge.app.access_log import AccessLogLayer
from sage_edge.app.asgi import ASGIApplication, Receive, Scope, Send
from sage_edge.app.exchange import EXCHANGE
from sage_edge.core.exchange import Message
from tests.app.applications import answer, echo
from tests.kit.asgi_calls import (
    ANSWER,
    HTTP_DISCONNECT,
    Server,
    http_scope,
    lifespan_scope,
    request,
    response_body,
    response_start,
    websocket_scope,
)
from tests.kit.exchange import RecordingExchange

Logs = list[MutableMapping[str, Any]]


async def call(application: ASGIApplication, scope: Scope | None = None, *messages: Message) -> RecordingExchange:
    exchange = RecordingExchange(*messages, scope=scope)
    await exchange.run(AccessLogLayer(application))
    return exchange


async def test_a_request_is_one_line_with_these_fields(logs: Logs) -> None:
    scope = http_scope(
        "/v1/é",
        raw_path=b"/v1/%C3%A9",
        query_string=b"api_key=secret",
        method="POST",
        headers=[(b"x-secret", b"secret")],
    )
    exchange = RecordingExchange(request(b"secret ", more_body=True), request(b"too"), scope=scope)
    exchange.mount, exchange.request_id, exchange.connection_id, exchange.stream_id = "/v1", "an id", 7, 3
    await exchange.run(AccessLogLayer(echo))
    assert exchange.body == b"secret too"
    assert len(logs) == 1
    duration_ms = logs[0].pop("duration_ms")
    assert 0 <= duration_ms < 10_000
    assert logs == [
        {
            "event": "request",
            "log_level": "info",
            "client": "192.0.2.1",
            "protocol": "HTTP/2",
            "method": "POST",
            "path": "/v1/%C3%A9",
            "mount": "/v1",
            "status": 200,
            "received_bytes": 10,
            "sent_bytes": 10,
            "ending": "complete",
            "request_id": "an id",
            "connection": 7,
            "stream": 3,
        }
    ]


async def test_a_head_request_sends_no_bytes(logs: Logs) -> None:
    await call(answer, http_scope(method="HEAD"))
    assert (logs[0]["sent_bytes"], logs[0]["status"]) == (0, 200)


@pytest.mark.parametrize("client", [None, ()], ids=repr)
async def test_a_client_without_an_address_is_a_dash(client: Any, logs: Logs) -> None:
    # As it is on a UNIX socket.
    await call(answer, http_scope(client=client))
    assert logs[0]["client"] == "-"


async def test_the_line_is_written_when_the_answer_is_complete_not_when_background_work_is(
    nursery: trio.Nursery, logs: Logs
) -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await answer(scope, receive, send)
        await trio.sleep_forever()

    exchange = RecordingExchange()
    nursery.start_soon(exchange.run, AccessLogLayer(application))
    await exchange.wait_for(2)
    await trio.testing.wait_all_tasks_blocked()
    assert [entry["ending"] for entry in logs] == ["complete"]
    nursery.cancel_scope.cancel()


async def test_the_duration_is_that_of_the_whole_answer(logs: Logs) -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send(response_start())
        await trio.sleep(0.02)  # by the clock on the wall, as the duration is
        await send(response_body())

    await call(application)
    assert 20 <= logs[0]["duration_ms"] < 5000


async def test_first_byte_and_event_are_told_from_the_end_of_the_request(logs: Logs) -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        timeline = scope[EXCHANGE].timeline
        timeline.began_at -= 600  # its body took that long
        timeline.note_start(is_event_stream=True)
        timeline.note_event()
        await answer(scope, receive, send)

    await call(application)
    assert 0 <= logs[0]["first_byte_ms"] <= logs[0]["first_event_ms"] < 600_000 <= logs[0]["duration_ms"]


async def test_what_waited_when_the_answer_was_cut_was_not_sent(logs: Logs) -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        scope[EXCHANGE].block()
        await send(response_start())
        await send(response_body(b"six...", more_body=True))
        scope[EXCHANGE].lose_client()

    await call(application)
    assert (logs[0]["sent_bytes"], logs[0]["ending"]) == (0, "client left")


def ending(*messages: Message, reads: int = 0, leaves: bool = False, error: Exception | None = None) -> ASGIApplication:
    """An application that reads, sends, sees its client leave, and then raises or returns."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        for _ in range(reads):
            await receive()
        for message in messages:
            await send(message)
        if leaves:
            scope[EXCHANGE].lose_client()
        if error is not None:
            raise error

    return application


HALF = [response_start(201), response_body(b"half", more_body=True)]
ANNOUNCED = [response_start(headers=[(b"content-length", b"3")]), response_body(b"all", more_body=True)]
ACCEPT, CLOSE = {"type": "websocket.accept"}, {"type": "websocket.close"}

ENDINGS: dict[str, tuple[Callable[..., Scope], list[Message], ASGIApplication, str, Any, int]] = {
    "answered": (http_scope, [], ending(*ANSWER), "complete", 200, 6),
    "answered with trailers": (
        http_scope,
        [],
        ending(response_start(trailers=True), response_body(b"a"), {"type": "http.response.trailers", "headers": []}),
        "complete",
        200,
        1,
    ),
    "no answer": (http_scope, [], ending(), "error", "-", 0),
    "cut short": (http_scope, [], ending(*HALF), "error", 201, 4),
    "left before the answer": (http_scope, [HTTP_DISCONNECT], ending(reads=1), "client left", "-", 0),
    "left amid the answer": (http_scope, [], ending(*HALF, leaves=True), "client left", 201, 4),
    "left after the answer": (http_scope, [], ending(*ANSWER, leaves=True), "complete", 200, 6),
    "left after all that was announced": (http_scope, [], ending(*ANNOUNCED, leaves=True), "complete", 200, 3),
    "cut short after all that was announced": (http_scope, [], ending(*ANNOUNCED), "complete", 200, 3),
    "websocket closed": (websocket_scope, [], ending(ACCEPT, CLOSE), "complete", 101, 0),
    "websocket left": (websocket_scope, [], ending(ACCEPT, leaves=True), "client left", 101, 0),
    "websocket refused": (websocket_scope, [], ending(CLOSE), "complete", 403, 0),
    "websocket refused with an answer": (
        websocket_scope,
        [],
        ending(
            {"type": "websocket.http.response.start", "status": 404},
            {"type": "websocket.http.response.body", "body": b"no"},
        ),
        "complete",
        404,
        2,
    ),
}


@pytest.mark.parametrize("case", ENDINGS)
async def test_every_ending_is_one_line(case: str, logs: Logs) -> None:
    new_scope, messages, application, how, status, sent_bytes = ENDINGS[case]
    await call(application, new_scope(), *messages)
    assert [(entry["ending"], entry["status"], entry["sent_bytes"]) for entry in logs] == [(how, status, sent_bytes)]


async def test_an_error_is_one_line_and_goes_on(logs: Logs) -> None:
    with pytest.raises(ValueError, match="on purpose"):
        await call(ending(*HALF, error=ValueError("on purpose")))
    assert [(entry["ending"], entry["status"]) for entry in logs] == [("error", 201)]


async def test_a_cancelled_request_is_one_line(logs: Logs) -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send(response_start())
        await trio.sleep_forever()

    exchange = RecordingExchange()
    async with trio.open_nursery() as calling:
        calling.start_soon(exchange.run, AccessLogLayer(application))
        await exchange.wait_for(1)
        calling.cancel_scope.cancel()
    assert [(entry["ending"], entry["status"]) for entry in logs] == [("error", 200)]


async def test_the_bytes_of_a_websockets_messages_are_counted(logs: Logs) -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send(ACCEPT)
        for _ in range(2):
            await receive()
        await send({"type": "websocket.send", "text": "12", "bytes": None})
        await send({"type": "websocket.send", "bytes": b"123"})
        await send(CLOSE)

    messages = [{"type": "websocket.receive", "text": "123456"}, {"type": "websocket.receive", "bytes": b"1"}]
    await call(application, websocket_scope("/live"), *messages)
    assert (logs[0]["method"], logs[0]["path"]) == ("WEBSOCKET", "/live")
    assert (logs[0]["received_bytes"], logs[0]["sent_bytes"]) == (7, 5)


async def test_a_method_that_is_spelled_as_one_is_no_websocket(logs: Logs) -> None:
    await call(answer, http_scope(method="WEBSOCKET"))
    assert logs[0]["method"] == "other"


async def test_a_method_of_a_clients_choice_makes_no_line_long(logs: Logs) -> None:
    await call(answer, http_scope(method="M" * 20_000))
    assert logs[0]["method"] == "M" * 1024 + "…"


async def test_a_lifespan_is_no_request(logs: Logs) -> None:
    server = Server()
    await AccessLogLayer(ending({"type": "lifespan.startup.complete"}))(lifespan_scope(), server.receive, server.send)
    assert server.types == ["lifespan.startup.complete"]
    assert logs == []
