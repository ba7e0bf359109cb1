"""Serves the page of metrics on a listener of its own, for as long as the edge lives, its drain included."""

from __future__ import annotations

import math
import socket
from collections.abc import Callable, Sequence

import trio

from sage_edge.core.limits import Limits
from sage_edge.core.metric_families import Metrics
from sage_edge.core.metrics import Family, Snapshot
from sage_edge.server import worker
from sage_edge.server.drain import Drain
from sage_edge.server.listener import close_listeners


async def serve_metrics(
    families: Sequence[Family], take_snapshot: Callable[[], Snapshot], sockets: Sequence[socket.socket], limits: Limits
) -> None:
    """Serve metrics until cancelled, in plaintext.

    Args:
        families: what there is.
        take_snapshot: the figures now. What is asked of this listener is not counted in them.
        sockets: listening; with none, nothing is served. Closed at the end.
        limits: of the edge's connections, which hold here too.
    """
    if not sockets:
        return
    # Late: an edge without metrics does without the library, too.
    from sage_edge.app.metrics_page import MetricsPage

    never = Drain(delay_seconds=0, limit_seconds=math.inf)
    page = MetricsPage(families, take_snapshot)
    at_once = trio.Event()
    at_once.set()
    try:
        await worker.serve(page, sockets, None, limits=limits, started=at_once, drain=never, metrics=Metrics())
    finally:
        close_listeners(sockets)
