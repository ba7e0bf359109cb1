"""The layer that has browsers use https alone, from their first answer over TLS on (RFC 6797).

`includeSubDomains` and `preload` are left to the gateway, whose own field stands: they speak for more than this host.
"""

from __future__ import annotations

from collections.abc import Awaitable

from sage_edge.app.asgi import ASGIApplication, Receive, Scope, Send
from sage_edge.app.exchange import EXCHANGE, Exchange


class HSTSLayer:
    """An ASGI application that calls another, and adds strict-transport-security to its answers.

    Args:
        application: the other.
        seconds: for how long browsers are to remember it; 0 has them forget it.
    """

    def __init__(self, application: ASGIApplication, *, seconds: int) -> None:
        self._application = application
        self._field = (b"strict-transport-security", b"max-age=%d" % seconds)

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Serve a request; what does not come over TLS is passed through (RFC 6797 section 7.2)."""
        if scope["type"] == "http" and "tls" in scope["extensions"]:
            exchange: Exchange = scope[EXCHANGE]
            exchange.answer_fields = (*exchange.answer_fields, self._field)
        return self._application(scope, receive, send)
