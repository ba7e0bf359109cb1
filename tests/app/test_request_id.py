"""Each request has one id: for the gateway, the answer and the log."""

from __future__ import annotations

from uuid import UUID

import pytest
import structlog

from sage_edge.app.asgi import Receive, Scope, Send
from sage_edge.app.request_id import RequestIdLayer, identify
from tests.app.applications import answer
from tests.kit.asgi_calls import Server, http_scope, lifespan_scope
from tests.kit.exchange import RecordingExchange

Headers = list[tuple[bytes, bytes]]
HOST = (b"host", b"edge.test")


async def pass_through(headers: Headers) -> tuple[RecordingExchange, list[bytes]]:
    """The exchange, and the ids that the gateway got."""
    seen: list[bytes] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        seen.extend(value for name, value in scope["headers"] if name == b"x-request-id")
        assert [field for field in scope["headers"] if field[0] != b"x-request-id"] == [
            field for field in headers if field[0] != b"x-request-id"
        ]
        assert structlog.contextvars.get_contextvars()["request_id"] == seen[0].decode()
        await answer(scope, receive, send)

    exchange = RecordingExchange(scope=http_scope(headers=headers))
    with structlog.contextvars.bound_contextvars():
        await exchange.run(RequestIdLayer(application))
        structlog.contextvars.clear_contextvars()
    assert tuple(exchange.answer_fields) == ((b"x-request-id", seen[0]),)
    assert exchange.request_id == seen[0].decode()
    return exchange, seen


async def test_a_clients_sane_id_is_kept() -> None:
    _, seen = await pass_through([HOST, (b"x-request-id", b"mine-1")])
    assert seen == [b"mine-1"]


@pytest.mark.parametrize(
    "given", [[], [b"not sane"], [b""], [b"a" * 129], [b"one", b"two"]], ids=["none", "space", "empty", "long", "two"]
)
async def test_otherwise_one_is_made(given: list[bytes]) -> None:
    _, seen = await pass_through([HOST, *((b"x-request-id", value) for value in given), (b"traceparent", b"00-1-2-01")])
    assert len(seen) == 1
    assert UUID(seen[0].decode()).version == 7


async def test_one_that_is_asked_for_before_is_the_requests() -> None:
    exchange = RecordingExchange(scope=http_scope(headers=[HOST]))
    (field,) = identify(exchange)
    assert identify(exchange) == (field,)
    seen: list[bytes] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        seen.extend(value for name, value in scope["headers"] if name == b"x-request-id")
        await answer(scope, receive, send)

    await exchange.run(RequestIdLayer(application))
    structlog.contextvars.clear_contextvars()
    assert seen == [field[1]] == [exchange.request_id.encode()]
    assert tuple(exchange.answer_fields) == (field,)


async def test_no_two_are_alike() -> None:
    assert len({(await pass_through([HOST]))[1][0] for _ in range(100)}) == 100


async def test_a_lifespan_has_none() -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        assert "headers" not in scope

    server = Server()
    await RequestIdLayer(application)(lifespan_scope(), server.receive, server.send)
