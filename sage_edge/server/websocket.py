"""The WebSocket side of an exchange: its session's bytes on one side, ASGI messages on the other."""

from __future__ import annotations

from collections import deque

from wsproto.frame_protocol import CloseReason

from sage_edge.app.asgi import Scope
from sage_edge.app.exchange import HIGH_WATER_BYTES, LOW_WATER_BYTES
from sage_edge.core.exchange import WINDOW_BYTES, Cause, ClientDisconnectedError, Message, received_cost_bytes
from sage_edge.server.carrier import Carrier, Host
from sage_edge.server.http_exchange import NO_CARRIER, AnsweringExchange, complete_fields
from sage_edge.server.websocket_handshake import WebSocketOffer
from sage_edge.server.websocket_session import WebSocketSession, read_close

LAST_MESSAGES_BYTES = 256 * 1024
"""How much of what a client said before its end waits for its application at once. The rest follows as that is taken
where the client ended its side; where its connection is lost there is no more, nor more than there is time for."""
PATIENCE_SECONDS, SHORT_PATIENCE_SECONDS = 10.0, 1.0
"""How long an application may take nothing of what waits before it hears that its client has left behind that: the
shorter where much waits for the client's address."""
DECODED_BYTES = 1024
"""How much is decoded at once: each six bytes may be a frame of nothing, and there is a look at the time between."""
DEFLATED_BYTES = 512
"""The same where it may be deflated: each byte may hold a thousand."""
SCARCE_BYTES = 64
"""The same of such bytes where much waits for the client's address, or the client has left, as others may have."""
CROWDED_SHARE, LARGE_SHARE = 0.25, 0.375
"""Of what may wait for an address, what does so on others of its connections and streams. From the first on, what is
deflated is decoded a little at a time; from the second, large messages of that kind are refused."""
HELD_BYTES = WINDOW_BYTES // 4
"""What an application has taken of more than that counts for its client until it asks for the next."""
CLOSED_GRACE_SECONDS = 60.0
"""How long an application has for what it still has to do, once its client has closed with a word."""
GOING_AWAY_CLOSE = 1001
"""The server ends (RFC 6455 section 7.4.1)."""
ABNORMAL_CLOSE = 1006
"""The client left without a word (RFC 6455 section 7.1.5)."""
INTERNAL_ERROR_CLOSE = 1011
"""The application ended without a word."""


