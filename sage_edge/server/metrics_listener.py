"""Serves the page of metrics on a listener of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sage_edge.core.limits import Limits
from sage_edge.core.metrics import Family, Snapshot
from sage_edge.server.own_listener import OwnListener
from sage_edge.server.plaintext_listener import serve_page


async def serve_metrics(
    families: Sequence[Family], take_snapshot: Callable[[], Snapshot], listener: OwnListener, limits: Limits
) -> None:
    """Serve metrics until cancelled.

    Args:
        families: what there is.
        take_snapshot: the figures now.
        listener: theirs; where it is not wanted, nothing is served. Closed at the end.
        limits: of the edge's connections, which hold here too.
    """
    if not listener.is_wanted:
        return
    # Late: an edge without metrics does without the library, too.
    from sage_edge.app.metrics_page import MetricsPage

    await serve_page(MetricsPage(families, take_snapshot), await listener.wait_until_open(), limits=limits)
