"""Serves an application of the edge's own in plaintext, for as long as the edge lives, its drain included."""

from __future__ import annotations

import math
import socket
from collections.abc import Callable, Sequence
from ipaddress import ip_address

import trio

from sage_edge.app.asgi import ASGIApplication
from sage_edge.app.local_names import LocalNamesLayer
from sage_edge.core.forwarded import TrustedProxies
from sage_edge.core.limits import Limits
from sage_edge.core.metric_families import Metrics
from sage_edge.server import worker
from sage_edge.server.drain import Drain


async def serve_plaintext(
    application: ASGIApplication,
    sockets: Sequence[socket.socket],
    *,
    limits: Limits,
    started: trio.Event,
    drain: Drain,
    balancers: TrustedProxies | None = None,
    takes_queue: Callable[[], bool] = bool,
) -> None:
    """Serve until it is drained, or cancelled. What is asked here is counted in none of the edge's figures.

    Args:
        application: answers.
        sockets: of its port. Closed at the end.
        limits: of the edge's connections, which hold here too.
        started: from when on shared sockets are accepted from (`listener.is_shared`).
        drain: begun from elsewhere.
        balancers: see `worker.serve`.
        takes_queue: the same.
    """
    await worker.serve(
        application,
        sockets,
        None,
        limits=limits,
        started=started,
        drain=drain,
        metrics=Metrics(),
        balancers=balancers,
        takes_queue=takes_queue,
    )


async def serve_page(application: ASGIApplication, sockets: Sequence[socket.socket], *, limits: Limits) -> None:
    """Serve a page for who runs the edge until cancelled; what only this machine can reach, to no website."""
    names = [sock.getsockname() for sock in sockets]
    if all(isinstance(name, tuple) and ip_address(name[0]).is_loopback for name in names):
        application = LocalNamesLayer(application)
    started = trio.Event()
    started.set()
    never = Drain(delay_seconds=0, limit_seconds=math.inf)
    await serve_plaintext(application, sockets, limits=limits, started=started, drain=never)
