"""What a connection has still to do with the bytes that it has read, once its address has had its share of a turn.

What the steps are, and when there is no time left for the next, is its protocol's; when a turn comes, `fairness`'s.
"""

from __future__ import annotations

from collections.abc import Callable

from sage_edge.server.fairness import Share


class PostponedWork:
    """One connection's.

    Args:
        share: of the loop's turn.
    """

    def __init__(self, share: Share) -> None:
        self._share = share
        self._steps: dict[Callable[[], None], None] = {}  # each once, in their order
        self._is_run = False

    @property
    def is_empty(self) -> bool:
        """Whether nothing is left to do."""
        return not self._steps

    def add(self, step: Callable[[], None]) -> bool:
        """Have a step done in a later turn; it may add itself again. Whether that needs somebody to `run` it."""
        self._steps[step] = None
        is_first, self._is_run = not self._is_run, True
        return is_first

    async def run(self) -> None:
        """Do all of it, each step in a turn with time for it."""
        while self._steps:
            await self._share.begin()
            step = next(iter(self._steps))
            del self._steps[step]
            step()
            self._share.end()
        self._is_run = False
