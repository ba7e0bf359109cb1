"""One request or WebSocket between the server and an application: what waits, and how far it is.

The server makes one for each request and puts it into the scope, where the layers and mounts find
it and take it out again: `receive` and `send` for an application in the same loop, `attach` and
`write` for one elsewhere, which nobody then has to wait for. The server fills it and is asked to
write through the subclasses in `server`. Waits by whatever kind of event it is given.

Cancel-through, when the client goes away: (1) the application receives the disconnect at once,
even while a body waits to be read, (2) its `send` raises OSError, (3) the server cancels it if it
still runs after a grace period.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any, Protocol

from sage_edge.app.asgi import Scope
from sage_edge.core.exchange import (
    NO_MOUNT,
    Cause,
    ClientDisconnectedError,
    Inbox,
    Message,
    ResponseProgress,
    own_message,
    received_cost_bytes,
)
from sage_edge.core.routing import HEALTH_PATHS
from sage_edge.core.timeline import EventMeter, Timeline

EXCHANGE = "sage_edge.exchange"
"""The key in a scope under which the layers find the exchange. Not for applications."""

HIGH_WATER_BYTES = 64 * 1024
"""More than this, accepted and not yet on its way to the client, and `send` waits."""
LOW_WATER_BYTES = HIGH_WATER_BYTES // 2
MESSAGES_A_TURN = 64
"""After so many, `send` lets others run, though nothing waits: a checkpoint costs as much as one or two of them."""


class Event(Protocol):
    """What `trio.Event` and `asyncio.Event` have in common."""

    def set(self) -> None:
        """Wake those who wait."""

    async def wait(self) -> Any:
        """Return once it was set."""


class Meter(Protocol):
    """Counts what happens to answers on their way."""

    def find_events(self, exchange: Exchange) -> EventMeter:
        """Where an answer's events are counted; it is an event stream."""

    def note_wait(self, exchange: Exchange, seconds: float) -> None:
        """An answer had to wait so long for its client to take what was sent."""


class Sink(Protocol):
    """Takes messages in place of `Exchange.receive`."""

    def deliver(self, message: Message) -> None:
        """A message from the client. Must not wait."""

    def restore(self, size_bytes: int) -> None:
        """So much of what was written is on its way to the client."""


WriteBetween = Callable[[bytes], None]
"""Sends something of the edge's own on an event stream, unless its client has gone or is behind with reading it."""
EventStreamCallback = Callable[["Exchange", WriteBetween | None], None]
"""Called with an exchange, and with what writes between its events: None where more than events is announced, an
encoding or a length."""


