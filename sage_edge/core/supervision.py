"""When a worker is replaced or started again, and when to give up.

Decides only: time is passed in, and nothing is started here.
"""

from __future__ import annotations

import random

FIRST_DELAY_SECONDS = 0.1
LONGEST_DELAY_SECONDS = 5.0
STEADY_SECONDS = 10.0
"""A worker that was ready for so long, and then ends, is replaced at once."""
MOST_FAILED_STARTS = 5
"""So many in a row that never became ready, and starting another is in vain."""


class RestartPolicy:
    """The policy of one worker's place."""

    def __init__(self) -> None:
        self._failed_starts = 0
        self._short_lives = 0

    def delay_seconds(self, ready_seconds: float | None) -> float | None:
        """How long to wait before the next start, now that a worker has ended.

        Args:
            ready_seconds: for how long it was ready; None if it never was.

        Returns:
            None to give up.
        """
        if ready_seconds is None:
            self._failed_starts += 1
        else:
            self._failed_starts = 0
        if self._failed_starts >= MOST_FAILED_STARTS:
            return None
        if ready_seconds is not None and ready_seconds >= STEADY_SECONDS:
            self._short_lives = 0
            return 0.0
        self._short_lives += 1
        return float(min(LONGEST_DELAY_SECONDS, FIRST_DELAY_SECONDS * 2 ** min(self._short_lives - 1, 16)))


def vary(limit: int) -> int:
    """A limit, moved by up to a tenth: workers that started together are not to leave together."""
    return max(1, round(limit * random.uniform(0.9, 1.1)))  # noqa: S311
