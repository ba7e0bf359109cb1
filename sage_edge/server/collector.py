"""When Python's garbage collector goes through everything: not while thousands of streams would wait for it.

Nearly all of a request is freed as it ends. What is left are cycles, mostly of a gateway's making, and most of those
are found young, which takes little. To go through all that lives takes about 60 microseconds for each open stream,
during which nothing is answered: 0.3 s with 5,000. Python would do it whenever what lives has grown by a quarter; here
it waits for a quiet moment, or for memory to have grown by more than what is open explains.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from time import perf_counter

import trio

from sage_edge.server.memory import give_back, resident_bytes

YOUNG_THRESHOLDS = (2_000, 10)
"""Of the first two generations (`gc.set_threshold`): less often than Python's own, for a stream has many objects."""
NEVER = 2**30
LOOK_SECONDS = 1.0
YOUNG_COLLECTIONS = 10
"""So many since all was gone through last, and there may be something to be found. Python's own measure."""
QUIET_COUNT = 200
"""With so many connections and requests, or fewer, nobody waits for long: 15 ms or so."""
UNEXPLAINED_BYTES = 64 * 2**20
WORTH_BYTES = 8 * 2**20
"""So much more memory than before, in a quiet moment, and what of it is free is given back to the system."""
ENDED_COUNT = 8
"""So many fewer connections and requests than there were, and what they had may be free."""
OPEN_BYTES = 32 * 1024
"""What each open connection and stream may explain of the growth."""


LEAST_REST = 100
"""So many times longer than it took is it left alone: it takes a hundredth of the time at most, whatever lives."""


def is_due(*, young_collections: int, open_count: int, grown_bytes: int, is_rested: bool) -> bool:
    """Whether all is to be gone through now.

    Args:
        young_collections: since that was done last.
        open_count: connections and streams.
        grown_bytes: by how much memory has grown since.
        is_rested: whether that is long ago, for how long it took.
    """
    if young_collections < YOUNG_COLLECTIONS:
        return False
    return (open_count <= QUIET_COUNT and is_rested) or grown_bytes > UNEXPLAINED_BYTES + open_count * OPEN_BYTES


class Collector:
    """Takes over from Python when all is gone through.

    Attributes:
        count_open: the worker's: how many connections and streams are open.
    """

    def __init__(self) -> None:
        self.count_open: Callable[[], int] = int

    def settle(self) -> None:
        """What start-up has made stays: it is looked at no more, and all the rest is by `run`."""
        gc.collect()
        gc.freeze()
        gc.set_threshold(*YOUNG_THRESHOLDS, NEVER)

    async def run(self, settled: trio.Event) -> None:
        """Go through everything whenever it is due, from when `settled` is set."""
        await settled.wait()
        pid = os.getpid()
        settled_bytes = resident_bytes(pid)
        leftovers = Leftovers(settled_bytes)
        rested_at = given_back_at = 0.0
        while True:
            await trio.sleep(LOOK_SECONDS)
            now_bytes = resident_bytes(pid)
            open_count = self.count_open()
            leftovers.note(open_count)
            began_at = perf_counter()
            is_grown = is_due(
                young_collections=gc.get_count()[2],
                open_count=open_count,
                grown_bytes=now_bytes - settled_bytes,
                is_rested=began_at >= rested_at,
            )
            if not is_grown and (began_at < given_back_at or not leftovers.are_worth_it(now_bytes, open_count)):
                continue
            # Always: what Python keeps for lists and the like to come lies between what can be given back.
            gc.collect()
            rested_at = _rest(began_at)
            give_back()
            given_back_at = _rest(began_at)
            settled_bytes = resident_bytes(pid)
            leftovers.settle(settled_bytes, open_count)


def _rest(began_at: float) -> float:
    """Until when to leave alone what began then and is done now."""
    ended_at = perf_counter()
    return ended_at + LEAST_REST * (ended_at - began_at)


class Leftovers:
    """Whether memory that was freed is worth giving back to the system, which takes a few milliseconds.

    Args:
        now_bytes: resident.
    """

    def __init__(self, now_bytes: int) -> None:
        self._settled_bytes = self._least_bytes = now_bytes
        self._most_open = 0

    def note(self, open_count: int) -> None:
        """So many connections and requests are there now."""
        self._most_open = max(self._most_open, open_count)

    def are_worth_it(self, now_bytes: int, open_count: int) -> bool:
        """Whether it is: in a quiet moment, with more memory than before, or fewer that it was for."""
        if open_count > QUIET_COUNT:
            return False
        has_grown = now_bytes - self._settled_bytes >= WORTH_BYTES
        have_ended = self._most_open - open_count >= ENDED_COUNT and now_bytes - self._least_bytes >= WORTH_BYTES
        return has_grown or have_ended

    def settle(self, now_bytes: int, open_count: int) -> None:
        """It was given back, and this is left."""
        self._settled_bytes = now_bytes
        self._least_bytes = min(self._least_bytes, now_bytes)
        self._most_open = open_count
