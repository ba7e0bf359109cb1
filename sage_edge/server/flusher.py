"""Writes for every connection that has something to write, once in each turn of the loop.

One task for all connections of a worker: what applications send, in however many tasks, is
collected while they run, and costs each connection one write and the loop one switch.
"""

from __future__ import annotations

from typing import Protocol

import trio

GATHER_SECONDS = 0.001
"""How long pieces of answers that go on are gathered, where a connection was written to just before."""


class Flushable(Protocol):
    """A connection, to the flusher.

    Attributes:
        is_dirty: it is to be flushed soon.
        is_gathering: it is to be flushed later.
        flushed_at: when it was.
    """

    is_dirty: bool
    is_gathering: bool
    flushed_at: float

    def flush(self) -> None:
        """Write what is ready."""

    def wake(self) -> None:
        """Be flushed soon."""

    def fail(self, error: Exception) -> None:
        """End now, for a fault of the edge, which is logged as the connection's."""


class Flusher:
    """Run it beside the connections."""

    def __init__(self) -> None:
        self._dirty: list[Flushable] = []
        self._came = trio.Event()
        self._later: list[Flushable] = []
        self._later_came = trio.Event()

    def add(self, connection: Flushable) -> None:
        """Have a connection flushed soon; its `is_dirty` is set already."""
        if not self._dirty:
            self._came.set()
        self._dirty.append(connection)

    def add_later(self, connection: Flushable) -> None:
        """Have a connection flushed within a millisecond, or soon where it was not for so long.

        Many streams that each say a little, at times of their own, then cost one write and not one each.
        """
        if trio.current_time() - connection.flushed_at >= GATHER_SECONDS:
            connection.is_dirty = True
            self.add(connection)
            return
        if not self._later:
            self._later_came.set()
        connection.is_gathering = True
        self._later.append(connection)

    async def run(self) -> None:
        """Flush, for ever."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._run_later)
            await self._run()

    async def _run_later(self) -> None:
        while True:
            await self._later_came.wait()
            self._later_came = trio.Event()
            await trio.sleep(GATHER_SECONDS)
            later, self._later = self._later, []
            for connection in later:
                connection.is_gathering = False
                connection.wake()

    async def _run(self) -> None:
        while True:
            await self._came.wait()
            self._came = trio.Event()
            dirty, self._dirty = self._dirty, []
            now = trio.current_time()
            for connection in dirty:
                connection.is_dirty = False
                connection.flushed_at = now
                try:
                    connection.flush()
                except Exception as error:
                    connection.fail(error)
