"""The largest of the values of the last while: what happens between two looks at a figure is not lost.

Bookkeeping only: who measures what, and how often, is its user's.
"""

from __future__ import annotations

from collections import deque

RECENT_SECONDS = 30.0
"""Twice what most look at the figures in."""


class RecentMaximum:
    """Values with their times, as far as they can still be the largest.

    Args:
        window_seconds: for so long a value counts.
    """

    def __init__(self, window_seconds: float = RECENT_SECONDS) -> None:
        self._window_seconds = window_seconds
        self._falling: deque[tuple[float, float]] = deque()  # each is larger than those that came after it

    def note(self, value: float, now: float) -> None:
        """Take a value of this moment.

        Args:
            value: 0 or more.
            now: seconds of a monotonic clock.
        """
        falling = self._falling
        while falling and falling[-1][1] <= value:
            falling.pop()
        falling.append((now, value))
        self._forget(now)

    def at(self, now: float) -> float:
        """The largest of the window that ends now; 0 where it holds none."""
        self._forget(now)
        return self._falling[0][1] if self._falling else 0.0

    def _forget(self, now: float) -> None:
        falling = self._falling
        while falling and now - falling[0][0] > self._window_seconds:
            falling.popleft()
