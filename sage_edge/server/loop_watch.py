"""Measures the edge's own event loop: how late it is with what was to be done.

All of the edge waits for it: handshakes, health, every stream. Code in another thread can hold it up too, where that
keeps the interpreter's lock, as a regular expression does; and an application in the edge's loop by computing.
"""

from __future__ import annotations

import trio

from sage_edge.core.logger import EdgeLogger
from sage_edge.core.metric_families import Metrics
from sage_edge.core.recent import RecentMaximum

log = EdgeLogger(__name__)

LOOK_SECONDS = 0.1
"""How often it is looked at. A shorter delay is missed where it falls between, and none that is longer."""
LATE_SECONDS = 0.5
"""A delay that is told in the log; the same that makes a gateway's loop one that does not answer."""
REPORT_SECONDS = 10.0
"""How often, at most."""


async def watch_loop(metrics: Metrics) -> None:
    """Measure for ever, and have the metrics tell the longest delay of the last while."""
    recent = RecentMaximum()
    due_at = trio.current_time()

    def refresh() -> None:
        now = trio.current_time()
        metrics.loop_lag_seconds.of().number = max(recent.at(now), now - due_at)

    metrics.refresh_with(refresh)
    reported_at = due_at - REPORT_SECONDS
    while True:
        due_at = trio.current_time() + LOOK_SECONDS
        await trio.sleep_until(due_at)
        now = trio.current_time()
        late_seconds = now - due_at
        recent.note(late_seconds, now)
        if late_seconds > LATE_SECONDS and now - reported_at >= REPORT_SECONDS:
            reported_at = now
            log.warning("the edge's event loop was held up", seconds=round(late_seconds, 3))
