"""When an end that does not come is given up.

A task of trio's cannot be given up: its loop ends when the last has. So an application in that loop that ignores its
cancellation leaves nothing but to end the process beneath it, which is `server.run`'s to do. One in a thread of its own
is given up by `app.bridge` and `app.gateway_thread`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import trio


class LastResort:
    """Limits how long what runs while it is `watching` may take to end, once that is asked for.

    Args:
        give_up: called when the time is up, and not cancelled.
    """

    def __init__(self, give_up: Callable[[], Awaitable[None]]) -> None:
        self._give_up = give_up
        self._waiting = trio.CancelScope(shield=True)
        self._is_over = False

    def limit(self, seconds: float) -> None:
        """There is so long from now on, in place of what there was before."""
        self._waiting.deadline = trio.current_time() + seconds

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[LastResort]:
        """Watch for as long as this is open."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch)
            try:
                yield self
            finally:
                self._is_over = True
                self._waiting.cancel()

    async def _watch(self) -> None:
        with self._waiting:
            await trio.sleep_forever()
        if not self._is_over:
            with trio.CancelScope(shield=True):
                await self._give_up()
