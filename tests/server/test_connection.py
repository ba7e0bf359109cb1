"""Connections in a worker, by trio's clock: faults of the edge's own, and how long what still comes is discarded."""

from __future__ import annotations

import itertools
import socket
from collections.abc import AsyncIterator, Iterator, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing

from sage_edge.app.asgi import ASGIApplication, Receive, Scope, Send
from sage_edge.core.metric_families import Metrics
from sage_edge.server import connection
from sage_edge.server.connection import LINGER_SECONDS
from sage_edge.server.drain import Drain
from sage_edge.server.fairness import MOST_READ_BYTES, Share
from sage_edge.server.http1.connection import HTTP1Connection
from sage_edge.server.transport import UNSENT_LIMIT_BYTES, Plaintext
from sage_edge.server.worker import serve
from tests.kit.captured_logs import captured_logs
from tests.kit.http2_frames import PREFACE, get_fields, headers_frame, plain_block, settings_frame
from tests.kit.protocol_host import default_limits
from tests.kit.websocket_session import frame

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n"
WEBSOCKET = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
LONG_SECONDS = 600.0


async def answer(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer without a look at the body."""
    status = 413 if scope["method"] == "POST" else 200
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


@asynccontextmanager
async def serving(application: ASGIApplication = answer, **limits: Any) -> AsyncIterator[int]:
    """A worker that serves; its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        async with trio.open_nursery() as nursery:
            started = trio.Event()
            started.set()
            drain = Drain(delay_seconds=0, limit_seconds=0)
            settings = default_limits(**limits)
            nursery.start_soon(
                lambda: serve(
                    application, [listener], None, limits=settings, started=started, drain=drain, metrics=Metrics()
                )
            )
            yield listener.getsockname()[1]
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[trio.SocketStream]:
    """A client."""
    with trio.fail_after(LONG_SECONDS):
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            yield stream


async def read_to_the_end(stream: trio.SocketStream) -> bytes:
    data = b""
    async for piece in stream:
        data += piece
    return data


@pytest.fixture
def logs() -> Iterator[list[MutableMapping[str, Any]]]:
    """What is logged, with the number of the connection that it is logged for."""
    with captured_logs(has_context=True) as entries:
        yield entries


@pytest.fixture
def clock() -> trio.testing.MockClock:
    """Jumps only once nothing has been under way for a moment, in which what was sent arrives."""
    return trio.testing.MockClock(autojump_threshold=0.05)


@pytest.mark.parametrize("failing", ["take_output", "check_time"])
async def test_a_fault_of_the_edge_ends_its_connection_alone_and_is_logged_as_its_own(
    clock: trio.testing.MockClock,
    logs: list[MutableMapping[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    failing: str,
) -> None:
    error = RuntimeError("on purpose")

    def fail(*_: object) -> None:
        monkeypatch.undo()
        raise error

    async with serving() as port, connected(port) as first, connected(port) as second:
        for each in (first, second):
            await each.send_all(GET)
            assert await each.receive_some()
        monkeypatch.setattr(HTTP1Connection, failing, fail)
        if failing == "take_output":
            await first.send_all(GET)
        ended = []

        async def read(stream: trio.SocketStream) -> None:
            await read_to_the_end(stream)
            ended.append(stream)
            nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read, first)
            nursery.start_soon(read, second)
        (failed,) = ended
        other = second if failed is first else first
        await other.send_all(GET)
        assert (await other.receive_some()).endswith(b"ok")
    lines = [line for line in logs if line["event"] == "connection failed"]
    assert [(line["log_level"], line["exc_info"]) for line in lines] == [("error", error)]
    assert isinstance(lines[0]["connection"], int)


async def test_who_uploads_slowly_and_reads_only_then_finds_the_early_answer(clock: trio.testing.MockClock) -> None:
    async with serving() as port, connected(port) as stream:
        await stream.send_all(POST)
        for _ in range(5):
            await trio.sleep(LINGER_SECONDS * 0.9)
            await stream.send_all(bytes(50_000))
        assert (await read_to_the_end(stream)).startswith(b"HTTP/1.1 413 ")


async def test_an_upload_that_is_refused_has_its_answer_found_behind_it(clock: trio.testing.MockClock) -> None:
    async with serving(max_body_bytes=60_000) as port, connected(port) as stream:
        await stream.send_all(b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(5):
            await stream.send_all(b"c350\r\n" + bytes(50_000) + b"\r\n")
            await trio.sleep(LINGER_SECONDS * 0.9)
        assert (await read_to_the_end(stream)).startswith(b"HTTP/1.1 413 ")


async def send_for_ever(stream: trio.SocketStream, data: bytes) -> float:
    """Send now and then, until nobody takes it any more; when that was."""
    while True:
        try:
            await stream.send_all(data)
        except trio.BrokenResourceError:
            return trio.current_time()
        await trio.sleep(0.5)


async def test_an_upload_behind_its_answer_is_not_taken_for_ever(clock: trio.testing.MockClock) -> None:
    async with serving(body_seconds=10) as port, connected(port) as stream:
        await stream.send_all(POST)
        began_at = trio.current_time()
        assert (await read_to_the_end(stream)).startswith(b"HTTP/1.1 413 ")
        assert 10 <= await send_for_ever(stream, b"x") - began_at < 10 + 2 * LINGER_SECONDS


async def test_who_sends_nothing_more_is_not_waited_for(clock: trio.testing.MockClock) -> None:
    async with serving() as port, connected(port) as stream:
        await stream.send_all(POST)
        await read_to_the_end(stream)
        await trio.sleep(LINGER_SECONDS * 1.5)
        began_at = trio.current_time()
        assert await send_for_ever(stream, b"x") - began_at < LINGER_SECONDS


async def test_what_breaks_the_rules_of_http2_is_not_taken_for_long(clock: trio.testing.MockClock) -> None:
    async with serving(body_seconds=10) as port, connected(port) as stream:
        await stream.send_all(PREFACE + settings_frame() + b"\xff" * 9)
        began_at = trio.current_time()
        assert await read_to_the_end(stream)
        assert await send_for_ever(stream, b"\xff") - began_at < 2 * LINGER_SECONDS


class EchoingTransport(Plaintext):
    """One that has a byte to say for each that it is given, as TLS has to updates of keys."""

    most_bytes = 0

    def __init__(self) -> None:
        self.answer_bytes = 0

    def receive(self, data: bytes) -> tuple[bytes, bool]:
        self.answer_bytes += len(data)
        EchoingTransport.most_bytes = max(EchoingTransport.most_bytes, self.answer_bytes)
        return data, not data

    def send(self, data: bytes) -> bytes:
        answer_bytes, self.answer_bytes = self.answer_bytes, 0
        return data + bytes(answer_bytes)


async def test_no_more_is_read_while_what_tls_answers_by_itself_is_not_taken(
    clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def read(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive()).get("more_body"):
            pass

    monkeypatch.setattr(connection, "Plaintext", EchoingTransport)
    async with serving(read) as port, connected(port) as stream:
        await stream.send_all(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999\r\n\r\n")
        with trio.move_on_after(5):
            await stream.send_all(bytes(50_000_000))
    assert 0 < EchoingTransport.most_bytes < UNSENT_LIMIT_BYTES + MOST_READ_BYTES


@pytest.fixture
def out_of_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the time of every turn be over at every other question."""
    answers = itertools.cycle([True, False])
    monkeypatch.setattr(Share, "has_time", lambda _: next(answers))


@pytest.mark.usefixtures("out_of_time")
async def test_what_waits_for_later_turns_is_served_though_nothing_more_comes(clock: trio.testing.MockClock) -> None:
    block = plain_block(get_fields())
    stream_ids = range(1, 201, 2)
    async with serving() as port, connected(port) as stream:
        requests = b"".join(headers_frame(stream_id, block) for stream_id in stream_ids)
        await stream.send_all(PREFACE + settings_frame() + requests)
        data = b""
        while data.count(b"\0\0\2\0\1") < len(stream_ids):  # a DATA frame of two bytes, the last
            data += await stream.receive_some()
            assert data


@pytest.mark.usefixtures("out_of_time")
async def test_a_client_that_leaves_behind_what_waits_has_said_all(clock: trio.testing.MockClock) -> None:
    heard: list[str | None] = []
    has_left = trio.Event()

    async def listen(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            heard.append(message["text"])
        has_left.set()

    async with serving(listen) as port, connected(port) as stream:
        await stream.send_all(WEBSOCKET)
        await stream.receive_some()
        await stream.send_all(frame(0x89) * 5000 + frame(0x81, b"last"))
        await stream.send_eof()
        await has_left.wait()
    assert heard == ["last"]
