"""A WebSocket without its transport: bytes to ASGI messages and back (RFC 6455). The frames are wsproto's.

Sends and receives nothing by itself: `server.websocket` joins it to an exchange and its carrier,
which is an http/1.1 connection or a stream of HTTP/2.
"""

from __future__ import annotations

import struct

from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Event, Ping, Pong, TextMessage
from wsproto.extensions import Extension
from wsproto.frame_protocol import CloseReason, Opcode

from sage_edge.core.exchange import Message
from sage_edge.server.websocket_deflate import DEFLATE_BYTES, BoundedDeflate, agree
from sage_edge.server.websocket_handshake import Fields, WebSocketOffer, answer_offer

SENDABLE_CLOSE_CODES = frozenset({*range(1000, 1004), *range(1007, 1015), *range(3000, 5000)})
"""RFC 6455 section 7.4, and what IANA has registered since."""
LOCAL_CLOSE_CODES = frozenset({1005, 1006, 1015})
"""Never sent (section 7.4.1), but what an application that passes on another's end has at hand."""
LARGE_BYTES = 256 * 1024
"""A message that is larger is not deflated: for 1 MB that takes 60 ms, in which nothing else is served. Nor is it
wsproto's to frame, which copies it six times."""


class WebSocketSession:
    """The server's side of one WebSocket.

    Args:
        offer: the client's.
        max_message_bytes: of a message, inflated; of a text, in UTF-8.
        may_deflate: whether permessage-deflate is agreed to, where it is offered.

    Attributes:
        has_sent_close: a CLOSE frame is in the output, or was: nothing follows it (section 5.5.1).
        is_closed: once the output is written the transport may end: the closing handshake is done, a
            failure was told to the client (section 7.1.7), or the transport was lost.
        fault: of the client's, for which it was failed; None as long as there is none.
    """

    def __init__(self, offer: WebSocketOffer, *, max_message_bytes: int, may_deflate: bool = True) -> None:
        self.has_sent_close = False
        self.is_closed = False
        self.fault: CloseReason | None = None
        self._offer = offer
        self._max_message_bytes = max_message_bytes
        self._deflate = agree(offer.extensions) if may_deflate else None
        self._inflater = BoundedDeflate(self._deflate, max_message_bytes) if self._deflate else None
        extensions: list[Extension] = [self._inflater] if self._inflater else []
        self._connection = Connection(ConnectionType.SERVER, extensions)
        self._partial = bytearray()  # of a message; a text as UTF-8, so that its many pieces cost nothing
        self._output: list[bytes | bytearray] = []
        self._pong: bytes | None = None

    @property
    def state_bytes(self) -> int:
        """What its extension takes in memory, for as long as it is open."""
        return DEFLATE_BYTES if self._deflate is not None else 0

    @property
    def is_inflating(self) -> bool:
        """Whether the message that is under way is deflated."""
        return self._inflater is not None and self._inflater.is_message_deflated

    @property
    def partial_bytes(self) -> int:
        """What has come of a message that is not whole."""
        return len(self._partial)

    @property
    def owes_pong(self) -> bool:
        """Whether a PING is not answered."""
        return self._pong is not None

    def accept(self, message: Message) -> Fields:
        """The fields of the answer that opens it, 101 or 200. Changes nothing, so it may be tried again.

        Raises:
            ValueError: the subprotocol was not offered, or a header is not allowed.
            TypeError: a header is not bytes.
        """
        return answer_offer(self._offer, message, self._deflate)

    def receive(self, data: bytes) -> list[Message]:
        """Take bytes from the client, and return the messages they complete. Raises nothing, whatever they are.

        Deflated, a byte can hold a thousand: pass on a few KiB at a time, and the next once the
        application has taken what came of the last.
        """
        if self.is_closed:
            return []
        self._connection.receive_data(data)
        messages: list[Message] = []
        for event in self._connection.events():
            message = self._take(event)
            if message is not None:
                messages.append(message)
            if self.is_closed:
                break
        return messages

    def end(self) -> list[Message]:
        """The transport is lost (section 7.1.5), or the stream has ended, which is the same (RFC 8441 section 5)."""
        if self.is_closed:
            return []
        self.is_closed = True
        return [_disconnect(CloseReason.ABNORMAL_CLOSURE, "")]

    def refuse(self) -> Message:
        """End it, since there is no room for its messages (section 7.4.1). Returns what the application is told."""
        return self._close(CloseConnection(CloseReason.TRY_AGAIN_LATER, "too much waits for this client"))

    def send(self, message: Message) -> None:
        """Take a message or the close from the application. Dropped once either side has closed.

        Raises:
            ValueError: the message says nothing, or two things, or the close code is none to be sent.
            TypeError: its bytes are none.
        """
        if message["type"] == "websocket.close":
            self._send_close(read_close(message))
            return
        event: TextMessage | BytesMessage
        match message.get("bytes"), message.get("text"):
            case None, str(text):
                event = TextMessage(text)
            case bytes(data), None:
                event = BytesMessage(data)
            case data, None if data is not None:
                # A view takes all that is like bytes, and no number, of which `bytes` would make zeros.
                event = BytesMessage(bytes(memoryview(data)))
            case _:
                raise ValueError("websocket.send has either bytes or text")
        if self.has_sent_close or self.is_closed:
            return
        if len(event.data) > LARGE_BYTES:
            self._output += _frame(event)
        else:
            self._output.append(self._connection.send(event))

    def take_output(self) -> bytes:
        """What is to be written. Take it when it can be: until then, PINGs are answered by one PONG."""
        self._answer_ping()
        output = b"".join(self._output)
        self._output.clear()
        return output

    def _take(self, event: Event) -> Message | None:
        match event:
            case TextMessage() | BytesMessage() if not self.has_sent_close:
                return self._join(event)
            case Ping():
                # Section 5.5.3: only the most recent one has to be answered.
                self._pong = bytes(event.payload)
            case CloseConnection():
                # The client's, which is answered with the same, or wsproto's word for a failure.
                if self._connection.state in {ConnectionState.OPEN, ConnectionState.LOCAL_CLOSING}:
                    self.fault = CloseReason(event.code)
                return self._close(event)
        return None

    def _join(self, event: TextMessage | BytesMessage) -> Message | None:
        data = event.data
        self._partial += data.encode() if isinstance(data, str) else data
        if len(self._partial) > self._max_message_bytes:
            self.fault = CloseReason.MESSAGE_TOO_BIG
            return self._close(CloseConnection(CloseReason.MESSAGE_TOO_BIG, "the message is too big"))
        if not event.message_finished:
            return None
        is_text = isinstance(event, TextMessage)
        message: Message = {
            "type": "websocket.receive",
            "bytes": None if is_text else bytes(self._partial),
            "text": self._partial.decode() if is_text else None,
        }
        self._partial.clear()
        return message

    def _close(self, close: CloseConnection) -> Message:
        self._send_close(close)
        self.is_closed = True
        self._partial.clear()
        return _disconnect(close.code, close.reason or "")

    def _send_close(self, close: CloseConnection) -> None:
        if not self.has_sent_close and not self.is_closed:
            self._answer_ping()
            self._output.append(self._connection.send(close))
            self.has_sent_close = True

    def _answer_ping(self) -> None:
        pong, self._pong = self._pong, None
        # None is due once the client's CLOSE has come (section 5.5.2), and none may follow ours.
        if pong is not None and self._connection.state is ConnectionState.OPEN:
            self._output.append(self._connection.send(Pong(pong)))


