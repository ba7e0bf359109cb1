"""The server's side of a request, in memory: an exchange that keeps what is sent.

Here: what `server.connection` and its protocols do to an exchange, as far as an application can
tell. Not here: bytes; and callers that are no server of the edge, which are `asgi_calls.Server`.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable

import trio

from sage_edge.app.asgi import ASGIApplication, Scope
from sage_edge.app.exchange import Event, Exchange
from sage_edge.core.exchange import WINDOW_BYTES, Cause, Message, body_bytes, received_cost_bytes
from tests.kit.asgi_calls import Answer, http_scope, request

LONG_SECONDS = 600.0
"""A grace period that no test waits for."""

UNSENDABLE: Message = {"type": "http.response.start", "status": 200, "headers": [(b"x", b"a\nb")]}
"""The start of an answer that no server can send."""


class RecordingExchange(Answer, Exchange):
    """An exchange and its client.

    Args:
        messages: what the client sends; more can be `put` later.
        scope: a GET's unless given.
        window_bytes: how much the client may send before it is consumed.
        wire_bytes: what a message comes to, on its way to the client.
        new_event: what waits for it waits by.

    Attributes:
        sent: what is on its way to the client.
        delivered_bytes: what of the client's was passed on, as it counts until it is taken.
        consumed_bytes: what of it the application is known to have taken.
        deadline: when the application is to be cancelled, by trio's clock.
        has_ended: the application has.
        is_cut: it ended with its answer incomplete.
    """

    def __init__(
        self,
        *messages: Message,
        scope: Scope | None = None,
        window_bytes: int = WINDOW_BYTES,
        wire_bytes: Callable[[Message], int] = body_bytes,
        new_event: Callable[[], Event] = trio.Event,
    ) -> None:
        Exchange.__init__(self, http_scope() if scope is None else scope, new_event)
        Answer.__init__(self)
        self._window_bytes = window_bytes
        self._wire_bytes = wire_bytes
        self._is_blocked = False
        self._undelivered: deque[Message] = deque()
        self._unwritten: deque[Message] = deque()
        self.delivered_bytes = 0
        self.consumed_bytes = 0
        self.deadline = math.inf
        self.has_ended = False
        self.is_cut = False
        self.put(*messages)

    async def run(self, application: ASGIApplication, *, grace_seconds: float = LONG_SECONDS) -> None:
        """Run the application to its end. Raises what it raises."""
        with trio.CancelScope() as scope:

            def cancel_later() -> None:
                self.deadline = scope.deadline = trio.current_time() + grace_seconds

            self.cancel_later = cancel_later
            try:
                await application(self.scope, self.receive, self.send)
            finally:
                self.end()

    # The client.

    def put(self, *messages: Message) -> None:
        """Let the client send; a disconnect waits for nothing."""
        for message in messages:
            if message["type"] == "websocket.disconnect":
                self.deliver(message)  # after the messages before it, and with its code
            if message["type"].endswith(".disconnect"):
                self.lose_client()
            else:
                self._undelivered.append(message)
                self._deliver_more()

    def lose_client(self, cause: Cause = Cause.CLIENT_LEFT) -> None:
        self._undelivered.clear()
        self._unwritten.clear()
        super().lose_client(cause)

    def block(self) -> None:
        """Let the client read no more."""
        self._is_blocked = True

    def unblock(self) -> None:
        """Let the client go on reading."""
        self._is_blocked = False
        self._write_more()

    # The server.

    def write(self, message: Message) -> None:
        if any(b"\n" in value for _, value in message.get("headers", ())):
            raise ValueError("a header that cannot be sent")
        self.progress.note(message)
        kind = message["type"]
        has_body = self.scope.get("method") != "HEAD" or not kind.endswith(".body")
        if has_body and not self.is_client_gone and not self.is_cut:
            self.status = message.get("status") or {"websocket.accept": 101}.get(kind, self.status)
            if kind == "websocket.close":
                self.status = self.status or 403
            self.note_waiting(self._wire_bytes(message))
            self._unwritten.append(message.copy())
            self._write_more()
        if self.progress.is_complete:
            self.finish()

    def consume(self, size_bytes: int) -> None:
        self.consumed_bytes += size_bytes
        self._deliver_more()

    def deliver_body(self, data: bytes, *, is_last: bool) -> None:
        self.put(request(data, more_body=not is_last))

    def end(self) -> None:
        self.has_ended = True
        self.is_cut = not self.progress.is_complete and not self.is_client_gone
        self.finish()

    def _deliver_more(self) -> None:
        while self._undelivered:
            size_bytes = received_cost_bytes(self._undelivered[0])
            if self.delivered_bytes + size_bytes - self.consumed_bytes > self._window_bytes:
                return
            self.delivered_bytes += size_bytes
            self.received_bytes += body_bytes(self._undelivered[0])
            message = self._undelivered.popleft()
            if not message.get("more_body"):
                self.timeline.note_received()
            self.deliver(message)

    def _write_more(self) -> None:
        while self._unwritten and not self._is_blocked:
            message = self._unwritten.popleft()
            self.note_written(self._wire_bytes(message))
            self.note_sent(message)

    def disconnect_message(self) -> Message:
        """What the application receives once it has nothing more to expect of its client."""
        if self.scope["type"] == "http":
            return super().disconnect_message()
        return {"type": "websocket.disconnect", "code": 1006}
