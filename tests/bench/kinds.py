"""The kinds of load: how requests are put on a server, and which figures come of it."""

from __future__ import annotations

import math
import select
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from tests.bench import h2load
from tests.bench.client import LONGEST_SECONDS, Client, Outcome, measured
from tests.bench.http2 import Blocks, Connection, Request, Stream
from tests.bench.payloads import event, events
from tests.bench.servers import Running

_WARM_SECONDS = 0.25
_SETTLE_SECONDS = 0.5


@dataclass(frozen=True)
class Load(ABC):
    """A load. Its ratios to stock Hypercorn go by the first of `figures`."""

    name: str
    what: str
    unit: str = "requests"

    figures: tuple[str, ...] = ("rate", "cpu", "memory")
    is_fresh: ClassVar[bool] = False  # each round needs a server that was just started

    def suits(self, *, http1: bool) -> bool:
        """A server of this kind can be put under it."""
        return not http1

    @property
    def weight(self) -> int:
        """How many units one right answer is."""
        return 1

    @abstractmethod
    def prepare(self, server: Running, seconds: float) -> int:
        """Warm the server up, and say how large the load has to be to last about so long."""

    @abstractmethod
    def run(self, server: Running, amount: int) -> Outcome:
        """Put the load on the server."""


@dataclass(frozen=True, kw_only=True)
class Steady(Load):
    """So many requests always under way, as fast as they are answered."""

    request: Request
    connections: int
    streams: int
    events_each: int = 0  # the answer is a stream of so many events
    requests_each: int | None = None  # so many requests on a connection

    def suits(self, *, http1: bool) -> bool:
        """HTTP/1.1 needs a connection for each stream: up to a hundred make sense."""
        return not http1 or (self._by_h2load and self.connections * self.streams <= 100)

    @property
    def weight(self) -> int:
        """Streams of events are counted by their events."""
        return self.events_each or 1

    @property
    def _by_h2load(self) -> bool:
        return not self.events_each and self.requests_each is None and h2load.is_present()

    def prepare(self, server: Running, seconds: float) -> int:
        """Warm up with growing amounts. What opening the connections takes is left out of account."""
        lanes = amount = self.connections * self.streams
        less, more = Outcome(), self.run(server, amount)
        while not more.faults and (more.seconds < _WARM_SECONDS or amount == lanes):
            amount *= 2 if more.seconds > _WARM_SECONDS else 4
            less, more = more, self.run(server, amount)
        took = max(more.seconds - less.seconds, more.seconds / 10)
        return max(2, math.ceil((more.right - less.right) / took * seconds / lanes)) * lanes

    def run(self, server: Running, amount: int) -> Outcome:
        """By h2load where it can check the answers, else by the client of this package."""
        shape = {"connections": self.connections, "streams": self.streams, "total": amount}
        if self._by_h2load:
            return h2load.run(server.port, self.request, **shape, http1=server.server.http1)
        return Client(server.port, server.tls, self.request, **shape, requests_each=self.requests_each).run()


