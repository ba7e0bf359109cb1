"""Shares the loop's time between client addresses.

What a client sends can cost far more time than its bytes say, a byte in a frame of its own above all, or a request
that is given up as soon as it is made. So what an address's bytes and handshakes cost in a turn of the loop is
counted, and how many applications it has started, and the rest of them wait for the next turn, in which others are
served first. Nobody waits where nobody else has work: a turn is then over at once.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

import trio

from sage_edge.core.budgets import ClientAccount
from sage_edge.core.logger import EdgeLogger

log = EdgeLogger(__name__)

SHARE_SECONDS = 0.004
"""What an address may take of a turn before its other connections wait."""
WOKEN_AT_ONCE = 8
"""How many of an address's connections try again at the next turn: few reads come to the share, at worst one does."""
STARTS = 64
"""How many applications an address may start in a turn. They take their time later, in tasks that nobody times."""
MOST_EXPIRING = 500
"""With so many applications that still have to end after their clients left, an address starts no more."""
REST_SECONDS = 0.005
"""How long to wait for those."""
DEAR_SECONDS = 0.002
"""The next read is half as large where the last took longer than this, twice as large where it took a quarter."""
LEAST_READ_BYTES, FIRST_READ_BYTES, MOST_READ_BYTES = 1024, 16 * 1024, 64 * 1024


class Fairness:
    """The turns of the loop. Run it beside the connections."""

    def __init__(self) -> None:
        self._turn = 0
        self._waiting: dict[ClientAccount, deque[trio.Event]] = {}
        self._starts: dict[ClientAccount, deque[Callable[[], None]]] = {}
        self._came = trio.Event()
        self._wanted = trio.Event()  # by somebody who waits for more than others' end

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
            has_started = self._start_queued()
            if not self._waiting and not self._starts:
                self._came = trio.Event()
            elif not self._waiting and not has_started:
                self._wanted = trio.Event()
                with trio.move_on_after(REST_SECONDS):
                    await self._wanted.wait()

    async def wait(self, account: ClientAccount) -> None:
        """Wait while the address has had its share of this turn."""
        while self._has_had_share(account):
            event = trio.Event()
            self._waiting.setdefault(account, deque()).append(event)
            self._came.set()
            self._wanted.set()
            await event.wait()

    def may_start(self, account: ClientAccount) -> bool:
        """Whether the address may start something now, which then counts; otherwise it is for `start_later`."""
        if self._starts and account in self._starts:
            return False
        return self._may_start(account)

    def may_start_for_health(self, account: ClientAccount) -> bool:
        """The same for what does not wait for others to end: a balancer asks how the edge is."""
        return self._count_start(account)

    def start_later(self, account: ClientAccount, start: Callable[[], None]) -> None:
        """Start something in its order in a later turn.

        Args:
            account: of the address.
            start: must raise nothing. By then, who asked for it may have gone.
        """
        self._starts.setdefault(account, deque()).append(start)
        self._came.set()

    def close(self) -> None:
        """No turn will come any more, and all connections are over: start what still waits, so that it ends."""
        for starts in self._starts.values():
            while starts:
                _start(starts.popleft())
        self._starts.clear()

    def _start_queued(self) -> bool:
        has_started = False
        for account, starts in list(self._starts.items()):
            while starts and self._may_start(account):
                _start(starts.popleft())
                has_started = True
            if not starts:
                del self._starts[account]
        return has_started

    def _may_start(self, account: ClientAccount) -> bool:
        return self._count_start(account) and account.expiring < MOST_EXPIRING

    def _count_start(self, account: ClientAccount) -> bool:
        if account.turn != self._turn:
            self._begin_turn(account)
        account.started += 1
        return account.started <= STARTS

    def _has_had_share(self, account: ClientAccount) -> bool:
        return account.turn == self._turn and account.spent_seconds > SHARE_SECONDS

    def left_seconds(self, account: ClientAccount) -> float:
        """What the address has left of its share of this turn."""
        return SHARE_SECONDS - account.spent_seconds if account.turn == self._turn else SHARE_SECONDS

    def _begin_turn(self, account: ClientAccount) -> None:
        account.turn = self._turn
        account.spent_seconds = 0.0
        account.started = 0

    def charge(self, account: ClientAccount, seconds: float) -> None:
        """Count time that an address took of this turn."""
        if account.turn != self._turn:
            self._begin_turn(account)
        account.spent_seconds += seconds


def _start(start: Callable[[], None]) -> None:
    try:
        start()
    except Exception as error:  # one connection's, and none of the others'
        log.error("a request failed to start", exc_info=error)


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
        self._ends_at = 0.0
        self.read_bytes = FIRST_READ_BYTES

    async def begin(self) -> None:
        """Wait for the connection's turn; from here on its work is timed."""
        await self._fairness.wait(self._account)
        self.begin_at_once()

    def begin_at_once(self) -> None:
        """The same for what cannot wait, and has only as much time as is left."""
        self._began_at = self._clock()
        self._ends_at = self._began_at + self._fairness.left_seconds(self._account)

    def has_time(self) -> bool:
        """Whether the connection's work may go on; otherwise, and outside of its turns, it is for a later one."""
        return self._clock() < self._ends_at

    def may_start(self) -> bool:
        """Whether the connection may start something now, which then counts."""
        return self._fairness.may_start(self._account)

    def may_start_for_health(self) -> bool:
        """The same for a question of health, once that was denied."""
        return self._fairness.may_start_for_health(self._account)

    def start_later(self, start: Callable[[], None]) -> None:
        """Start something of the connection's in a later turn."""
        self._fairness.start_later(self._account, start)

    def end(self) -> None:
        """What was read is dealt with, or is to be in a later turn."""
        seconds = self._clock() - self._began_at
        self._ends_at = 0.0
        self._fairness.charge(self._account, seconds)
        if seconds > DEAR_SECONDS:
            self.read_bytes = max(LEAST_READ_BYTES, self.read_bytes // 2)
        elif seconds < DEAR_SECONDS / 4:
            self.read_bytes = min(MOST_READ_BYTES, self.read_bytes * 2)