class WebSocketExchange(AnsweringExchange):
    """A WebSocket, or the answer that denies it.

    Args:
        scope: ASGI's.
        host: the connection's shell.
        carrier: a stream, or a connection after its upgrade.
        offer: the client's handshake.
    """

    lowest_status = 300
    """Of a denial: one below would open the WebSocket (RFC 8441 section 5)."""

    def __init__(self, scope: Scope, host: Host, carrier: Carrier, offer: WebSocketOffer) -> None:
        super().__init__(scope, host.new_event, carrier)
        self._host = host
        self._account = host.account
        self._metrics = host.metrics
        self._session = WebSocketSession(
            offer, max_message_bytes=host.limits.max_message_bytes, may_deflate=host.account.has_ample_room
        )
        self.state_bytes = self._session.state_bytes
        self._is_http2 = offer.key is None
        self._is_open = False
        self._has_closed = False  # END_STREAM, or its like, is written
        self._has_input_ended = False
        self._progressed_at = 0.0  # when the application last took something, or had nothing to take
        self._is_client_closing = False
        self._undecoded: deque[memoryview] = deque()
        self._uncredited_bytes = 0
        self._untaken_bytes = 0
        self._held_bytes = 0  # of what the application has taken, in the account
        self._partial_bytes = 0  # of a message that is not whole, in the account
        self.timeline.note_received()
        self.deliver({"type": "websocket.connect"})

    @property
    def has_ended_well(self) -> bool:
        """Whether either side has closed it with a word."""
        return self.progress.is_delivered or self._is_client_closing

    @property
    def has_stopped(self) -> bool:
        """Whether its application takes nothing of what waits for it."""
        patience_seconds = SHORT_PATIENCE_SECONDS if self._is_pressed else PATIENCE_SECONDS
        return self._untaken_bytes > 0 and self._host.clock() - self._progressed_at > patience_seconds

    def write(self, message: Message) -> None:
        """Take a message from the application."""
        kind = message["type"]
        if self._is_client_closing and kind == "websocket.send":
            raise ClientDisconnectedError
        if self.is_abandoned:
            return
        if kind == "websocket.send":
            self.progress.note(message)
            self._session.send(message)
            self._flush()
        elif kind == "websocket.accept":
            self.progress.note(message)
            self._accept(message)
        elif kind == "websocket.close":
            if self._is_open:
                read_close(message)  # before it is noted: one that cannot be sent closes nothing
            self.progress.note(message)
            self._close(message)
        elif kind == "websocket.http.response.start":
            self._begin_answer(message)
        elif kind == "websocket.http.response.body":
            self._write_body(message)
        else:
            raise ValueError(f"{kind} is not a message of a WebSocket")
        if self.progress.is_complete:
            if not self._is_open:
                self.deliver(self.disconnect_message())  # it is denied, and nothing else will come
            self.finish()

    def consume(self, size_bytes: int) -> None:
        """The application has taken so much of the client's messages."""
        size_bytes = min(size_bytes, self._untaken_bytes)  # none is left once the application has ended
        self._untaken_bytes -= size_bytes
        self._account.buffered_bytes -= size_bytes
        self._hold(size_bytes if size_bytes > HELD_BYTES else 0)
        self._progressed_at = self._host.clock()
        self._decode_where_there_is_room()

    def ask_for_body(self) -> None:
        """The application waits: it is done with what it has taken."""
        super().ask_for_body()
        self._hold(0)
        self._decode_where_there_is_room()

    def deliver_body(self, data: bytes, *, is_last: bool) -> None:
        """Take bytes from the client."""
        if not self._is_open:
            return
        if data:
            self.received_bytes += len(data)
            self._undecoded.append(memoryview(data))
            self._uncredited_bytes += len(data)
        self._has_input_ended = is_last
        self._decode()

    def note_written(self, size_bytes: int) -> None:
        """So much of what waited is on its way: an answer to a PING that had to wait for that can follow."""
        super().note_written(size_bytes)
        if self._session.owes_pong and self.waiting_bytes <= HIGH_WATER_BYTES and not self.is_client_gone:
            self._host.go_on_later(self._flush)
        self._decode_where_there_is_room()

    def check_progress(self) -> None:
        """Others may have made room; an application that takes nothing of what its client said before its end hears of
        that end now."""
        if self._undecoded and self._has_room(self._limit_bytes):
            self._host.go_on_later(self._decode)
        elif self._has_input_ended and self.has_stopped:
            self._end_input()

    def lose_client(self, cause: Cause = Cause.CLIENT_LEFT) -> None:
        """The connection or stream is gone. What came before is delivered before that is."""
        if cause is Cause.CLIENT_LEFT:
            self._has_input_ended = True
            self._decode_while_time(self._limit_bytes)
        self._undecoded.clear()
        self._account_for_partial(0)
        super().lose_client(cause)

    def go_away(self) -> None:
        """Tell the client that the server ends."""
        self.note_cause(Cause.DRAINED)
        if self._is_open and not self._has_closed:
            self._session.send({"type": "websocket.close", "code": GOING_AWAY_CLOSE})
            self._flush(is_last=True)

    def end(self) -> None:
        """The application has ended."""
        if not self.is_client_gone and not self.has_ended_well:
            self.note_cause(Cause.ERROR)
        if not self.is_client_gone and not self.progress.has_started:
            self._carrier.abort()
        elif self._is_open and not self._has_closed:
            code = GOING_AWAY_CLOSE if self.cause is Cause.DRAINED else INTERNAL_ERROR_CLOSE
            self._session.send({"type": "websocket.close", "code": code})
            self._flush(is_last=True)
        elif not self._is_open and not self.progress.is_complete and not self.is_client_gone:
            self._carrier.abort()
        self._account.buffered_bytes -= self._untaken_bytes
        self._untaken_bytes = 0
        self._undecoded.clear()
        self._inbox.close()
        self._account_for_partial(0)
        self._hold(0)
        self.finish()
        self._carrier = NO_CARRIER

    def disconnect_message(self) -> Message:
        """What the application receives once it has nothing more to expect of its client."""
        code = GOING_AWAY_CLOSE if self.cause is Cause.DRAINED else ABNORMAL_CLOSE
        return {"type": "websocket.disconnect", "code": code, "reason": ""}

    def _accept(self, message: Message) -> None:
        self._is_open = True  # before the answer is begun, which lets in what came behind the handshake
        try:
            fields = complete_fields(self._session.accept(message), self.answer_fields)
            self._carrier.start(200 if self._is_http2 else 101, fields, is_last=False)
        except Exception:
            self._is_open = False
            self.progress.unstart()  # nothing was sent: the application may try again
            raise
        self.status = 101
        self.timeline.note_start()

    def _close(self, message: Message) -> None:
        if not self._is_open:
            self.status = 403
            fields = complete_fields([(b"content-length", b"0")], self.answer_fields)
            self._carrier.start(403, fields, is_last=True)
            self.timeline.note_start()
            return
        self._session.send(message)
        self.deliver({"type": "websocket.disconnect", "code": message.get("code") or 1000, "reason": ""})
        self._flush(is_last=True)

    def _decode_where_there_is_room(self) -> None:
        if self._undecoded and self._has_room(self._limit_bytes if self._has_input_ended else LOW_WATER_BYTES):
            self._host.go_on_later(self._decode)

    def _has_room(self, limit_bytes: int) -> bool:
        """Whether more may wait for the application.

        Of what is deflated nobody knows how much it comes to: once much waits for its client's address, it is gone
        through a little at a time, and less of it waits.
        """
        return self._untaken_bytes <= (min(limit_bytes, LOW_WATER_BYTES) if self._is_scarce else limit_bytes)

    @property
    def _may_deflate(self) -> bool:
        return self._session.state_bytes > 0

    @property
    def _is_scarce(self) -> bool:
        return self._may_deflate and self._others_share >= CROWDED_SHARE

    @property
    def _others_share(self) -> float:
        own_bytes = self._untaken_bytes + self._held_bytes + self._partial_bytes + self.waiting_bytes
        return self._account.share_of_waiting(own_bytes)

    @property
    def _step_bytes(self) -> int:
        if self._is_scarce or (self._may_deflate and self._has_input_ended):
            return SCARCE_BYTES
        return DEFLATED_BYTES if self._may_deflate else DECODED_BYTES

    @property
    def _is_partial_too_much(self) -> bool:
        """Whether there is no room for the rest of a message that has begun."""
        if not self._partial_bytes:
            return False
        is_dear = self._session.is_inflating and self._partial_bytes > HIGH_WATER_BYTES
        return self._account.is_exhausted or (is_dear and self._others_share >= LARGE_SHARE)

    def _decode(self) -> None:
        """Go through what came, as far as the application keeps up."""
        if not self._decode_while_time(self._limit_bytes):
            self._host.go_on_later(self._decode)
        elif self._has_input_ended and not self._undecoded:
            self._end_input()

    def _end_input(self) -> None:
        """The client has ended its side, of a stream or of a connection, and has said all (RFC 8441 section 5)."""
        if self.is_client_gone:
            return
        if not self._has_closed:
            self._has_closed = True
            self._carrier.write(b"", is_last=True)
        self.lose_client()

    def _decode_while_time(self, limit_bytes: int) -> bool:
        """Read on, as long as no more than that waits for the application; False where there was no time for it."""
        while self._undecoded and self._has_room(limit_bytes) and not self._is_client_closing:
            if not self._host.has_time():
                return False
            data = self._undecoded.popleft()
            step_bytes = self._step_bytes
            if len(data) > step_bytes:
                self._undecoded.appendleft(data[step_bytes:])
                data = data[:step_bytes]
            messages = self._session.receive(bytes(data))
            self._account_for_partial(self._session.partial_bytes)
            if self._is_partial_too_much:
                self._metrics.limits_exceeded.add("buffered_bytes")
                self.note_cause(Cause.REFUSED)
                messages.append(self._session.refuse())
            for message in messages:
                if message["type"] == "websocket.disconnect":
                    self._is_client_closing = True
                    self._account_for_partial(0)
                    self.grace_seconds = CLOSED_GRACE_SECONDS
                    if self._session.fault is not None:
                        self._note_fault(self._session.fault)
                    self.deliver(message)  # before the connection's own end, which says less
                    self._flush(is_last=True)
                    self._undecoded.clear()
                    super().lose_client()
                    return True
                if not self._untaken_bytes:
                    self._progressed_at = self._host.clock()
                size_bytes = received_cost_bytes(message)
                self._untaken_bytes += size_bytes
                self._account.buffered_bytes += size_bytes
                self.deliver(message)
            if self.waiting_bytes <= HIGH_WATER_BYTES:  # otherwise one PONG answers all PINGs
                self._flush()
        if not self._undecoded:
            size_bytes, self._uncredited_bytes = self._uncredited_bytes, 0
            self._carrier.credit(size_bytes)
        return True

    def _account_for_partial(self, size_bytes: int) -> None:
        self._account.buffered_bytes += size_bytes - self._partial_bytes
        self._partial_bytes = size_bytes

    def _hold(self, size_bytes: int) -> None:
        self._account.buffered_bytes += size_bytes - self._held_bytes
        self._held_bytes = size_bytes

    @property
    def _limit_bytes(self) -> int:
        return LAST_MESSAGES_BYTES if self._has_input_ended and not self._is_pressed else HIGH_WATER_BYTES

    @property
    def _is_pressed(self) -> bool:
        """Whether what a client leaves behind is to be gone soon."""
        return self._is_scarce or self._account.is_exhausted

    def _flush(self, *, is_last: bool = False) -> None:
        data = self._session.take_output()
        if self._has_closed or self.is_client_gone:
            return
        self._has_closed = is_last
        if data or is_last:
            self._carrier.write(data, is_last=is_last)

    def _note_fault(self, fault: CloseReason) -> None:
        self._metrics.protocol_errors.add("websocket", fault.name.lower())
        self.note_cause(Cause.REFUSED if fault is CloseReason.MESSAGE_TOO_BIG else Cause.PROTOCOL_ERROR)
