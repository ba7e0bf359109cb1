"""What one connection's client may send of the frames that cost it little and the server much."""

from __future__ import annotations

from enum import Enum

from sage_edge.core.budgets import Budget
from sage_edge.core.limits import Limits
from sage_edge.server.http2.frames import ConnectionFault, ErrorCode


class Kind(Enum):
    """A kind of frame, or of what frames lead to."""

    RESET = "reset streams"
    PING = "PING or GOAWAY frames"
    SETTINGS = "SETTINGS frames"
    PRIORITY = "PRIORITY frames"
    EMPTY = "empty DATA frames"
    WINDOW_UPDATE = "WINDOW_UPDATE frames"


class BudgetFault(ConnectionFault):
    """A budget is exceeded (RFC 9113 section 10.5).

    Args:
        kind: of the budget.
    """

    def __init__(self, kind: Kind) -> None:
        super().__init__(ErrorCode.ENHANCE_YOUR_CALM, f"too many {kind.value}")
        self.kind = kind


class FrameBudgets:
    """One connection's.

    Args:
        limits: with a budget for each kind.
        now: seconds of a monotonic clock.
    """

    def __init__(self, limits: Limits, now: float) -> None:
        counts = {
            Kind.RESET: limits.max_resets,
            Kind.PING: limits.max_pings,
            Kind.SETTINGS: limits.max_settings,
            Kind.PRIORITY: limits.max_priorities,
            Kind.EMPTY: limits.max_empty_frames,
            Kind.WINDOW_UPDATE: limits.max_window_updates,
        }
        self._budgets = {kind: Budget(count, limits.budget_seconds, now) for kind, count in counts.items()}

    def spend(self, kind: Kind, now: float) -> None:
        """Count one.

        Raises:
            BudgetFault: it is one too many.
        """
        if not self._budgets[kind].spend(now):
            raise BudgetFault(kind)

    def refund(self, kind: Kind, count: int) -> None:
        """Give some back."""
        self._budgets[kind].refund(count)
