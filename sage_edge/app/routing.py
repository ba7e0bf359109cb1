"""`core.routing` for ASGI: the route of a scope, and what is refused. Who answers the rest is its caller's to say."""

from __future__ import annotations

from collections.abc import Sequence

from sage_edge.app.asgi import Scope, Send, send_error
from sage_edge.app.exchange import note_mount
from sage_edge.core.exchange import HEALTH_MOUNT
from sage_edge.core.routing import Route, decide


def find_route(scope: Scope, prefixes: Sequence[str]) -> Route:
    """Decide who answers a request or WebSocket.

    Args:
        scope: of either.
        prefixes: the mounts, as `normalise_prefix` returns them, the longest first.
    """
    return decide(scope.get("method", "GET"), scope["raw_path"], prefixes)


async def refuse(route: Route, scope: Scope, send: Send) -> None:
    """Answer what is routed nowhere."""
    if route.is_own:
        note_mount(scope, HEALTH_MOUNT)
    allow = [(b"allow", ", ".join(route.allow).encode())] if route.allow else []
    await send_error(scope, send, route.status, route.detail, allow)
