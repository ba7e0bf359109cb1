"""Shares the loop's time between client addresses.

What a client sends can cost far more time than its bytes say, a byte in a frame of its own above all.
So what an address's bytes and handshakes cost in a turn of the loop is counted, and the rest of them wait for the
next turn, in which others are served first. Nobody waits where nobody else has work: a turn is then over at once.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

import trio

from sage_edge.core.budgets import ClientAccount

SHARE_SECONDS = 0.004
"""What an address may take of a turn before its other connections wait."""
WOKEN_AT_ONCE = 8
"""How many of an address's connections try again at the next turn: few reads come to the share, at worst one does."""
DEAR_SECONDS = 0.002
"""The next read is half as large where the last took longer than this, twice as large where it took a quarter."""
LEAST_READ_BYTES, FIRST_READ_BYTES, MOST_READ_BYTES = 1024, 16 * 1024, 64 * 1024


class Fairness:
    """The turns of the loop. Run it beside the connections."""

    def __init__(self) -> None:
        self._turn = 0
        self._waiting: dict[ClientAccount, deque[trio.Event]] = {}
        self._came = trio.Event()

    async def run(self) -> None:
        """Begin a turn whenever somebody waits for one, once all that is runnable has run. For ever."""
        while True:
            await self._came.wait()
            await trio.lowlevel.checkpoint()
            self._turn += 1
            for account, events in list(self._waiting.items()):
                for _ in range(min(WOKEN_AT_ONCE, len(events))):
                    events.popleft().set()
                if not events:
                    del self._waiting[account]
            if not self._waiting:
                self._came = trio.Event()

    async def wait(self, account: ClientAccount) -> None:
        """Wait while the address has had its share of this turn."""
        while account.turn == self._turn and account.spent_seconds > SHARE_SECONDS:
            event = trio.Event()
            self._waiting.setdefault(account, deque()).append(event)
            self._came.set()
            await event.wait()

    def charge(self, account: ClientAccount, seconds: float) -> None:
        """Count time that an address took of this turn."""
        if account.turn != self._turn:
            account.turn = self._turn
            account.spent_seconds = 0.0
        account.spent_seconds += seconds


class Share:
    """One connection's part in its address's share.

    Args:
        fairness: of its worker.
        account: of its client's address.
        clock: seconds.

    Attributes:
        read_bytes: how much to read at once.
    """

    def __init__(
        self, fairness: Fairness, account: ClientAccount, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._fairness = fairness
        self._account = account
        self._clock = clock
        self._began_at = 0.0
        self.read_bytes = FIRST_READ_BYTES

    async def begin(self) -> None:
        """Wait for the connection's turn; from here on its work is timed."""
        await self._fairness.wait(self._account)
        self._began_at = self._clock()

    def end(self) -> None:
        """What was read is dealt with."""
        seconds = self._clock() - self._began_at
        self._fairness.charge(self._account, seconds)
        if seconds > DEAR_SECONDS:
            self.read_bytes = max(LEAST_READ_BYTES, self.read_bytes // 2)
        elif seconds < DEAR_SECONDS / 4:
            self.read_bytes = min(MOST_READ_BYTES, self.read_bytes * 2)
