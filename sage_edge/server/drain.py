"""The end of a worker's service: what has been asked for, how far it has come, and its limit.

Keeps time and tells. Closing listeners and connections is `server.worker`'s.
"""

from __future__ import annotations

from collections.abc import Callable

import trio

from sage_edge.core.logger import EdgeLogger

log = EdgeLogger(__name__)

REPORT_SECONDS = 1.0
"""How often it is told what is left."""


class Drain:
    """One drain, begun or not.

    Args:
        delay_seconds: how long the listeners stay open once it has begun, so that balancers notice.
        limit_seconds: how long streams may go on after that.
        show: takes a line, "" for none, that replaces the one before, for a person at a terminal; where None, what
            is left is logged.
        tell: takes how many streams are in flight, and how many were cut, where others show it, for several drains.
    """

    def __init__(
        self,
        *,
        delay_seconds: float,
        limit_seconds: float,
        show: Callable[[str], None] | None = None,
        tell: Callable[[int, int], None] | None = None,
    ) -> None:
        self.count_streams: Callable[[], int] = int
        """The worker's: how many requests are in flight."""
        self.leave_behind: Callable[[], int] = int
        """The same: tells of the requests whose application still runs as if it had ended; how many they are."""
        self.when_cut: Callable[[], None] | None = None
        """Called when what is still in flight is cut."""
        self._delay_seconds = delay_seconds
        self._limit_seconds = limit_seconds
        self._show = show
        self._tell = tell
        self._begun = trio.Event()
        self._farewell = trio.Event()
        self._deadline = 0.0
        self._delaying = trio.CancelScope()

    @property
    def has_begun(self) -> bool:
        """Whether no new requests are wanted."""
        return self._begun.is_set()

    def begin(self, *, keeps_idle: bool = False) -> None:
        """Ask for the end. Asked again, it comes no later.

        Args:
            keeps_idle: connections may wait for their next request, since others go on; until it is asked for without.
        """
        if not keeps_idle:
            self._farewell.set()
        if self.has_begun:
            return
        self._deadline = trio.current_time() + self._delay_seconds + self._limit_seconds
        self._begun.set()
        if self._tell:
            self._tell(self.count_streams(), 0)

    def skip_delay(self) -> None:
        """Nobody has to notice: the listeners go on elsewhere."""
        self._delay_seconds = 0.0
        self._deadline = min(self._deadline, trio.current_time() + self._limit_seconds)
        self._delaying.cancel()

    async def wait_for_begin(self) -> None:
        """Wait until the end is asked for."""
        await self._begun.wait()

    async def wait_for_farewell(self) -> None:
        """Wait until connections without a request are to end, too."""
        await self._farewell.wait()

    async def wait_for_last_call(self) -> None:
        """Wait until the listeners are to be closed."""
        await self._begun.wait()
        if self._delay_seconds:
            with self._delaying:
                await self._report_until(trio.current_time() + self._delay_seconds)

    async def limit(self, connections: trio.CancelScope) -> None:
        """Tell each second what is left, and cut it when the time is up."""
        await self.report()
        self.note_cut("the drain limit is reached")
        connections.cancel()

    async def report(self) -> None:
        """Tell each second what is left, until the time is up."""
        try:
            await self._report_until(self._deadline)
        finally:
            if self._tell:
                self._tell(0, 0)  # nothing is left, or it is cut, which is told apart
            if self._show:
                self._show("")

    def note_cut(self, reason: str) -> None:
        """What is still in flight is about to be cut, which is logged if anything is."""
        if streams := self.count_streams():
            log.warning("streams cut", streams=streams, reason=reason)
        if self._tell:
            self._tell(0, streams)
        if self.when_cut:
            self.when_cut()

    def describe(self) -> str:
        """How far it is, in a line."""
        streams = self.count_streams()
        return f"draining: {streams} stream{'s' * (streams != 1)} in flight, {self._seconds_left():.0f} s left"

    def _seconds_left(self) -> float:
        return max(0.0, self._deadline - trio.current_time())

    async def _report_until(self, time: float) -> None:
        while (left_seconds := time - trio.current_time()) > 0:
            await trio.sleep(min(REPORT_SECONDS, left_seconds))
            streams = self.count_streams()
            if self._tell:
                self._tell(streams, 0)
            elif self._show:
                self._show(self.describe())
            elif streams:
                log.info("streams in flight", streams=streams, seconds_left=round(self._seconds_left()))
