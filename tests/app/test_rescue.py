"""Errors below the layer become one answer and one log line."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

import pytest

from sage_edge.app.asgi import ASGIApplication, Receive, Scope, Send
from sage_edge.app.exchange import EXCHANGE
from sage_edge.app.rescue import RescueLayer
from sage_edge.core.exchange import Message
from tests.app.applications import answer
from tests.app.conftest import Place
from tests.kit.asgi_calls import (
    ANSWER,
    HTTP_DISCONNECT,
    WEBSOCKET_DISCONNECT,
    Server,
    http_scope,
    lifespan_scope,
    request,
    response_body,
    response_start,
    websocket_scope,
)
from tests.kit.exchange import UNSENDABLE, RecordingExchange

Logs = list[MutableMapping[str, Any]]
ERROR = ValueError("on purpose, with a secret")


def sending(*messages: Message, error: BaseException | None = ERROR, reads: int = 0) -> ASGIApplication:
    """An application that reads and sends so much, and then raises or returns."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        for _ in range(reads):
            await receive()
        for message in messages:
            await send(message)
        if error is not None:
            raise error

    return application


async def call(application: ASGIApplication, scope: Scope | None = None, *messages: Message) -> RecordingExchange:
    exchange = RecordingExchange(*messages, scope=scope or http_scope("/v1/chat"))
    await exchange.run(RescueLayer(application))
    return exchange


async def test_an_error_before_the_answer_becomes_a_500_that_tells_nothing_of_it(logs: Logs) -> None:
    exchange = await call(sending())
    assert exchange.status == 500
    assert exchange.json == {
        "error": {
            "message": "The gateway failed to answer this request.",
            "type": "internal_server_error",
            "code": 500,
        }
    }
    assert logs == [{"event": "request failed", "path": "/v1/chat", "exc_info": ERROR, "log_level": "error"}]


async def test_a_path_of_a_clients_choice_makes_no_line_long(logs: Logs) -> None:
    for error in (ERROR, None):
        await call(sending(error=error), http_scope("/" + "p" * 20_000))
    assert [entry["path"] for entry in logs] == ["/" + "p" * 1023 + "…"] * 2


@pytest.mark.parametrize(
    "sent",
    [ANSWER[:1], [response_start(), response_body(b"half", more_body=True)]],
    ids=["after the start", "amid the body"],
)
async def test_an_error_after_the_start_adds_nothing_to_the_answer(sent: list[Message], logs: Logs) -> None:
    exchange = await call(sending(*sent))
    assert exchange.sent == list(sent)
    assert [entry["event"] for entry in logs] == ["request failed"]


async def test_an_error_in_background_work_is_logged(logs: Logs) -> None:
    exchange = await call(sending(*ANSWER))
    assert exchange.sent == list(ANSWER)
    assert [entry["exc_info"] for entry in logs] == [ERROR]


async def test_an_application_that_returns_without_an_answer_has_failed(logs: Logs) -> None:
    exchange = await call(sending(error=None))
    assert exchange.status == 500
    assert [(entry["event"], entry["reason"]) for entry in logs] == [
        ("request failed", "the gateway returned without an answer")
    ]


@pytest.mark.parametrize(
    ("scope", "disconnect"), [(http_scope(), HTTP_DISCONNECT), (websocket_scope(), WEBSOCKET_DISCONNECT)]
)
async def test_an_application_may_return_without_an_answer_once_its_client_has_gone(
    scope: Scope, disconnect: Message, logs: Logs
) -> None:
    exchange = await call(sending(error=None, reads=1), scope, disconnect)
    assert exchange.sent == []
    assert logs == []


async def test_an_error_once_the_client_has_gone_is_logged_for_debugging_only(logs: Logs) -> None:
    exchange = await call(sending(response_start(), reads=1, error=None), None, HTTP_DISCONNECT)
    assert exchange.sent == []
    assert logs == [
        {
            "event": "request ended after its client left",
            "error": "ClientDisconnectedError('the client disconnected')",
            "log_level": "debug",
        }
    ]


async def test_an_error_in_background_work_is_logged_although_the_client_has_gone(logs: Logs) -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await answer(scope, receive, send)
        scope[EXCHANGE].put(HTTP_DISCONNECT)
        raise ERROR

    assert (await call(application)).sent == list(ANSWER)
    assert [entry["exc_info"] for entry in logs] == [ERROR]


async def test_an_error_after_the_client_took_an_empty_answer_of_announced_length_is_logged(logs: Logs) -> None:
    start = response_start(headers=[(b"content-length", b"0")])

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start)
        scope[EXCHANGE].put(HTTP_DISCONNECT)
        raise ERROR

    assert (await call(application)).sent == [start]
    assert [entry["exc_info"] for entry in logs] == [ERROR]


async def test_an_answer_that_cannot_be_sent_becomes_a_500(place: Place, logs: Logs) -> None:
    exchange = RecordingExchange()
    await exchange.run(RescueLayer(place.mount(sending(UNSENDABLE, error=None))))
    assert exchange.status == 500
    assert exchange.progress.is_complete
    assert [repr(entry["exc_info"]) for entry in logs] == ["ValueError('a header that cannot be sent')"]


async def test_reading_a_body_is_not_taken_for_a_client_that_has_gone() -> None:
    assert (await call(sending(error=None, reads=1), None, request())).status == 500


async def test_an_answer_in_full_passes_unchanged(logs: Logs) -> None:
    assert (await call(answer)).sent == list(ANSWER)
    assert logs == []


@pytest.mark.parametrize("sent", [[response_start()], [response_start(), response_body(b"half", more_body=True)]])
async def test_an_answer_cut_short_by_a_return_is_left_to_the_server_and_told(sent: list[Message], logs: Logs) -> None:
    exchange = await call(sending(*sent, error=None))
    assert exchange.sent == sent
    assert [(entry["event"], entry["reason"]) for entry in logs] == [
        ("request failed", "the gateway returned before its answer was complete")
    ]


async def test_an_answer_that_is_delivered_without_its_end_has_not_failed(logs: Logs) -> None:
    await call(sending(response_start(headers=[(b"content-length", b"0")]), error=None))
    assert logs == []


async def test_a_websocket_may_be_left_by_a_return(logs: Logs) -> None:
    await call(sending({"type": "websocket.accept"}, error=None), websocket_scope())
    assert logs == []


async def test_an_error_before_a_websocket_is_accepted_refuses_it() -> None:
    assert (await call(sending(), websocket_scope())).sent == [{"type": "websocket.close", "code": 1008}]


async def test_an_error_before_a_websocket_is_accepted_is_a_500_where_the_server_can_send_one() -> None:
    exchange = await call(sending(), websocket_scope(extensions={"websocket.http.response": {}}))
    assert exchange.status == 500
    assert exchange.types == ["websocket.http.response.start", "websocket.http.response.body"]


async def test_an_error_in_a_websocket_is_left_to_the_server_to_close(logs: Logs) -> None:
    exchange = await call(sending({"type": "websocket.accept"}), websocket_scope())
    assert exchange.types == ["websocket.accept"]
    assert len(logs) == 1


async def test_messages_out_of_order_are_an_error_of_the_request() -> None:
    assert (await call(sending(response_body(), error=None))).status == 500


async def test_a_lifespan_is_let_through_unguarded() -> None:
    with pytest.raises(ValueError, match="on purpose"):
        await RescueLayer(sending())(lifespan_scope(), Server().receive, Server().send)
