"""The layer that logs one line for each request, when its answer is complete or has ended.

The query is left out: keys and prompts travel in it. Nothing of a header or a body is logged.
"""

from __future__ import annotations

import time

import structlog

from sage_edge.app.asgi import ASGIApplication, Receive, Scope, Send
from sage_edge.app.exchange import EXCHANGE, Exchange

log = structlog.get_logger("sage_edge.access")


class AccessLogLayer:
    """An ASGI application that calls another and logs how each request went."""

    def __init__(self, application: ASGIApplication) -> None:
        self._application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request or WebSocket; a lifespan is passed through."""
        if scope["type"] != "lifespan":
            exchange: Exchange = scope[EXCHANGE]
            started_at = time.perf_counter()
            exchange.when_done(lambda: _write(exchange, time.perf_counter() - started_at))
        await self._application(scope, receive, send)


def _write(exchange: Exchange, duration_seconds: float) -> None:
    scope = exchange.scope
    client = scope.get("client")
    log.info(
        "request",
        client=client[0] if client else "-",
        protocol=f"HTTP/{scope['http_version']}",
        method=scope.get("method", "WEBSOCKET"),
        path=scope["raw_path"].decode("latin-1"),
        status=exchange.status or "-",
        received_bytes=exchange.received_bytes,
        sent_bytes=exchange.sent_bytes,
        duration_ms=round(duration_seconds * 1000, 1),
        ending=_ending(exchange),
    )


def _ending(exchange: Exchange) -> str:
    if exchange.has_ended_well:
        return "complete"
    return "client left" if exchange.is_client_gone else "cut"