class Exchange(ABC):
    """The server's side of one ASGI call.

    Attributes:
        scope: as the application sees it, with the exchange itself under `EXCHANGE`.
        progress: how far the answer is.
        status: of the answer, 101 for an accepted WebSocket; 0 before it has begun.
        head_bytes: of the request, as it was sent.
        state_bytes: of memory, beside what any takes, for as long as it is open.
        received_bytes: of the request's body, or of a WebSocket's frames.
        sent_bytes: the same of the answer, as its carrier accepted it; none for HEAD.
        has_begun: its application was started, so that the layers tell how it went.
        is_client_gone: the client left, maybe after it had all of its answer.
        cause: why it ended, or will, before its answer was complete; the first counts. None as long as all is well.
        refusal: the sentence that its connection refused it with; "" where it did not.
        timeline: when what happened.
        mount: the name of what answers, for logs and metrics.
        request_id: the same of the request; "" where nobody gave it one.
        trace_id: of the trace that its span belongs to; "" where it has none.
        connection_id: the number of its connection in this process.
        stream_id: the stream's number over HTTP/2; None over http/1.1.
        waiting_bytes: of the answer, accepted and not yet on their way to the client.
        meter: where set, what happens to the answer is counted there.
        note_event: where set, called with each piece of an event stream as it is sent.
        answer_fields: added to the answer where the application does not set them.
        want: set while the client withholds its body until it is asked for it; asks (RFC 9110 section 10.1.1).
        grace_seconds: how long the application has to end at least, once it is to be cancelled.
        spare: set beside `cancel_later`: takes that back.
    """

    def __init__(self, scope: Scope, new_event: Callable[[], Event]) -> None:
        scope[EXCHANGE] = self
        self.scope = scope
        self.progress = ResponseProgress(is_head=scope.get("method") == "HEAD")
        self.status = 0
        self.head_bytes = self.state_bytes = 0
        self.received_bytes = self.sent_bytes = 0
        self.has_begun = self.is_client_gone = False
        self.cause: Cause | None = None
        self.timeline = Timeline(perf_counter)
        self.mount = NO_MOUNT
        self.refusal = self.request_id = self.trace_id = ""
        self.connection_id = 0
        self.stream_id: int | None = None
        self.waiting_bytes = 0
        self.meter: Meter | None = None
        self.note_event: Callable[[bytes], None] | None = None
        self.answer_fields: Sequence[tuple[bytes, bytes]] = ()
        self.want: Callable[[], None] | None = None
        self.grace_seconds = 0.0
        self._cancel_later: Callable[[], None] | None = None
        self.spare: Callable[[], None] | None = None
        self._is_end_expected = False
        self._sent_messages = 0
        self._new_event = new_event
        self._inbox = Inbox()
        self._sink: Sink | None = None
        self._message_came: Event | None = None
        self._room_came: Event | None = None
        self._when_event_stream: tuple[EventStreamCallback, ...] = ()
        self._when_done: list[Callable[[Exchange], None]] = []

    @property
    def is_abandoned(self) -> bool:
        """Whether the client left before it had the whole answer."""
        return self.is_client_gone and not self.progress.is_delivered

    @property
    def has_ended_well(self) -> bool:
        """Whether nothing was lost of what either side had to say."""
        return self.progress.is_delivered

    @property
    def ending(self) -> str:
        """How it ended, for logs and traces."""
        if self.cause is not None:
            return self.cause.value
        return "complete" if self.has_ended_well else Cause.ERROR.value

    @property
    def passed_on_bytes(self) -> int:
        """Of what was sent, what is on its way, or will be: what waited when the answer was cut never is."""
        return self.sent_bytes if self.cause is None else self.sent_bytes - self.waiting_bytes

    @property
    def is_congested(self) -> bool:
        """Whether as much waits for the client as should before more is accepted."""
        return self.waiting_bytes > LOW_WATER_BYTES

    @property
    def cancel_later(self) -> Callable[[], None] | None:
        """Set by whoever runs the application: cancels it after the grace period."""
        return self._cancel_later

    @cancel_later.setter
    def cancel_later(self, cancel: Callable[[], None] | None) -> None:
        self._cancel_later = cancel
        self._cancel_if_abandoned()  # the client may have left before the application began

    def _cancel_if_abandoned(self) -> None:
        if self._cancel_later is not None and self.is_abandoned:
            self._cancel_later()

    # For the application's side.

    def ask_for_body(self) -> None:
        """The application waits: a client that withholds its body is asked for it, once, and owes it from then on."""
        want, self.want = self.want, None
        if want is not None:
            self.timeline.unread_since = None
            want()

    async def receive(self) -> Message:
        """The application's `receive`."""
        while not self._inbox.has_message:
            if self.progress.is_complete and self.scope["type"] == "http":
                return {"type": "http.disconnect"}
            self.ask_for_body()
            if self._message_came is None:
                self._message_came = self._new_event()
            await self._message_came.wait()
        message = self._inbox.take()
        if size_bytes := received_cost_bytes(message):
            self.consume(size_bytes)
        return message

    async def send(self, message: Message) -> None:
        """The application's `send`; returns once there is room for more.

        Raises:
            ClientDisconnectedError: an OSError, as ASGI asks for: the client has gone.
            UnexpectedMessageError: the message is out of order.
            ValueError: a header field is not allowed.
            TypeError: its body, or a header, is not like bytes.
        """
        self._require_client()
        if type(message.get("body")) is not bytes or "headers" in message:
            message = own_message(message)
        # Again at the next message, where the application gave up waiting after the last. Asked for here, too: a
        # coroutine for each message that has nothing to wait for costs more than all the rest of it.
        if self.waiting_bytes > HIGH_WATER_BYTES:
            await self._wait_for_room()
        self.write(message)
        self._sent_messages += 1
        if self.waiting_bytes > HIGH_WATER_BYTES:
            await self._wait_for_room()
        elif self._sent_messages % MESSAGES_A_TURN == 0:
            await self._let_others_run()

    def attach(self, sink: Sink) -> None:
        """Pass what has come, and all that will, to `sink` instead of `receive`."""
        self._sink = sink
        while self._inbox.has_message:
            message = self._inbox.take()
            sink.deliver(message)
            if message["type"].endswith(".disconnect"):
                break  # it can be taken any number of times

    def detach(self) -> None:
        """Pass nothing more to what was attached."""
        self._sink = None

    @abstractmethod
    def write(self, message: Message) -> None:
        """Take a message of the answer, without waiting; its bodies and headers are `bytes`.

        Dropped once the client has gone.

        Raises:
            UnexpectedMessageError: the message is out of order.
            ValueError: a header field is not allowed.
        """

    @abstractmethod
    def consume(self, size_bytes: int) -> None:
        """The application has taken so much of what the client sent."""

    @abstractmethod
    def deliver_body(self, data: bytes, *, is_last: bool) -> None:
        """Take a piece of what the client sends."""

    @abstractmethod
    def end(self) -> None:
        """The application has ended; an incomplete answer is cut."""

    def when_event_stream(self, callback: EventStreamCallback) -> None:
        """Call back once, when the answer turns out to be an event stream, before its first event."""
        self._when_event_stream += (callback,)

    def when_done(self, callback: Callable[[Exchange], None]) -> None:
        """Call back once, when the answer is complete or, if it never is, when the application has ended."""
        self._when_done.append(callback)

    def finish(self) -> None:
        """Call back those who asked `when_done`."""
        if self._is_end_expected and self.spare is not None:
            self.spare()
        if self.scope["type"] == "http":
            self._inbox.close()
        self._wake_receiver()  # which is given a disconnect
        callbacks, self._when_done = self._when_done, []
        for callback in callbacks:
            callback(self)

    # For the server's side.

    def deliver(self, message: Message) -> None:
        """Take a message from the client."""
        if self._sink is not None:
            self._sink.deliver(message)
            return
        self._inbox.put(message)
        self._wake_receiver()

    def lose_client(self, cause: Cause = Cause.CLIENT_LEFT) -> None:
        """The client has gone; whatever waits goes on, and the application ends soon."""
        if self.is_client_gone:
            return
        self.is_client_gone = True
        if not self.has_ended_well:
            self.note_cause(cause)
        self._note_room()
        self.deliver(self.disconnect_message())
        self._wake_sender()
        self._cancel_if_abandoned()

    def disconnect_message(self) -> Message:
        """What the application receives once it has nothing more to expect of its client."""
        return {"type": "http.disconnect"}

    def go_away(self) -> None:  # noqa: B027  # only WebSocket has one
        """The server ends, and this with it: the client is told, where the protocol has a word for that."""

    def check_progress(self) -> None:  # noqa: B027  # only WebSocket waits for any
        """Called each time that limits of time are looked at."""

    def expect_end(self) -> None:
        """The client has all of its answer, and nothing that follows is for it: it has the grace period to be over.

        Otherwise nobody would end an application that has no end of its own: its client cannot leave any more.
        """
        self._is_end_expected = True
        if self._cancel_later is not None:
            self._cancel_later()

    def note_cause(self, cause: Cause) -> None:
        """Why the answer will not be complete; the first cause counts."""
        if self.cause is None:
            self.cause = cause
            self.timeline.note_lost()

    def note_waiting(self, size_bytes: int) -> None:
        """So much was accepted for the client and waits for its turn. Never more than was sent: both count it here."""
        self.sent_bytes += size_bytes
        self.waiting_bytes += size_bytes
        if self.waiting_bytes > HIGH_WATER_BYTES:
            self.timeline.note_full()

    def note_written(self, size_bytes: int) -> None:
        """So much of what waited is on its way."""
        self.waiting_bytes -= size_bytes
        if self.timeline.waited_since is not None and self.waiting_bytes <= LOW_WATER_BYTES:
            self._note_room()
        if self._sink is not None:
            self._sink.restore(size_bytes)
        elif self._room_came is not None and self.waiting_bytes <= LOW_WATER_BYTES:
            self._wake_sender()

    def _note_room(self) -> None:
        since = self.timeline.waited_since
        if since is not None:
            seconds = self.timeline.note_room(since)
            if self.meter is not None:
                self.meter.note_wait(self, seconds)

    def _require_client(self) -> None:
        if self.is_abandoned:
            raise ClientDisconnectedError

    async def _wait_for_room(self) -> None:
        while self.waiting_bytes > HIGH_WATER_BYTES and not self.is_client_gone:
            if self._room_came is None:
                self._room_came = self._new_event()
            await self._room_came.wait()
            self._require_client()

    async def _let_others_run(self) -> None:
        """Whoever sends in a loop would keep them from it, and could not be cancelled, as long as it need not wait."""
        turn = self._new_event()
        turn.set()
        await turn.wait()  # a checkpoint, which trio's is in any case

    def _wake_receiver(self) -> None:
        came, self._message_came = self._message_came, None
        if came is not None:
            came.set()

    def _wake_sender(self) -> None:
        came, self._room_came = self._room_came, None
        if came is not None:
            came.set()


def take_exchange(scope: Scope) -> tuple[Scope, Exchange | None]:
    """The scope as an application may see it, and the exchange, None where the caller is no server."""
    local = scope.copy()
    return local, local.pop(EXCHANGE, None)


def is_health(exchange: Exchange) -> bool:
    """Whether a balancer asks how the edge is."""
    return exchange.scope["raw_path"] in HEALTH_PATHS


def note_mount(scope: Scope, name: str) -> None:
    """Tell the layers who answers a request."""
    exchange: Exchange | None = scope.get(EXCHANGE)
    if exchange is not None:
        exchange.mount = name
