"""The layer that lets trusted proxies say who a request came from, and nobody else.

From a trusted proxy: the scope's client, scheme and Host header become what it says. From anyone else: its
forwarding headers are removed, so that a gateway that believes them is not deceived. The rules are `core.forwarded`'s.
"""

from __future__ import annotations

from collections.abc import Awaitable
from functools import lru_cache

from sage_edge.app.asgi import ASGIApplication, Receive, Scope, Send
from sage_edge.core.authority import read_authority
from sage_edge.core.forwarded import FORWARDING_STARTS, Hop, TrustedProxies, is_forwarding_field, read_hops

REMEMBERED_ADDRESSES = 4096


class ForwardedLayer:
    """An ASGI application that calls another with the client that a trusted proxy names.

    Args:
        application: the other.
        trusted: whose word is taken.
    """

    def __init__(self, application: ASGIApplication, *, trusted: TrustedProxies) -> None:
        self._application = application
        self._trusted = trusted
        self._trusts = lru_cache(REMEMBERED_ADDRESSES)(trusted.trusts)

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Serve a request or WebSocket; a lifespan is passed through."""
        if scope["type"] != "lifespan":
            for name, _ in scope["headers"]:
                if name.startswith(FORWARDING_STARTS):  # most requests have none, and are asked no more
                    self._take(scope)
                    break
        return self._application(scope, receive, send)

    def _take(self, scope: Scope) -> None:
        client = scope.get("client")
        headers = scope["headers"]
        if not self._trusts(client[0] if client else None):
            scope["headers"] = [field for field in headers if not is_forwarding_field(field[0])]
            return
        # One with an underscore is passed on by proxies that do not know it, and is then the client's.
        headers = scope["headers"] = [
            field for field in headers if not (b"_" in field[0] and is_forwarding_field(field[0]))
        ]
        hop = self._trusted.find_client(read_hops(headers))
        if hop is not None:
            _apply(scope, hop)


def _apply(scope: Scope, hop: Hop) -> None:
    if hop.client is not None:
        scope["client"] = (str(hop.client), hop.port)
    if hop.scheme:
        is_secure = hop.scheme == "https"
        scope["scheme"] = ("wss" if is_secure else "ws") if scope["type"] == "websocket" else hop.scheme
    host = hop.host.encode("latin-1")
    if host and read_authority(host) is not None:
        scope["headers"] = [(b"host", host), *(field for field in scope["headers"] if field[0] != b"host")]
