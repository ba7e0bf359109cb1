"""Serves the page of metrics on a listener of its own."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence

from sage_edge.core.limits import Limits
from sage_edge.core.metrics import Family, Snapshot
from sage_edge.server.plaintext_listener import serve_page


async def serve_metrics(
    families: Sequence[Family], take_snapshot: Callable[[], Snapshot], sockets: Sequence[socket.socket], limits: Limits
) -> None:
    """Serve metrics until cancelled.

    Args:
        families: what there is.
        take_snapshot: the figures now.
        sockets: listening; with none, nothing is served. Closed at the end.
        limits: of the edge's connections, which hold here too.
    """
    if not sockets:
        return
    # Late: an edge without metrics does without the library, too.
    from sage_edge.app.metrics_page import MetricsPage

    await serve_page(MetricsPage(families, take_snapshot), sockets, limits=limits)