@dataclass(frozen=True, kw_only=True)
class Paced(Load):
    """Streams of events at a pace, asked for at once or, with `arrival_seconds`, evenly over that time."""

    connections: int
    streams: int
    count: int
    pause: float
    arrival_seconds: float = 0.0

    figures: tuple[str, ...] = ("cpu", "first_p50", "first_p99", "late_p99", "jitter_p50", "jitter_p99", "memory")

    @property
    def weight(self) -> int:
        """Counted by events."""
        return self.count

    def prepare(self, server: Running, seconds: float) -> int:
        """Warm up with a tenth of the streams. How long it lasts is fixed."""
        total = self.connections * self.streams
        self.run(server, max(10, total // 10))
        return total

    def run(self, server: Running, amount: int) -> Outcome:
        """All streams once."""
        request = Request(f"/events?count={self.count}&pause={self.pause}", events(self.count))
        shape = {"connections": self.connections, "streams": self.streams, "total": amount}
        client = Client(
            server.port, server.tls, request, **shape, pause=self.pause, arrival_seconds=self.arrival_seconds
        )
        return client.run()


@dataclass(frozen=True, kw_only=True)
class Idle(Load):
    """Streams that are open and silent: what each of them costs in memory."""

    connections: int
    streams: int

    figures: tuple[str, ...] = ("stream_kb", "memory")
    is_fresh: ClassVar[bool] = True

    def prepare(self, server: Running, seconds: float) -> int:
        """Have everything loaded that streams need, so that it is not counted."""
        self._measure(server, 10)
        return self.connections * self.streams

    def run(self, server: Running, amount: int) -> Outcome:
        """Open the streams and compare."""
        time.sleep(_SETTLE_SECONDS)
        return self._measure(server, amount)

    def _measure(self, server: Running, amount: int) -> Outcome:
        before = server.group.memory()
        request = Request("/idle", event(0))
        client = Client(
            server.port, server.tls, request, connections=self.connections, streams=self.streams, total=amount
        )
        outcome = client.outcome
        try:
            with measured(outcome):
                client.connect()
                client.ask()
                streams = [each for connection in client.connections.values() for each in connection.streams.values()]
                client.turn_until(lambda: client.is_over or all(stream.body for stream in streams))
                time.sleep(_SETTLE_SECONDS)
            outcome.values["stream_kb"] = (server.group.memory() - before) / 1000 / amount
        finally:
            client.close()
        outcome.right = sum(stream.status == 200 and stream.body == event(0) for stream in streams)
        if outcome.right < amount:
            outcome.faults["not open"] += amount - outcome.right
        return outcome


@dataclass(frozen=True, kw_only=True)
class Beside(Load):
    """A small request after the other, first alone and then beside downloads that never stop, on one connection."""

    small: Request
    large: Request

    figures: tuple[str, ...] = ("beside_p99", "beside_p50", "alone_p99", "alone_p50", "larges", "cpu")

    def prepare(self, server: Running, seconds: float) -> int:
        """Warm up. The amount is in milliseconds."""
        self.run(server, 200)
        return int(seconds * 1000)

    def run(self, server: Running, amount: int) -> Outcome:
        """Half of the time alone, all of it beside."""
        outcome = Outcome()
        talk = _Talk(server, Blocks(self.small, self.large), outcome)
        try:
            for request in (self.small, self.large):
                talk.until_over(talk.ask(request))
            alone = talk.repeat(self.small, amount / 2000)
            with measured(outcome):
                beside = talk.repeat(self.small, amount / 1000, beside=self.large)
        finally:
            talk.close()
        outcome.right = len(beside) + talk.larges
        outcome.values["larges"] = talk.larges / outcome.seconds
        for name, times in (("alone", alone), ("beside", beside)):
            outcome.values[f"{name}_p50"] = quantile(times, 0.5) * 1000
            outcome.values[f"{name}_p99"] = quantile(times, 0.99) * 1000
        return outcome


class _Talk:
    """One connection, and one small request after the other on it."""

    def __init__(self, server: Running, blocks: Blocks, outcome: Outcome) -> None:
        self.larges = 0
        self._connection = Connection(server.port, server.tls, blocks)
        self._outcome = outcome
        self._poll = select.poll()
        self._poll.register(self._connection.socket, select.POLLIN)
        self._deadline = time.perf_counter() + LONGEST_SECONDS
        while not self._connection.is_ready:
            self._turn()

    def ask(self, request: Request) -> Stream:
        """Send a request."""
        stream = self._connection.ask(request)
        self._connection.flush()
        return stream

    def until_over(self, stream: Stream, beside: Request | None = None) -> None:
        """Take what comes until that stream is over."""
        while not stream.ended:
            for ended in self._turn():
                if ended.fault:
                    self._outcome.faults[ended.fault] += 1
                if ended.request is beside:
                    self.larges += not ended.fault
                    self.ask(beside)

    def repeat(self, request: Request, seconds: float, beside: Request | None = None) -> list[float]:
        """Ask one request after the other for so long, but some in any case. Returns how long the right ones took."""
        if beside:
            self.ask(beside)
        times: list[float] = []
        end = time.perf_counter() + seconds
        while time.perf_counter() < end or len(times) < 10:
            stream = self.ask(request)
            self.until_over(stream, beside)
            times.append(stream.ended - stream.opened)
        return times

    def close(self) -> None:
        """End the connection."""
        self._connection.close()

    def _turn(self) -> list[Stream]:
        self._poll.poll(1000)
        ended = self._connection.receive()
        self._connection.flush()
        if self._connection.is_lost or time.perf_counter() > self._deadline:
            raise ConnectionError(f"lost, or not over after {LONGEST_SECONDS:.0f} s")
        return ended


def quantile(values: list[float], share: float) -> float:
    """The value that this share of the values does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else math.nan
