"""The applications of one connection: their tasks, what they cost, when they are cancelled, and when nothing is left.

What they receive and send is their exchanges'. The connection may be closed before they have ended.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import trio

from sage_edge.app.asgi import ASGIApplication
from sage_edge.app.exchange import EXCHANGE, Exchange
from sage_edge.core.budgets import ClientAccount
from sage_edge.core.exchange import Cause
from sage_edge.core.logger import EdgeLogger

log = EdgeLogger(__name__)

PATIENT_WITH = 250
"""With so many of an address's applications that have their time to end, others of it are cancelled at once."""


class RunningApplications:
    """One connection's.

    Args:
        application: the stack.
        account: of the client's address.
        grace_seconds: how long one goes on after its client left.
        when_left: called once, when the connection is closed and nothing that its client asked for and left behind
            runs any more. What goes on after a whole answer may do so.
    """

    def __init__(
        self,
        application: ASGIApplication,
        account: ClientAccount,
        grace_seconds: float,
        when_left: Callable[[], None],
    ) -> None:
        self._application = application
        self._account = account
        self._grace_seconds = grace_seconds
        self._when_left: Callable[[], None] | None = when_left
        self._exchanges: set[Exchange] = set()
        self._is_closed = False

    def __len__(self) -> int:
        return len(self._exchanges)

    def add(self, exchange: Exchange) -> None:
        """One is about to begin."""
        self._exchanges.add(exchange)
        self._account.add_request(exchange.head_bytes, exchange.state_bytes)

    def remove(self, exchange: Exchange) -> None:
        """One that was added has ended, or does not begin."""
        self._exchanges.discard(exchange)
        self._account.remove_request(exchange.head_bytes, exchange.state_bytes)
        self._tell_if_left()
        exchange.scope.pop(EXCHANGE, None)  # the two would keep each other until the collector comes

    async def run(self, exchange: Exchange, when_ended: Callable[[Exchange], None]) -> None:
        """Run the application for an exchange that was added."""
        scope = trio.CancelScope()
        try:
            with scope:
                exchange.cancel_later = partial(self._cancel_later, scope, exchange)
                exchange.spare = partial(self._spare, scope)
                try:
                    await self._application(exchange.scope, exchange.receive, exchange.send)
                except Exception as error:
                    log.error("request failed beyond rescue", exc_info=error)
        except trio.Cancelled:  # the worker's: the time to drain is up
            if not exchange.has_ended_well:
                exchange.note_cause(Cause.DRAINED)
            raise
        finally:
            if self._account.expiring:  # it may be one of them
                self._spare(scope)
            # Its end may be its client's leaving, too, and nothing is left to be cancelled.
            exchange.cancel_later = None
            exchange.spare = None
            when_ended(exchange)
            self.remove(exchange)

    def leave_behind(self) -> None:
        """The process ends beneath those that run: what is told of each at its end is told now."""
        for exchange in self._exchanges:
            exchange.finish()

    def close(self) -> None:
        """The connection is closed, and the exchanges know."""
        self._is_closed = True
        self._tell_if_left()

    def _tell_if_left(self) -> None:
        if self._is_closed and self._when_left and not any(map(_is_left_behind, self._exchanges)):
            when_left, self._when_left = self._when_left, None
            when_left()

    def _cancel_later(self, scope: trio.CancelScope, exchange: Exchange) -> None:
        self._spare(scope)
        grace_seconds = 0.0
        if self._account.expiring < PATIENT_WITH:
            grace_seconds = max(self._grace_seconds, exchange.grace_seconds)
        self._account.expiring += 1
        scope.deadline = trio.current_time() + grace_seconds

    def _spare(self, scope: trio.CancelScope) -> None:
        if scope.deadline != math.inf:
            scope.deadline = math.inf
            self._account.expiring -= 1


def _is_left_behind(exchange: Exchange) -> bool:
    return exchange.is_abandoned and not exchange.has_ended_well
