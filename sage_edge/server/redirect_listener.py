"""The plaintext listener of `--redirect-http`.

Health is told here while the edge drains, too; unless another is to answer on the same port meanwhile.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence

import trio

from sage_edge.app.asgi import ASGIApplication
from sage_edge.app.redirect import HTTPS_PORT, RedirectApplication
from sage_edge.app.stack import build_redirect_stack
from sage_edge.core.settings import Settings
from sage_edge.server.drain import Drain
from sage_edge.server.plaintext_listener import serve_plaintext


async def serve_redirects(
    health: ASGIApplication,
    sockets: Sequence[socket.socket],
    edge_sockets: Sequence[socket.socket],
    *,
    settings: Settings,
    started: trio.Event,
    drain: Drain,
    takes_queue: Callable[[], bool],
) -> None:
    """Answer on the plaintext sockets until they are drained.

    Args:
        health: answers /healthz and /readyz.
        sockets: of the plaintext port; with none, nothing is served. Closed at the end.
        edge_sockets: of the edge, whose first TCP port clients are sent to, unless the settings name another.
        settings: the edge's, whose limits and balancers are the same here.
        started: from when on shared sockets are accepted from (`listener.is_shared`).
        drain: begun from elsewhere.
        takes_queue: see `worker.serve`.
    """
    if sockets:
        ports = [sock.getsockname()[1] for sock in edge_sockets if sock.family != socket.AF_UNIX]
        redirect = RedirectApplication(health, settings.public_port or (ports[0] if ports else HTTPS_PORT))
        application = build_redirect_stack(redirect, settings)
        await serve_plaintext(
            application,
            sockets,
            limits=settings.limits,
            started=started,
            drain=drain,
            balancers=settings.balancers,
            takes_queue=takes_queue,
        )
