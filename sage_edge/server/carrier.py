"""What the parts of a connection ask of each other: carriers of exchanges, and their host.

The seam between the protocols, which know bytes and no event loop, and `server.connection`, which
has the sockets and tasks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from sage_edge.app.exchange import Event, Exchange
from sage_edge.core.budgets import ClientAccount
from sage_edge.core.exchange import Cause
from sage_edge.core.limits import Limits
from sage_edge.core.metric_families import Metrics

Fields = Iterable[tuple[bytes, bytes]]


class Carrier(Protocol):
    """Carries one exchange: a stream of HTTP/2, or an http/1.1 connection for one request."""

    def start(self, status: int, fields: Fields, *, is_last: bool) -> None:
        """Send the head of an answer. Raises ValueError where a field is not allowed."""

    def write(self, data: bytes, *, is_last: bool) -> None:
        """Send a piece of the body."""

    def trail(self, fields: Fields) -> None:
        """Send trailers, the last of the answer."""

    def credit(self, size_bytes: int) -> None:
        """The application has taken so much of the request."""

    def abort(self) -> None:
        """The answer will not be completed: let the client see that it was cut."""


class NoCarrier:
    """Carries nothing: for an exchange whose application has ended, and holds it no more."""

    def start(self, status: int, fields: Fields, *, is_last: bool) -> None:
        """Send nothing."""

    def write(self, data: bytes, *, is_last: bool) -> None:
        """Send nothing."""

    def trail(self, fields: Fields) -> None:
        """Send nothing."""

    def credit(self, size_bytes: int) -> None:
        """Credit nothing: what is unread was credited at the end."""

    def abort(self) -> None:
        """End nothing."""


class Host(Protocol):
    """What a connection's shell gives to its protocol.

    Attributes:
        limits: of the connection.
        account: of the client's address.
        metrics: where faults are counted.
        client: address and port, None for a Unix socket.
        server: the same.
        is_tls: whether the connection is encrypted.
        tls: what the ASGI TLS extension says of it; None where it is not, or not yet.
        new_event: makes what exchanges wait for.
        has_time: whether there is time to go on with what was read; otherwise that is to `go_on_later`. Asked between
            pieces of work that each take little.
    """

    limits: Limits
    account: ClientAccount
    metrics: Metrics
    client: tuple[str, int] | None
    server: tuple[str, int] | None
    is_tls: bool
    tls: Mapping[str, Any] | None
    new_event: Callable[[], Event]
    has_time: Callable[[], bool]

    def clock(self) -> float:
        """Seconds of a monotonic clock."""

    def run_exchange(self, exchange: Exchange) -> None:
        """Run the application for an exchange."""

    def go_on_later(self, step: Callable[[], None]) -> None:
        """Call back when there is time again. Nothing more is read before that, nor is the client's end told."""

    def become_http2(self, data: bytes) -> None:
        """Go on with HTTP/2, with these bytes first."""

    def wake(self) -> None:
        """There is something to write, or the connection is to be closed."""

    def wake_later(self) -> None:
        """There is something to write that may wait a moment for more."""


class ConnectionProtocol(Protocol):
    """HTTP/2 or http/1.1 on one connection, as its shell sees it.

    Attributes:
        wants_close: nothing more will come once the output is taken; the connection can end.
        has_output: `take_output` would return something.
        may_read: False while what was read waits for room.
        is_behind: an application is still at what came, so that it is not to hear yet of a client's end behind that.
        is_idle: no request is in flight.
        requests_in_flight: how many are, up to the last byte of their answers.
        discards_body: what comes after its end may be a body, whose client looks for its answer only behind it.
    """

    discards_body: bool

    @property
    def wants_close(self) -> bool: ...  # noqa: D102
    @property
    def has_output(self) -> bool: ...  # noqa: D102
    @property
    def may_read(self) -> bool: ...  # noqa: D102
    @property
    def is_behind(self) -> bool: ...  # noqa: D102
    @property
    def is_idle(self) -> bool: ...  # noqa: D102
    @property
    def requests_in_flight(self) -> int: ...  # noqa: D102

    def receive(self, data: bytes) -> None:
        """Take bytes from the client. Raises nothing for what a client may send."""

    def end_input(self) -> None:
        """The client has ended its side; what is left of the output may still be taken."""

    def take_output(self, limit_bytes: int) -> bytes:
        """What is to be written now, about so much of it."""

    def check_time(self, now: float) -> None:
        """Look for waits that have come to their limit. Called about each second."""

    def prepare_drain(self) -> None:
        """A drain is near: serve as before, but let clients know that may go elsewhere while that is possible."""

    def drain(self, *, keeps_idle: bool = False) -> None:
        """Begin no new request, and end once those in flight are over.

        Args:
            keeps_idle: where a client can only be told in an answer, wait for its next request.
        """

    def go_away(self) -> None:
        """The time to drain is up: what can be told of it has its last chance to be written."""

    def lose(self, cause: Cause = Cause.CLIENT_LEFT) -> None:
        """The connection is gone."""

    def end(self, exchange: Exchange) -> None:
        """The application has ended."""

    def let_go(self) -> None:
        """The connection is over, and nothing more is asked of this: hold on to nothing that holds on to it."""
