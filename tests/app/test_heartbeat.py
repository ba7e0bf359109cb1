"""Silent event streams are kept alive, and nothing else is touched."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing

from sage_edge.app.heartbeat import HeartbeatLayer
from sage_edge.core.heartbeat import COMMENT
from sage_edge.server.http_exchange import HTTPExchange
from tests.kit.asgi_calls import http_scope, lifespan_scope, response_body, response_start
from tests.kit.carrier import RecordingCarrier

EVENT_STREAM = (b"content-type", b"text/event-stream; charset=utf-8")
EVENT = b"data: x\n\n"


@asynccontextmanager
async def beating(application: Any) -> AsyncIterator[HeartbeatLayer]:
    """The layer around an application, each ten seconds, in its lifespan."""
    has_ended = trio.Event()

    async def serve(scope: Any, receive: Any, send: Any) -> None:
        await (has_ended.wait() if scope["type"] == "lifespan" else application(scope, receive, send))

    layer = HeartbeatLayer(serve, seconds=10)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(layer, lifespan_scope(), trio.sleep_forever, trio.sleep_forever)
        yield layer
        has_ended.set()


async def call(application: Any, carrier: RecordingCarrier | None = None, **scope: Any) -> RecordingCarrier:
    """Have one request answered."""
    carrier = carrier or RecordingCarrier()
    exchange = HTTPExchange(http_scope(**scope), trio.Event, carrier)
    async with beating(application) as layer:
        await layer(exchange.scope, exchange.receive, exchange.send)
        exchange.end()
    return carrier


async def stream(scope: Any, receive: Any, send: Any, *pieces: bytes | float, headers: Any = (EVENT_STREAM,)) -> None:
    """Answer with bytes and seconds between them."""
    await send(response_start(headers=list(headers)))
    for piece in pieces:
        if isinstance(piece, bytes):
            await send(response_body(piece, more_body=True))
        else:
            await trio.sleep(piece)
    await send(response_body())


def streaming(*pieces: bytes | float, headers: Any = (EVENT_STREAM,)) -> Callable[..., Any]:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        await stream(scope, receive, send, *pieces, headers=headers)

    return application


async def test_a_silent_stream_gets_a_comment_now_and_then(autojump_clock: trio.testing.MockClock) -> None:
    carrier = await call(streaming(EVENT, 35.0, EVENT, 5.0))
    assert carrier.pieces == [EVENT, *[COMMENT] * 3, EVENT, b""]


async def test_a_stream_that_has_not_begun_gets_one(autojump_clock: trio.testing.MockClock) -> None:
    assert (await call(streaming(15.0, EVENT))).pieces == [COMMENT, EVENT, b""]


async def test_one_that_speaks_in_time_gets_none(autojump_clock: trio.testing.MockClock) -> None:
    assert (await call(streaming(*[EVENT, 9.0] * 9))).pieces == [*[EVENT] * 9, b""]


async def test_an_event_is_never_broken(autojump_clock: trio.testing.MockClock) -> None:
    assert (await call(streaming(b"data: ", 60.0, b"x\n\n"))).pieces == [b"data: ", b"x\n\n", b""]


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"content-type", b"application/json")],
        [EVENT_STREAM, (b"content-encoding", b"gzip")],
        [EVENT_STREAM, (b"content-length", b"18")],
    ],
    ids=["no type", "json", "compressed", "of known length"],
)
async def test_no_other_answer_is_touched(headers: Any, autojump_clock: trio.testing.MockClock) -> None:
    assert (await call(streaming(EVENT, 60.0, EVENT, headers=headers))).pieces == [EVENT, EVENT, b""]


async def test_the_answer_to_head_has_none(autojump_clock: trio.testing.MockClock) -> None:
    assert (await call(streaming(60.0), method="HEAD")).pieces == []


async def test_a_client_that_is_behind_gets_none(autojump_clock: trio.testing.MockClock) -> None:
    carrier = RecordingCarrier()
    exchange = HTTPExchange(http_scope(), trio.Event, carrier)
    async with beating(streaming(EVENT, 60.0)) as layer:
        exchange.note_waiting(1)
        await layer(exchange.scope, exchange.receive, exchange.send)
    assert carrier.pieces == [EVENT, b""]


async def test_none_is_sent_once_the_client_has_gone(autojump_clock: trio.testing.MockClock) -> None:
    carrier = RecordingCarrier()
    exchange = HTTPExchange(http_scope(), trio.Event, carrier)

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await send(response_start(headers=[EVENT_STREAM]))
        exchange.lose_client()
        await trio.sleep(60)

    async with beating(application) as layer:
        await layer(exchange.scope, exchange.receive, exchange.send)
    assert carrier.pieces == []


async def test_it_counts_as_sent_and_not_as_an_event(autojump_clock: trio.testing.MockClock) -> None:
    carrier = RecordingCarrier()
    exchange = carrier.exchange = HTTPExchange(http_scope(), trio.Event, carrier)
    async with beating(streaming(EVENT, 15.0)) as layer:
        await layer(exchange.scope, exchange.receive, exchange.send)
    assert exchange.sent_bytes == len(EVENT + COMMENT)
    assert exchange.timeline.events == 1


async def test_an_error_of_the_application_passes_through() -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        raise LookupError

    exchange = HTTPExchange(http_scope(), trio.Event, RecordingCarrier())
    with pytest.raises(LookupError):
        await partial(HeartbeatLayer, seconds=1)(application)(exchange.scope, exchange.receive, exchange.send)


async def test_a_stream_that_cannot_be_written_to_costs_the_others_nothing(
    autojump_clock: trio.testing.MockClock,
) -> None:
    class Faulty(RecordingCarrier):
        def write(self, data: bytes, *, is_last: bool) -> None:
            if data == COMMENT:
                raise RuntimeError("on purpose")
            super().write(data, is_last=is_last)

    carriers = [Faulty(), RecordingCarrier()]
    exchanges = [HTTPExchange(http_scope(), trio.Event, carrier) for carrier in carriers]
    async with beating(streaming(EVENT, 35.0, EVENT)) as layer, trio.open_nursery() as calling:
        for exchange in exchanges:
            calling.start_soon(layer, exchange.scope, exchange.receive, exchange.send)
    assert carriers[0].pieces == [EVENT, EVENT, b""]
    assert carriers[1].pieces == [EVENT, *[COMMENT] * 3, EVENT, b""]


async def test_nothing_follows_the_end_of_a_body_whose_trailers_are_to_come(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        await send({**response_start(headers=[EVENT_STREAM]), "trailers": True})
        await send(response_body(EVENT))
        await trio.sleep(60)
        await send({"type": "http.response.trailers", "headers": []})

    assert (await call(application)).pieces == [EVENT]
