"""The layer that tells when a worker has had its number of requests."""

from __future__ import annotations

from sage_edge.app.asgi import Receive, Scope, Send
from sage_edge.app.request_count import RequestCountLayer


async def test_the_limit_is_told_each_time_and_requests_go_on() -> None:
    seen: list[str] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append("lifespan" if scope["type"] == "lifespan" else "request")

    layer = RequestCountLayer(application, 2, lambda: seen.append("limit"))
    for kind in ("lifespan", "http", "http", "websocket", "http", "http"):
        await layer({"type": kind}, None, None)  # type: ignore[arg-type]
    assert seen[0] == "lifespan"
    assert seen[1:] == ["request", "limit", "request", "request", "limit", "request", "request"]
