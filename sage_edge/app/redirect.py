"""The application of the plaintext port: everything is elsewhere, by https, but health.

Not Hypercorn's HTTPToHTTPSRedirectMiddleware: that sends a 307, keeps the plaintext port in the URL, takes any bytes
of Host for one, and fails without it.
"""

from __future__ import annotations

import re
from http import HTTPStatus

from sage_edge.app.asgi import ASGIApplication, Receive, Scope, Send, find_header, send_error
from sage_edge.app.exchange import note_mount
from sage_edge.app.routing import find_route, refuse
from sage_edge.core.authority import read_authority
from sage_edge.core.exchange import HEALTH_MOUNT
from sage_edge.core.routing import Target

HTTPS_PORT = 443
REDIRECT_MOUNT = "redirect"
"""What the access log calls it."""

_HOST = re.compile(rb"[a-z0-9._-]{1,253}|\[[0-9a-f:.]+\]")
"""What a client may be sent to: of what RFC 3986 lets a host be, the part that a certificate can name."""
_NOT_IN_QUERY = re.compile(rb"[^!-~]")


class RedirectApplication:
    """Answers with a 308, to the host that was asked, at the edge's port.

    Health is answered here too: for balancers, and for probes that have no client certificate.

    Args:
        health: answers /healthz and /readyz.
        https_port: of the edge.
    """

    def __init__(self, health: ASGIApplication, https_port: int) -> None:
        self._health = health
        self._port = b"" if https_port == HTTPS_PORT else b":%d" % https_port

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request or refuse a WebSocket."""
        route = find_route(scope, [""])
        if route.target is Target.REFUSED:
            await refuse(route, scope, send)
        elif route.target is Target.HEALTH and scope["type"] == "http":
            local = {**scope, "path": route.path, "raw_path": route.raw_path}
            note_mount(scope, HEALTH_MOUNT)
            await self._health(local, receive, send)
        else:
            note_mount(scope, REDIRECT_MOUNT)
            await self._redirect(scope, send, find_header(scope, b"host") or b"", route.raw_path)

    async def _redirect(self, scope: Scope, send: Send, authority: bytes, raw_path: bytes) -> None:
        name, _ = read_authority(authority) or (b"", None)
        query = scope["query_string"]
        if not _HOST.fullmatch(name) or _NOT_IN_QUERY.search(query):
            await send_error(scope, send, HTTPStatus.BAD_REQUEST, "The request names no host that it could be sent to.")
            return
        location = b"https://" + name + self._port + raw_path + (b"?" + query if query else b"")
        # With no-store, as all of these: it is what the client's Host makes it, and would outlive this listener.
        detail = "This is served by https alone."
        await send_error(scope, send, HTTPStatus.PERMANENT_REDIRECT, detail, [(b"location", location)])
