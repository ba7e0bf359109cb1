"""The layer that keeps pages for this machine from websites: they are shown under no name but localhost and addresses.

A website can point a name of its own at 127.0.0.1 once it is open in a browser on this machine (DNS rebinding), and
would read what is served there as its own.
"""

from __future__ import annotations

from collections.abc import Awaitable
from http import HTTPStatus
from ipaddress import ip_address
from urllib.parse import urlsplit

from sage_edge.app.asgi import ASGIApplication, Receive, Scope, Send, find_header, send_error


class LocalNamesLayer:
    """An ASGI application that calls another for requests to localhost or to an address; to others it answers 421.

    Args:
        application: the other.
    """

    def __init__(self, application: ASGIApplication) -> None:
        self._application = application

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Serve a request; a lifespan is passed through."""
        if scope["type"] == "lifespan" or _is_local((find_header(scope, b"host") or b"").decode("latin-1")):
            return self._application(scope, receive, send)
        return send_error(
            scope,
            send,
            HTTPStatus.MISDIRECTED_REQUEST,
            "This is for this machine: ask for it as localhost, or by address.",
        )


def _is_local(host: str) -> bool:
    """Whether a host field names this machine, or an address: no name that somebody's DNS could point here."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
        if name != "localhost":
            ip_address(name)
    except ValueError:
        return False
    return True
