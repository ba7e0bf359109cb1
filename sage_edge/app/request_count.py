"""The layer that tells when so many requests have come to a mount, so that their worker is replaced."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from sage_edge.app.asgi import ASGIApplication, Receive, Scope, Send


class RequestCountLayer:
    """An ASGI application that calls another.

    Args:
        application: of the mount.
        limit: of requests and WebSockets.
        on_limit: called each time when so many more have come: a replacement can fail.
    """

    def __init__(self, application: ASGIApplication, limit: int, on_limit: Callable[[], None]) -> None:
        self._application = application
        self._limit = self._left = limit
        self._on_limit = on_limit

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Count, and call the other."""
        if scope["type"] != "lifespan":
            self._left -= 1
            if self._left == 0:
                self._left = self._limit
                self._on_limit()
        return self._application(scope, receive, send)