def read_close(message: Message) -> CloseConnection:
    """The application's close, as it is to be sent.

    Raises:
        ValueError: its code is none to be sent.
        TypeError: its reason is no text.
    """
    code, reason = message.get("code"), message.get("reason") or ""
    code = 1000 if code is None else int(code)
    if not isinstance(reason, str):
        raise TypeError(f"the reason of a close is of type {type(reason).__name__}")
    if code in LOCAL_CLOSE_CODES:
        code = CloseReason.NORMAL_CLOSURE
    if code not in SENDABLE_CLOSE_CODES:
        raise ValueError(f"{code} is not a close code that may be sent")
    return CloseConnection(code, reason)  # wsproto cuts the reason to 123 bytes (section 5.5)


def _frame(event: TextMessage | BytesMessage) -> tuple[bytes, bytes | bytearray]:
    """A message as one frame, as it is (section 5.2). Nothing of it is copied, and nothing deflated."""
    data = event.data
    opcode = Opcode.BINARY
    if isinstance(data, str):
        data, opcode = data.encode(), Opcode.TEXT
    return struct.pack(">BBQ", 0x80 | opcode, 127, len(data)), data


def _disconnect(code: int, reason: str) -> Message:
    return {"type": "websocket.disconnect", "code": int(code), "reason": reason}
