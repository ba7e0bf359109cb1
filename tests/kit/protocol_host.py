"""What a connection's shell is to its protocol, and an application to its exchange, in memory and without waiting."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

from sage_edge.app.exchange import Event, Exchange
from sage_edge.core.budgets import ClientAccount
from sage_edge.core.exchange import Message
from sage_edge.core.limits import Limits
from sage_edge.core.metric_families import Metrics
from sage_edge.core.settings import Settings

Field = tuple[bytes, bytes]


class Waiting(Exception):  # noqa: N818  # it is no error
    """Whoever waits would go on waiting."""


class NeverEvent:
    """Nobody waits in these tests; whoever would, is told."""

    def set(self) -> None:
        """Nobody waits."""

    async def wait(self) -> None:
        """Raises `Waiting`."""
        raise Waiting


@lru_cache(maxsize=1)
def _default_limits() -> Limits:
    return Settings().limits


def default_limits(**changed: Any) -> Limits:
    """The settings' defaults, but for these."""
    return replace(_default_limits(), **changed)


class FakeHost:
    """A connection's shell, without a connection.

    Attributes:
        now: what its clock shows.
        exchanges: that were to be run, in order.
        is_out_of_time: nothing goes on until `go_on` is called; otherwise there is all the time of the world.
        postponed: what then waits, in order.
        wakes: how often it was woken, at once or later.
        late_wakes: how often later.
    """

    def __init__(self, limits: Limits, account: ClientAccount | None = None) -> None:
        self.limits = limits
        self.account = ClientAccount(limits.max_buffered_bytes) if account is None else account
        self.metrics = Metrics()
        self.client: tuple[str, int] | None = ("192.0.2.7", 50_000)
        self.server: tuple[str, int] | None = ("192.0.2.1", 443)
        self.is_tls = True
        self.tls: Mapping[str, Any] | None = None
        self.new_event: type[Event] = NeverEvent
        self.now = 1000.0
        self.exchanges: list[Exchange] = []
        self.is_out_of_time = False
        self.postponed: list[Callable[[], None]] = []
        self.wakes = 0
        self.late_wakes = 0

    def clock(self) -> float:
        return self.now

    def run_exchange(self, exchange: Exchange) -> None:
        exchange.has_begun = True
        self.exchanges.append(exchange)

    def has_time(self) -> bool:
        return not self.is_out_of_time

    def go_on_later(self, step: Callable[[], None]) -> None:
        if not self.is_out_of_time:
            step()
        elif step not in self.postponed:
            self.postponed.append(step)

    def go_on(self) -> bool:
        """Do what waits, once, as in a turn of its own; whether there was something."""
        steps, self.postponed = self.postponed, []
        for step in steps:
            step()
        return bool(steps)

    def become_http2(self, data: bytes) -> None:
        raise AssertionError("it is HTTP/2")

    def wake(self) -> None:
        self.wakes += 1

    def wake_later(self) -> None:
        """The same, here."""
        self.late_wakes += 1
        self.wake()


# What an application does.


def start(status: int = 200, *headers: Field, trailers: bool = False) -> Message:
    """The head of an answer."""
    return {"type": "http.response.start", "status": status, "headers": list(headers), "trailers": trailers}


def body(data: bytes = b"", *, more: bool = False) -> Message:
    """A piece of its body, the last unless there is more."""
    return {"type": "http.response.body", "body": data, "more_body": more}


def respond(exchange: Exchange, data: bytes = b"", *headers: Field, status: int = 200) -> None:
    """Answer a request."""
    exchange.write(start(status, *headers))
    exchange.write(body(data))


def receive(exchange: Exchange) -> Message | None:
    """The application's next message; None where it would wait."""
    try:
        exchange.receive().send(None)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]  # a coroutine's result
    except Waiting:
        return None
    raise AssertionError("it waits for something else")


def read_body(exchange: Exchange) -> bytes:
    """What came of the request's body until now; the application takes it."""
    data = b""
    while (message := receive(exchange)) is not None and message["type"] == "http.request":
        data += message["body"]
        if not message["more_body"]:
            break
    return data
