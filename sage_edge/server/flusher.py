"""Writes for every connection that has something to write, once in each turn of the loop.

One task for all connections of a worker: what applications send, in however many tasks, is
collected while they run, and costs each connection one write and the loop one switch.
"""

from __future__ import annotations

from typing import Protocol

import structlog
import trio

log = structlog.get_logger(__name__)


class Flushable(Protocol):
    """A connection, to the flusher."""

    is_dirty: bool

    def flush(self) -> None:
        """Write what is ready."""

    def cut(self) -> None:
        """End now."""


class Flusher:
    """Run it beside the connections."""

    def __init__(self) -> None:
        self._dirty: list[Flushable] = []
        self._came = trio.Event()

    def add(self, connection: Flushable) -> None:
        """Have a connection flushed soon; its `is_dirty` is set already."""
        if not self._dirty:
            self._came.set()
        self._dirty.append(connection)

    async def run(self) -> None:
        """Flush, for ever."""
        while True:
            await self._came.wait()
            self._came = trio.Event()
            dirty, self._dirty = self._dirty, []
            for connection in dirty:
                connection.is_dirty = False
                try:
                    connection.flush()
                except Exception as error:
                    log.error("connection failed", exc_info=error)
                    connection.cut()
