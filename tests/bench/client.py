"""Loads put on a server with the lean connection, every answer checked."""

from __future__ import annotations

import gc
import itertools
import select
import ssl
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.bench.http2 import Blocks, Connection, Request, Stream
from tests.bench.payloads import EVENT_BYTES

_ARRIVAL_TICK_SECONDS = 0.001
LONGEST_SECONDS = 90.0


@dataclass
class Outcome:
    """What came of a load. `right` counts the answers that were complete and correct."""

    right: int = 0
    seconds: float = 0.0
    client_cpu: float = 0.0
    faults: Counter[str] = field(default_factory=Counter)
    firsts: list[float] = field(default_factory=list)  # seconds from request to first byte
    jitters: list[float] = field(default_factory=list)  # seconds by which gaps between events were off
    lates: list[float] = field(default_factory=list)  # seconds by which the last event came after the timetable
    values: dict[str, float] = field(default_factory=dict)  # what a load measures beyond these

    @property
    def rate(self) -> float:
        """Right answers a second."""
        return self.right / self.seconds if self.seconds else 0.0


@contextmanager
def measured(outcome: Outcome) -> Iterator[None]:
    """Take the time, and the client's CPU time, with garbage collection held off."""
    gc.collect()
    gc.disable()
    began, cpu = time.perf_counter(), time.process_time()
    try:
        yield
    finally:
        outcome.seconds = time.perf_counter() - began
        outcome.client_cpu = time.process_time() - cpu
        gc.enable()


class Client:
    """Keeps `streams` requests under way on each of `connections`, until `total` are over.

    `requests_each` is how many a connection is used for before it is replaced by a new one; without it connections
    are opened before the clock starts, and kept. `pause` is the time between the events of a stream: given, it is
    measured how well it is kept. With `arrival_seconds` the requests are not asked at once, but evenly over that time.
    """

    def __init__(
        self,
        port: int,
        tls: ssl.SSLContext,
        request: Request,
        *,
        connections: int,
        streams: int,
        total: int,
        requests_each: int | None = None,
        pause: float | None = None,
        arrival_seconds: float = 0.0,
    ) -> None:
        self.outcome = Outcome()
        self.connections: dict[int, Connection] = {}
        self._port, self._tls, self._request, self._blocks = port, tls, request, Blocks(request)
        self._count, self._streams, self._total = min(connections, total), streams, total
        self._requests_each, self._pause = requests_each, pause
        self._asked = self._over = 0
        self._arrival_seconds = arrival_seconds
        self._begun_at = 0.0
        self._has_begun = False
        self._epoll = select.epoll()

    def run(self) -> Outcome:
        """Put the load on the server."""
        try:
            if self._requests_each is None:
                self.connect()
            with measured(self.outcome):
                self.ask()
                self.turn_until(lambda: self.is_over)
        finally:
            self.close()
        return self.outcome

    @property
    def is_over(self) -> bool:
        """All requests have been answered, or have failed."""
        return self._over >= self._total

    def connect(self) -> None:
        """Open all connections, and wait for their handshakes."""
        for _ in range(self._count):
            self._open()
        self.turn_until(lambda: all(each.is_ready for each in self.connections.values()))

    def ask(self) -> None:
        """Ask as many requests as are to be under way at once."""
        self._begun_at = time.perf_counter()
        if self._arrival_seconds:
            self._in_turn = itertools.cycle(list(self.connections.values()))
            return
        self._has_begun = True
        for _ in range(self._count - len(self.connections)):
            self._open()
        for connection in self.connections.values():
            self._fill(connection)

    def turn_until(self, is_done: Callable[[], bool]) -> None:
        """Take answers and ask anew. What is not over after a long time is counted as a fault."""
        deadline = time.perf_counter() + LONGEST_SECONDS
        while not is_done():
            self._ask_due()
            for descriptor, mask in self._epoll.poll(_ARRIVAL_TICK_SECONDS if self._awaits_arrivals else 1.0):
                connection = self.connections[descriptor]
                self._take(connection.receive() if mask & ~select.EPOLLOUT else [])
                if connection.is_lost or (connection.used == self._requests_each and not connection.streams):
                    self._replace(connection)
                else:
                    self._fill(connection)
            if time.perf_counter() > deadline:
                self.outcome.faults[f"not over after {LONGEST_SECONDS:.0f} s"] += max(1, self._total - self._over)
                return

    def close(self) -> None:
        """Close all connections."""
        for connection in self.connections.values():
            connection.close()
        self.connections.clear()
        self._epoll.close()

    def _open(self) -> None:
        connection = Connection(self._port, self._tls, self._blocks, is_timed=self._pause is not None)
        self.connections[connection.socket.fileno()] = connection
        self._epoll.register(connection.socket, select.EPOLLIN)

    @property
    def _awaits_arrivals(self) -> bool:
        return self._arrival_seconds > 0 and self._begun_at > 0 and self._asked < self._total

    def _ask_due(self) -> None:
        """Ask the requests whose time has come, on the connections in turn."""
        if not self._awaits_arrivals:
            return
        share = min(1.0, (time.perf_counter() - self._begun_at) / self._arrival_seconds)
        while self._asked < share * self._total:
            connection = next(self._in_turn)
            connection.ask(self._request)
            self._asked += 1
            self._fill(connection)

    def _replace(self, connection: Connection) -> None:
        if not connection.used:
            raise ConnectionError("a connection was lost before it could be used")
        self._epoll.unregister(connection.socket)
        del self.connections[connection.socket.fileno()]
        connection.close()
        if self._asked + len(self.connections) < self._total:
            self._open()

    def _fill(self, connection: Connection) -> None:
        """Ask until as many requests are under way as should be, and send them."""
        most = self._requests_each or self._total
        if self._has_begun and connection.is_ready:
            while len(connection.streams) < self._streams and self._asked < self._total and connection.used < most:
                connection.ask(self._request)
                self._asked += 1
        had_unsent = connection.has_unsent
        connection.flush()
        if connection.has_unsent != had_unsent:
            wanted = select.EPOLLIN | select.EPOLLOUT if connection.has_unsent else select.EPOLLIN
            self._epoll.modify(connection.socket, wanted)

    def _take(self, ended: list[Stream]) -> None:
        for stream in ended:
            self._over += 1
            if stream.fault:
                self.outcome.faults[stream.fault] += 1
                continue
            self.outcome.right += 1
            if self._pause is not None:
                self._time(stream, self._pause)

    def _time(self, stream: Stream, pause: float) -> None:
        """How long the first event took, how late the last was, and by how much the gaps between events were off."""
        timetable = pause * (len(stream.body) // EVENT_BYTES - 1)
        self.outcome.firsts.append(stream.arrivals[0][0] - stream.opened)
        self.outcome.lates.append(stream.arrivals[-1][0] - stream.opened - timetable)
        before, known = 0.0, 0
        for at, length in stream.arrivals:
            for _ in range(length // EVENT_BYTES - known):
                if before:
                    self.outcome.jitters.append(abs(at - before - pause))
                before = at
            known = length // EVENT_BYTES
