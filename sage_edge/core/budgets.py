"""Budgets for what a client may do and cost: frames of a kind in an interval, and memory.

Time is passed in. What an exhausted budget leads to is decided where it is spent.
"""

from __future__ import annotations

from weakref import WeakValueDictionary

REQUEST_COST_BYTES = 16 * 1024
"""What a request takes of memory beside its head, as long as its application runs: measured."""
REQUESTS_FACTOR = 3
"""Open requests may take so many times what may wait for an address: what it is served with, and no backlog."""
HEAD_COST_FACTOR = 2
"""How many bytes of memory each byte of a head counts for: it is kept as it came, and in pieces."""


class Budget:
    """So many in an interval, used up at once or spread out: a token bucket.

    Args:
        limit: the tokens it holds.
        per_seconds: how long it takes to fill.
        now: seconds of a monotonic clock.
    """

    __slots__ = ("_left", "_limit", "_per_second", "_updated_at")

    def __init__(self, limit: int, per_seconds: float, now: float) -> None:
        self._limit = limit
        self._per_second = limit / per_seconds
        self._left = float(limit)
        self._updated_at = now

    def spend(self, now: float) -> bool:
        """Take one; False where there is none left."""
        self._left = min(self._limit, self._left + (now - self._updated_at) * self._per_second)
        self._updated_at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


class ClientAccount:
    """What one client address has of the process, over all its connections.

    Attributes:
        connections: open.
        buffered_bytes: of heads, bodies and answers that wait in memory.
        open_bytes: of those, what its open requests take as long as they run, whether anything happens or not.
        requests: whose applications run, or are to.
        expiring: applications that have their time to end, since their client left.
        turn: of the loop, in which it last had something done.
        spent_seconds: what that took of the turn.
        started: how many applications it has started in the turn.
    """

    __slots__ = (
        "__weakref__",
        "_max_buffered_bytes",
        "buffered_bytes",
        "connections",
        "expiring",
        "open_bytes",
        "requests",
        "spent_seconds",
        "started",
        "turn",
    )

    def __init__(self, max_buffered_bytes: int) -> None:
        self._max_buffered_bytes = max_buffered_bytes
        self.connections = 0
        self.buffered_bytes = 0
        self.open_bytes = 0
        self.requests = 0
        self.expiring = 0
        self.turn = 0
        self.spent_seconds = 0.0
        self.started = 0

    def add_request(self, head_bytes: int, state_bytes: int) -> None:
        """One has come, whose application runs soon; the bytes are of its head, and of what it takes beside that."""
        self._add_requests(1, HEAD_COST_FACTOR * head_bytes + state_bytes)

    def remove_request(self, head_bytes: int, state_bytes: int) -> None:
        """One that was added is over, or does not run."""
        self._add_requests(-1, -HEAD_COST_FACTOR * head_bytes - state_bytes)

    def _add_requests(self, count: int, size_bytes: int) -> None:
        self.requests += count
        self.buffered_bytes += size_bytes
        self.open_bytes += size_bytes

    @property
    def is_exhausted(self) -> bool:
        """Whether as much is buffered as may be, or as many requests are open."""
        max_bytes = self._max_buffered_bytes
        return self.buffered_bytes >= max_bytes or self.requests * REQUEST_COST_BYTES >= REQUESTS_FACTOR * max_bytes

    @property
    def has_ample_room(self) -> bool:
        """Whether so little is buffered that some may be spent on what a client can do without."""
        return 2 * self.buffered_bytes < self._max_buffered_bytes

    @property
    def may_read_ahead(self) -> bool:
        """The same of what is read before anybody asks for it, which many connections do at once."""
        return 4 * self.buffered_bytes < self._max_buffered_bytes

    def share_of_waiting(self, own_bytes: int) -> float:
        """What waits beside so much, and beside what open requests take in any case, as a part of all that may."""
        return (self.buffered_bytes - self.open_bytes - own_bytes) / self._max_buffered_bytes


class Accounts:
    """The accounts of all client addresses that have a connection, or whose requests still run.

    Attributes:
        connections: how many are open.
    """

    def __init__(self, *, max_connections: int, max_connections_per_client: int, max_buffered_bytes: int) -> None:
        self._max_connections = max_connections
        self._max_connections_per_client = max_connections_per_client
        self._max_buffered_bytes = max_buffered_bytes
        # An account is kept by what it is charged for, so that nobody starts anew by leaving.
        self._by_client: WeakValueDictionary[str, ClientAccount] = WeakValueDictionary()
        self.connections = 0

    @property
    def is_full(self) -> bool:
        """Whether as many connections are open as may be."""
        return self.connections >= self._max_connections

    def open(self, client: str) -> ClientAccount | None:
        """Account for a new connection; None where it is one too many."""
        account = self._by_client.get(client)
        if account is None:
            account = ClientAccount(self._max_buffered_bytes)
        if self.is_full or account.connections >= self._max_connections_per_client:
            return None
        self._by_client[client] = account
        self.connections += 1
        account.connections += 1
        return account

    def close(self, account: ClientAccount) -> None:
        """One of its connections was closed."""
        account.connections -= 1
        self.connections -= 1
