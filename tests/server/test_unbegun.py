"""Requests that wait for their turn to begin when the worker ends: told and counted like those that have begun."""

from __future__ import annotations

import socket
from collections.abc import Callable

import hpack
import pytest
import trio

from sage_edge.app.asgi import Receive, Scope, Send
from sage_edge.core.budgets import ClientAccount
from sage_edge.core.metric_families import Metrics
from sage_edge.server import fairness
from sage_edge.server.drain import Drain
from sage_edge.server.fairness import Fairness
from sage_edge.server.worker import serve
from tests.kit.captured_logs import captured_logs
from tests.kit.http2_frames import PREFACE, get_fields, headers_frame, settings_frame
from tests.kit.protocol_host import default_limits

GET = b"GET /queued HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: mine\r\n\r\n"
LONG_SECONDS = 600.0


def ask(protocol: str) -> bytes:
    """A connection's first bytes, with a request."""
    if protocol == "1.1":
        return GET
    fields = get_fields((b"x-request-id", b"mine"), scheme=b"http", path=b"/queued")
    return PREFACE + settings_frame() + headers_frame(1, hpack.Encoder().encode(fields))


@pytest.mark.parametrize(("protocol", "numbered"), [("1.1", {}), ("2", {"stream": 1})])
@pytest.mark.parametrize("at_once", [False, True])
async def test_a_request_that_is_queued_when_the_time_to_drain_is_up(
    monkeypatch: pytest.MonkeyPatch, protocol: str, numbered: dict[str, int], at_once: bool
) -> None:
    has_left, is_queued = trio.Event(), trio.Event()
    start_later = Fairness.start_later

    def note_queued(self: Fairness, account: ClientAccount, start: Callable[[], None]) -> None:
        start_later(self, account, start)
        is_queued.set()

    async def outlive_client(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["path"] == "/", "the other does not begin"
        while (await receive())["type"] != "http.disconnect":
            pass
        has_left.set()
        await trio.sleep_forever()

    monkeypatch.setattr(Fairness, "start_later", note_queued)
    monkeypatch.setattr(fairness, "MOST_EXPIRING", 1)
    limits = default_limits(cancel_grace_seconds=LONG_SECONDS)
    drain, metrics = Drain(delay_seconds=0, limit_seconds=0), Metrics()
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        captured_logs(has_context=True) as lines,
        trio.fail_after(LONG_SECONDS),
    ):
        listener.setblocking(False)
        port = listener.getsockname()[1]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(
                lambda: serve(
                    outlive_client, [listener], None, limits=limits, started=trio.Event(), drain=drain, metrics=metrics
                )
            )
            async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                await stream.send_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await has_left.wait()
            async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                await stream.send_all(ask(protocol))
                await is_queued.wait()
                if at_once:  # as a second signal does it
                    nursery.cancel_scope.cancel()
                drain.begin()
                async for _ in stream:
                    pass
    (line,) = [line for line in lines if line["event"] == "request"]
    told = {"path": "/queued", "method": "GET", "protocol": f"HTTP/{protocol}", "status": "-", "ending": "drained"}
    assert line.items() >= {**told, "request_id": "mine", "mount": "none", **numbered}.items()
    assert isinstance(line["connection"], int)
    assert "reason" not in line
    rows = metrics.snapshot()
    assert [row[0] for row in rows["sage_edge_requests"] if row[-1]] == [["none", protocol, "GET", "none"]]
    assert [row[0] for row in rows["sage_edge_cancellations"] if row[-1]] == [["none", "drained"]]
