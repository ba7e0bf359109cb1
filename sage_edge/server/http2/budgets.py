"""What one connection's client may send of the frames that cost it little and the server much."""

from __future__ import annotations

from enum import Enum

from sage_edge.core.budgets import Budget
from sage_edge.core.limits import Limits
from sage_edge.server.http2.frames import ConnectionFault, ErrorCode

REFUSALS_FACTOR = 5
"""So many times the streams that may be reset, requests may be refused with an answer, or for a limit that the client
cannot know yet: a proxy passes on those of many clients, of which some ask for what no application is given."""


class Kind(Enum):
    """A kind of frame, or of what frames lead to."""

    RESET = "reset streams"
    REFUSAL = "refused requests"
    PING = "PING or GOAWAY frames"
    SETTINGS = "SETTINGS frames"
    PRIORITY = "PRIORITY frames"
    EMPTY = "empty DATA frames"
    WINDOW_UPDATE = "WINDOW_UPDATE frames"
    BUFFERED_BYTES = "bytes of an address that wait"  # its account's, and no count of frames


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
            Kind.REFUSAL: REFUSALS_FACTOR * limits.max_resets,
            Kind.PING: limits.max_pings,
            Kind.SETTINGS: limits.max_settings,
            Kind.PRIORITY: limits.max_priorities,
            Kind.EMPTY: limits.max_empty_frames,
            Kind.WINDOW_UPDATE: limits.max_window_updates,
        }
        self._budgets = {kind: Budget(count, limits.budget_seconds, now) for kind, count in counts.items()}
        self._free_window_updates = 0

    def spend(self, kind: Kind, now: float) -> None:
        """Count one.

        Raises:
            BudgetFault: it is one too many.
        """
        if not self._budgets[kind].spend(now):
            raise BudgetFault(kind)

    def spend_window_update(self, now: float) -> None:
        """Count a WINDOW_UPDATE, where it is none that DATA calls for.

        Raises:
            BudgetFault: it is one too many.
        """
        if self._free_window_updates:
            self._free_window_updates -= 1
        else:
            self.spend(Kind.WINDOW_UPDATE, now)

    def note_data_sent(self, frames: int) -> None:
        """So many DATA frames were sent, each of which calls for two: its stream's, and the connection's.

        However late they come: a client that has rested answers all that has reached it meanwhile in one breath.
        """
        self._free_window_updates += 2 * frames
