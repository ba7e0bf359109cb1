"""What an application sends that is no `bytes`, the same in the edge's loop and in a gateway's thread."""

from __future__ import annotations

from array import array
from typing import Any

import pytest
import trio

from sage_edge.app.asgi import Receive, Scope, Send
from sage_edge.core.exchange import Message
from tests.app.conftest import Place
from tests.kit.asgi_calls import WAIT_SECONDS, response_body, response_start, websocket_scope
from tests.kit.exchange import RecordingExchange

CONNECT: Message = {"type": "websocket.connect"}
NO_BYTES = ["text", [1, 2], None, 5]
WORDS = array("I", [1, 2, 3])


async def call(place: Place, application: Any, exchange: RecordingExchange) -> None:
    with trio.fail_after(WAIT_SECONDS):
        await exchange.run(place.mount(application))


def body(data: Any, *, more_body: bool = False) -> Message:
    return {"type": "http.response.body", "body": data, "more_body": more_body}


async def test_a_buffer_that_is_filled_anew_is_sent_as_it_was(place: Place) -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send(response_start())
        buffer = bytearray(1000)
        for letter in b"abcd":
            buffer[:] = bytes([letter]) * 1000
            await send(body(buffer, more_body=True))
            await send(body(memoryview(buffer), more_body=True))
        buffer[:] = bytes(1000)
        await send(response_body())

    exchange = RecordingExchange()
    await call(place, application, exchange)
    assert exchange.body == b"".join(bytes([letter]) * 2000 for letter in b"abcd")


async def test_a_view_is_as_long_as_its_bytes_and_not_as_its_items(place: Place) -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send(response_start(headers=[(b"content-length", b"%d" % len(WORDS.tobytes()))]))
        await send(body(memoryview(WORDS)))

    exchange = RecordingExchange()
    await call(place, application, exchange)
    assert exchange.body == WORDS.tobytes()
    assert exchange.sent_bytes == len(exchange.body)
    assert exchange.progress.missing_bytes == 0


@pytest.mark.parametrize("data", NO_BYTES, ids=repr)
async def test_a_body_that_is_no_bytes_is_refused_where_it_is_sent(place: Place, data: Any) -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send(response_start())
        with pytest.raises(TypeError, match="where bytes belong"):
            await send(body(data))
        await send(body(b"as it should be"))

    exchange = RecordingExchange()
    await call(place, application, exchange)
    assert exchange.body == b"as it should be"
    assert (exchange.progress.is_complete, exchange.is_cut) == (True, False)


@pytest.mark.parametrize("data", NO_BYTES, ids=repr)
async def test_an_answer_with_a_body_that_is_no_bytes_is_cut(place: Place, data: Any) -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send(response_start())
        await send(body(data))

    exchange = RecordingExchange()
    with pytest.raises(TypeError, match="where bytes belong"):
        await call(place, application, exchange)
    assert exchange.is_cut
    assert exchange.ending == "error"


async def test_headers_may_be_any_iterable_and_are_sent_as_they_were(place: Place) -> None:
    fields = [(b"content-length", b"2"), (b"x-a", b"1")]
    given = [[name, value] for name, value in fields]

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/iterator":
            await send(response_start(headers=iter(fields)))
        elif scope["path"] == "/with a body":  # which no message of this type has
            await send({**response_start(headers=iter(fields)), "body": b""})
        else:
            await send(response_start(headers=given))
            given[0][1] = b"999"
            given.clear()
        await send(body(b"ok"))

    for path in ("/iterator", "/with a body", "/changed"):
        exchange = RecordingExchange(scope={**RecordingExchange().scope, "path": path})
        await call(place, application, exchange)
        assert exchange.sent[0]["headers"] == fields
        assert exchange.progress.is_delivered


async def test_trailers_may_be_any_iterable(place: Place) -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send(response_start(trailers=True))
        await send(body(b"ok"))
        await send({"type": "http.response.trailers", "headers": iter([(b"a", b"1")])})

    exchange = RecordingExchange()
    await call(place, application, exchange)
    assert exchange.sent[-1]["headers"] == [(b"a", b"1")]


async def test_messages_of_a_websocket_are_bytes_or_text(place: Place) -> None:
    refused: list[Any] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept", "headers": iter([(b"x-a", b"1")])})
        for payload in ({"bytes": [1]}, {"bytes": "text"}, {"text": b"bytes"}):
            with pytest.raises(TypeError):
                await send({"type": "websocket.send", **payload})
            refused.append(payload)
        buffer = bytearray(b"abc")
        await send({"type": "websocket.send", "bytes": buffer})
        buffer[:] = b"xyz"
        await send({"type": "websocket.send", "text": "done"})

    exchange = RecordingExchange(CONNECT, scope=websocket_scope())
    await call(place, application, exchange)
    assert len(refused) == 3
    assert exchange.sent == [
        {"type": "websocket.accept", "headers": [(b"x-a", b"1")]},
        {"type": "websocket.send", "bytes": b"abc"},
        {"type": "websocket.send", "text": "done"},
    ]
