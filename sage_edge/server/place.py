"""A worker's place: what stays the same while processes come and go in it. Their life is `server.supervisor`'s."""

from __future__ import annotations

import trio

from sage_edge.server.worker_process import WorkerProcess


class Place:
    """One of the workers there should be, whichever process it is.

    Attributes:
        worker: that is there; None before the first.
        replacement_wanted: set to have another put in its place.
        replacement_done: set once the latest was tried; `is_replaced` says whether it worked.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.worker: WorkerProcess | None = None
        self.replacement_wanted = trio.Event()
        self.replacement_done = trio.Event()
        self.is_replaced = False

    @property
    def is_ready(self) -> bool:
        """Whether its worker serves."""
        return self.worker is not None and self.worker.is_ready


async def wait_for_any(*events: trio.Event) -> None:
    """Wait until one of them is set."""
    async with trio.open_nursery() as nursery:

        async def wait(event: trio.Event) -> None:
            await event.wait()
            nursery.cancel_scope.cancel()

        for event in events:
            nursery.start_soon(wait, event)
