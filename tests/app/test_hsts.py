"""strict-transport-security: over TLS alone, and once."""

from __future__ import annotations

from functools import partial

import pytest

from sage_edge.app.hsts import HSTSLayer
from tests.app.applications import answer
from tests.kit.asgi_calls import http_scope, lifespan_scope, websocket_scope
from tests.kit.exchange import RecordingExchange

FIELD = (b"strict-transport-security", b"max-age=600")
layer = partial(HSTSLayer, answer, seconds=600)


async def test_answers_over_tls_have_the_field() -> None:
    exchange = RecordingExchange(scope=http_scope(extensions={"tls": {}}))
    exchange.answer_fields = ((b"x", b"y"),)
    await exchange.run(layer())
    assert exchange.answer_fields == ((b"x", b"y"), FIELD)


@pytest.mark.parametrize(
    "scope",
    [http_scope(), http_scope(scheme="http"), websocket_scope(extensions={"tls": {}})],
    ids=["h2", "http", "ws"],
)
async def test_others_have_not(scope: dict[str, object]) -> None:
    exchange = RecordingExchange(scope=scope)
    await exchange.run(layer())
    assert exchange.answer_fields == ()


async def test_a_lifespan_passes_through() -> None:
    seen = []

    async def application(scope: object, receive: object, send: object) -> None:
        seen.append(scope)

    await HSTSLayer(application, seconds=0)(lifespan_scope(), None, None)  # type: ignore[arg-type]
    assert len(seen) == 1
