"""An exchange made from a plain `receive` and `send`, for a caller that is no server of the edge.

Lifespans come that way: they are called by `app.lifespan`, and need no speed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from sage_edge.app.asgi import Receive, Scope, Send
from sage_edge.app.exchange import Exchange
from sage_edge.core.exchange import Message, body_bytes


class CalledExchange(Exchange):
    """Open it around the call; what the application sends is passed on by a task, in order."""

    def __init__(self, scope: Scope) -> None:
        super().__init__(scope.copy(), trio.Event)
        self._outbox: list[Message] = []
        self._is_sending = True
        self._changed = trio.Event()

    @classmethod
    @asynccontextmanager
    async def open(cls, scope: Scope, receive: Receive, send: Send) -> AsyncIterator[CalledExchange]:
        """An exchange that passes messages on both ways, until all that was written is sent."""
        exchange = cls(scope)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(exchange._pump_in, receive)
            async with trio.open_nursery() as sending:
                sending.start_soon(exchange._pump_out, send)
                try:
                    yield exchange
                finally:
                    exchange._is_sending = False
                    exchange._changed.set()
            nursery.cancel_scope.cancel()

    def write(self, message: Message) -> None:
        """Pass a message on, soon."""
        self.progress.note(message)
        self._outbox.append(message)
        self.note_waiting(body_bytes(message))
        self._changed.set()

    def consume(self, size_bytes: int) -> None:
        """Nothing waits for this: the caller's messages are taken as they come."""

    def deliver_body(self, data: bytes, *, is_last: bool) -> None:
        """Take a piece of a request's body."""
        self.deliver({"type": "http.request", "body": data, "more_body": not is_last})

    def end(self) -> None:
        """Nothing is left to do."""

    async def _pump_in(self, receive: Receive) -> None:
        while not self.is_client_gone:
            message = await receive()
            if message["type"].endswith(".disconnect"):
                self.lose_client()
            else:
                self.deliver(message)

    async def _pump_out(self, send: Send) -> None:
        while self._is_sending or self._outbox:
            outbox, self._outbox = self._outbox, []
            for message in outbox:
                await send(message)
                self.note_written(body_bytes(message))
            if not self._outbox and self._is_sending:
                self._changed = trio.Event()
                await self._changed.wait()
