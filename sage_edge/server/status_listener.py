"""Serves the status page on a listener of its own, and takes the samples that it charts."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import trio

from sage_edge import __version__
from sage_edge.app.native import NativeApplication
from sage_edge.core.limits import Limits
from sage_edge.core.metrics import Snapshot
from sage_edge.core.problems import Problems
from sage_edge.core.status import History, Totals, read_overview, take_sample
from sage_edge.server.own_listener import OwnListener
from sage_edge.server.plaintext_listener import serve_page

SAMPLE_SECONDS = 1.0


async def serve_status(
    take_snapshot: Callable[[], Snapshot],
    problems: Problems,
    find_applications: Callable[[], Mapping[str, str]],
    listener: OwnListener,
    limits: Limits,
    find_totals: Callable[[], Mapping[int, Totals]] | None = None,
) -> None:
    """Serve the page until cancelled: a page that is left open holds up no drain.

    Args:
        take_snapshot: the figures now; of one process, or of several, merged.
        problems: what went wrong last.
        find_applications: the names of what is mounted, by prefix.
        listener: its own; where it is not wanted, nothing is served. Closed at the end.
        limits: of the edge's connections, which hold here too.
        find_totals: of each of several processes, as it told them itself.
    """
    if not listener.is_wanted:
        return
    # Late: an edge without the page does without its templates, too.
    from sage_edge.app.status_page import Status, build_status_page

    history = History()

    def take_status() -> Status:
        overview = read_overview(take_snapshot(), time.time())
        return Status(overview, history, problems.latest, find_applications())

    page = NativeApplication(build_status_page(take_status, version=__version__))  # type: ignore[arg-type]  # Quart's scopes are TypedDicts
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_keep_sampling, history, take_snapshot, find_totals)
        await serve_page(page, await listener.wait_until_open(), limits=limits)


async def _keep_sampling(
    history: History,
    take_snapshot: Callable[[], Snapshot],
    find_totals: Callable[[], Mapping[int, Totals]] | None,
) -> None:
    while True:
        totals = None if find_totals is None else find_totals()
        history.add(take_sample(take_snapshot(), time.monotonic(), totals))
        await trio.sleep(SAMPLE_SECONDS)
