"""Pages for this machine are shown under no name that a website could have given it."""

from __future__ import annotations

import pytest

from sage_edge.app.local_names import LocalNamesLayer
from tests.app.applications import answer
from tests.kit.asgi_calls import http_scope, lifespan_scope
from tests.kit.exchange import RecordingExchange


@pytest.mark.parametrize(
    ("host", "status"),
    [
        (b"localhost:9898", 200),
        (b"LOCALHOST", 200),
        (b"127.0.0.1:9898", 200),
        (b"[::1]:9898", 200),
        (b"rebound.example", 421),
        (b"127.0.0.1.example:9898", 421),
        (b"[::1", 421),
        (b"", 421),
    ],
)
async def test_only_localhost_and_addresses_are_answered(host: bytes, status: int) -> None:
    exchange = RecordingExchange(scope=http_scope(headers=[(b"host", host)]))
    await exchange.run(LocalNamesLayer(answer))
    assert exchange.status == status


async def test_a_request_without_a_host_is_not() -> None:
    exchange = RecordingExchange(scope=http_scope(headers=[]))
    await exchange.run(LocalNamesLayer(answer))
    assert exchange.status == 421


async def test_a_lifespan_passes_through() -> None:
    seen = []

    async def application(scope: object, receive: object, send: object) -> None:
        seen.append(scope)

    await LocalNamesLayer(application)(lifespan_scope(), None, None)  # type: ignore[arg-type]
    assert len(seen) == 1
