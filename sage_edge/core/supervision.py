"""When a worker is replaced or started again, and when that is in vain.

Decides only: time is passed in, and nothing is started here.
"""

from __future__ import annotations

from sage_edge.core.own_random import own_random

FIRST_DELAY_SECONDS = 0.1
LONGEST_DELAY_SECONDS = 5.0
STEADY_SECONDS = 10.0
"""A worker that was ready for so long, and then ends, is replaced at once."""
MOST_FAILED_STARTS = 5
"""So many in a row that never became ready, and starting another is in vain, unless others serve meanwhile."""
GROWTH = 1.25
"""By how much a worker has to grow that needs more memory than the limit: its successor will need as much."""


class RestartPolicy:
    """The policy of one worker's place.

    Attributes:
        failed_starts: how many in a row never became ready.
    """

    def __init__(self) -> None:
        self.failed_starts = 0
        self._short_lives = 0

    @property
    def is_in_vain(self) -> bool:
        """Whether starts have failed so often that nothing is to be hoped for."""
        return self.failed_starts >= MOST_FAILED_STARTS

    def note_ready(self) -> None:
        """A start has worked."""
        self.failed_starts = 0

    def delay_seconds(self, ready_seconds: float | None) -> float:
        """How long to wait before the next start, now that a worker has ended.

        Args:
            ready_seconds: for how long it was ready; None if it never was.
        """
        if ready_seconds is None:
            self.failed_starts += 1
        if self.is_in_vain:
            return LONGEST_DELAY_SECONDS
        if ready_seconds is not None and ready_seconds >= STEADY_SECONDS:
            self._short_lives = 0
            return 0.0
        self._short_lives += 1
        return float(min(LONGEST_DELAY_SECONDS, FIRST_DELAY_SECONDS * 2 ** min(self._short_lives - 1, 16)))


def most_bytes(limit_bytes: int, needed_bytes: int) -> float:
    """How much memory a worker may have before it is replaced.

    Args:
        limit_bytes: the limit that was asked for.
        needed_bytes: what it is known to need.
    """
    return max(limit_bytes, needed_bytes * GROWTH)


def vary(limit: int) -> int:
    """A limit, moved by up to a tenth: workers that started together are not to leave together."""
    return max(1, round(limit * own_random.uniform(0.9, 1.1)))
