"""Workers that are replaced before they harm: those that have served their number of requests, or eat memory.

One at a time leaves each place: streams may go on for long, and each process is a gateway's memory.
"""

from __future__ import annotations

from collections.abc import Sequence

import trio

from sage_edge.core.logger import EdgeLogger
from sage_edge.core.supervision import most_bytes, vary
from sage_edge.server.place import Place
from sage_edge.server.worker_process import WorkerProcess

log = EdgeLogger(__name__)

MEMORY_SECONDS = 5.0
"""How often the workers' memory is looked at."""
EARLY_SECONDS = 300.0
"""Two workers in a row that pass the limit of memory so soon after they are ready, and it is what the gateway needs."""


class Recycling:
    """What has workers replaced.

    Args:
        places: the workers'.
        limit_bytes: of a worker's memory; None for none.
    """

    def __init__(self, places: Sequence[Place], limit_bytes: int | None) -> None:
        self._places = places
        self._limit_bytes = limit_bytes
        self._limits_bytes = {place.number: vary(limit_bytes or 0) for place in places}
        self._needed_bytes: dict[int, int] = {}  # by process
        self._replaced_early: dict[int, int] = {}  # for its memory: the latest in each place, until one has lasted
        self._have_served: set[int] = set()

    def note_ready(self, worker: WorkerProcess) -> None:
        """One has become ready."""
        if self._limit_bytes is None:
            return
        needed_bytes = self._needed_bytes[worker.pid] = worker.memory_bytes
        if needed_bytes > self._limit_bytes:
            self._say_limit_is_low(worker, needed_bytes)

    def note_served(self, worker: WorkerProcess) -> None:
        """One has served its number of requests."""
        self._have_served.add(worker.pid)
        self._look_at_requests(self._places[worker.number - 1])

    def note_answering(self, worker: WorkerProcess) -> None:
        """One that was silent speaks again: it may have been so when another's end let it leave."""
        self._look_at_requests(self._places[worker.number - 1])

    def note_end(self, worker: WorkerProcess) -> None:
        """One has ended, and runs no more: another that waited for that may leave."""
        self._needed_bytes.pop(worker.pid, None)
        self._have_served.discard(worker.pid)
        self._look_at_requests(self._places[worker.number - 1])

    async def watch_memory(self) -> None:
        """Look at their memory now and then; until it is cancelled."""
        if self._limit_bytes is None:
            return
        while True:
            await trio.sleep(MEMORY_SECONDS)
            for place in self._places:
                worker = self._candidate(place)
                if worker is not None:
                    self._look_at_memory(place, worker)

    def _look_at_memory(self, place: Place, worker: WorkerProcess) -> None:
        is_early = worker.ready_seconds is not None and worker.ready_seconds < EARLY_SECONDS
        if not is_early:
            self._replaced_early.pop(place.number, None)
        memory_bytes = worker.memory_bytes
        if memory_bytes <= most_bytes(self._limits_bytes[place.number], self._needed_bytes.get(worker.pid, 0)):
            return
        if is_early and self._replaced_early.setdefault(place.number, worker.pid) != worker.pid:
            self._needed_bytes[worker.pid] = memory_bytes  # another would soon have as much
            self._say_limit_is_low(worker, memory_bytes)
        else:
            place.replace(worker, f"it has {memory_bytes / 2**20:.0f} MB of memory")

    def _say_limit_is_low(self, worker: WorkerProcess, needed_bytes: int) -> None:
        log.error(
            "the memory limit is below what the gateway needs",
            worker=worker.number,
            max_memory_bytes=self._limit_bytes,
            needed_bytes=needed_bytes,
        )

    def _look_at_requests(self, place: Place) -> None:
        worker = self._candidate(place)
        if worker is not None and worker.pid in self._have_served:
            self._have_served.discard(worker.pid)  # it tells again after as many more: a replacement can fail
            place.replace(worker, "it has served its number of requests")

    def _candidate(self, place: Place) -> WorkerProcess | None:
        """A place's worker, if it may leave now."""
        worker = place.worker
        return worker if worker is not None and worker.is_ready and not place.leaving else None
