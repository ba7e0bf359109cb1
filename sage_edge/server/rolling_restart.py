"""The restart of all workers, one after the other: when it is run, how far it is, and how the latest ended.

How one worker follows another is `server.place`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import trio

from sage_edge.core.logger import EdgeLogger
from sage_edge.server.place import Place

log = EdgeLogger(__name__)


class RollingRestart:
    """The restarts of an edge: one at a time, and at most one more that waits. `run` it, and `ask` for them.

    Args:
        places: the workers'.
        stop: set once the edge ends: no worker is replaced any more.
        bracket: entered with what happens, in a few words, for as long as it does.
    """

    def __init__(
        self,
        places: Sequence[Place],
        stop: trio.Event,
        bracket: Callable[[str], AbstractContextManager[None]],
    ) -> None:
        self._places = places
        self._stop = stop
        self._bracket = bracket
        self._wanted = trio.Event()
        self._at: Place | None = None
        self._failed_at: Place | None = None

    @property
    def is_under_way(self) -> bool:
        """Whether workers are being replaced."""
        return self._at is not None

    def describe(self) -> str:
        """What the edge does, in a few words: how far a restart is, and where the latest failed."""
        if self._at is not None:
            return f"restarting worker {self._at.number}"
        if self._failed_at is not None:
            return f"serving, restart failed at worker {self._failed_at.number}"
        return "serving"

    def ask(self) -> None:
        """Have all workers replaced by others that are started from now on."""
        if self._stop.is_set():
            log.warning("no worker is restarted: the edge ends")
            return
        if self.is_under_way:
            log.info("another restart follows the one that is under way")
        self._wanted.set()

    async def run(self) -> None:
        """Restart whenever it is asked for; until it is cancelled."""
        while True:
            await self._wanted.wait()
            self._wanted = trio.Event()
            await self._restart()

    async def _restart(self) -> None:
        log.info("restarting workers", count=len(self._places))
        self._at, self._failed_at = self._places[0], None
        with self._bracket(self.describe()):
            for place in self._places:
                self._at = place
                if not await place.renew("restart"):
                    self._failed_at = place
                    break
            self._at = None
        if self._stop.is_set():
            return
        if self._failed_at is not None:
            log.error("the restart has ended early", at_worker=self._failed_at.number)
        else:
            log.info("restarted workers", count=len(self._places))
