"""One request's ASGI messages: what is buffered for the application, and how far its answer is.

Bookkeeping without waiting: the shells (`app.exchange`, `app.bridge`) move messages between
tasks and threads, and ask here what to do. ASGI specification, HTTP and WebSocket message format.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from enum import Enum
from typing import Any

Message = dict[str, Any]

WINDOW_BYTES = 128 * 1024
"""How much may be under way between a producer and its consumer before the producer waits."""
MESSAGE_COST_BYTES = 256
"""What a message counts for beside its body, so that many empty ones are bounded too."""

WIDEST_LETTER_BYTES = 4
"""What each letter of a text may take, where one of them is not of ASCII's: Python gives all as much as the widest."""

NO_BODY_STATUSES = frozenset({204, 205, 304})
"""Those of answers without a body, whatever the application sends: 204 and 304 never have one (RFC 9110 section 6.4.1),
and 205 must have none (section 15.3.6)."""

NO_MOUNT = "none"
"""In place of a mount's name, where the edge answers for want of one."""
HEALTH_MOUNT = "health"
"""What logs and metrics call the edge's own pages. A gateway is called by its prefix."""


class Cause(Enum):
    """Why a request ended before its answer was complete."""

    CLIENT_LEFT = "client left"
    DRAINED = "drained"
    STALLED = "stalled"  # the client took nothing, or sent nothing, for too long
    REFUSED = "refused"  # by the connection: it is malformed, too large or one too many
    BUDGET = "budget"
    PROTOCOL_ERROR = "protocol error"
    ERROR = "error"  # of the application

    @property
    def label(self) -> str:
        """As metrics have it."""
        return self.name.lower()


class ClientDisconnectedError(OSError):
    """Raised from `send` once the client has gone (ASGI spec_version 2.4)."""

    def __init__(self) -> None:
        super().__init__("the client disconnected")


class LifespanUnsupportedError(Exception):
    """The application ended its lifespan call without asking for a message (ASGI, Lifespan Protocol)."""


def own_message(message: Message) -> Message:
    """A copy of what an application sends, which it cannot change any more and whose bodies and fields are `bytes`.

    The shells ask for it before anything else looks at a message; one that has no fields, and whose body is `bytes`
    already, as nearly all are, may go without.

    Raises:
        TypeError: something is not like bytes that has to be, or a text is none.
        ValueError: a header is not a name and a value.
    """
    kind, owned = message["type"], message.copy()
    if "body" in owned:
        owned["body"] = _to_bytes(owned["body"], kind)
    if owned.get("bytes") is not None:
        owned["bytes"] = _to_bytes(owned["bytes"], kind)
    text = owned.get("text")
    if text is not None and not isinstance(text, str):
        raise TypeError(f"{kind} has text of type {type(text).__name__}")
    if "headers" in owned:  # any iterable, which may be gone through once
        owned["headers"] = [
            field
            if type(field) is tuple and len(field) == 2 and type(field[0]) is type(field[1]) is bytes
            else _to_field(field, kind)
            for field in owned["headers"] or ()
        ]
    return owned


def _to_field(field: Any, kind: str) -> tuple[bytes, bytes]:
    name, value = field
    return _to_bytes(name, kind), _to_bytes(value, kind)


def _to_bytes(data: Any, kind: str) -> bytes:
    if type(data) is bytes:
        return data
    try:
        return bytes(memoryview(data))  # a view takes what is like bytes, and no number, of which they would make zeros
    except TypeError:
        raise TypeError(f"{kind} has {type(data).__name__} where bytes belong") from None


def body_bytes(message: Message) -> int:
    """The size of what a message carries of a body or of a WebSocket; of a text, as much as that takes at most."""
    body = message.get("body") or message.get("bytes") or b""
    text = message.get("text") or ""
    return len(body) + len(text) * (1 if text.isascii() else WIDEST_LETTER_BYTES)


def received_cost_bytes(message: Message) -> int:
    """What a message from the client counts for until it is taken; an empty one of a WebSocket is not for nothing."""
    size_bytes = body_bytes(message)
    return size_bytes + MESSAGE_COST_BYTES if message["type"] == "websocket.receive" else size_bytes


def message_cost_bytes(message: Message) -> int:
    """What a message counts for against a window."""
    return MESSAGE_COST_BYTES + body_bytes(message)


class SendWindow:
    """The producer's side of a bounded queue whose consumer is elsewhere: what is under way."""

    def __init__(self) -> None:
        self._under_way_bytes = 0

    @property
    def is_exhausted(self) -> bool:
        """The producer should wait."""
        return self._under_way_bytes > WINDOW_BYTES

    def spend(self, cost_bytes: int) -> None:
        """Note a message that was passed on."""
        self._under_way_bytes += cost_bytes

    def restore(self, credit_bytes: int) -> None:
        """Note that the consumer has consumed so much."""
        self._under_way_bytes -= credit_bytes


class ReceiveWindow:
    """The consumer's side: says when to return credit, in batches, since each costs a wake-up.

    Attributes:
        unreturned_bytes: were consumed, and the producer does not know it yet.
    """

    def __init__(self) -> None:
        self.unreturned_bytes = 0

    def consume(self, cost_bytes: int) -> int:
        """Note a consumed message; the bytes of credit to return to the producer now, often 0."""
        self.unreturned_bytes += cost_bytes
        if self.unreturned_bytes <= WINDOW_BYTES // 4:
            return 0
        return self.consume_rest()

    def consume_rest(self) -> int:
        """The bytes of credit that are still to be returned: the consumer has nothing left to consume."""
        credit_bytes, self.unreturned_bytes = self.unreturned_bytes, 0
        return credit_bytes


class Inbox:
    """What the client sent, on its way to the application.

    An HTTP disconnect overtakes the body that is still buffered: nobody will answer that request
    any more, and `is_disconnected()` has to turn true at once. A WebSocket's messages were sent
    before its close and are delivered before it.
    """

    def __init__(self) -> None:
        self._messages: deque[Message] = deque()
        self._disconnect: Message | None = None
        self._is_closed = False

    @property
    def has_message(self) -> bool:
        """Whether `take` would return something."""
        return bool(self._messages) or self._disconnect is not None

    @property
    def is_disconnected(self) -> bool:
        """Whether the client has gone."""
        return self._disconnect is not None

    def put(self, message: Message) -> None:
        """Add a message from the client; anything that follows a disconnect is dropped."""
        if self._disconnect is not None:
            return
        if message["type"].endswith(".disconnect"):
            self._disconnect = message
            if message["type"] == "http.disconnect":
                self._messages.clear()
        elif not self._is_closed:
            self._messages.append(message)

    def close(self) -> None:
        """Keep nothing of a request that is answered: its application is told of its end in place of its body."""
        self._is_closed = True
        self._messages.clear()

    def take(self) -> Message:
        """The next message for the application. A disconnect can be taken any number of times.

        Raises:
            IndexError: there is none.
        """
        if self._messages or self._disconnect is None:
            return self._messages.popleft()
        return self._disconnect


class UnexpectedMessageError(RuntimeError):
    """The application sent a message that its earlier ones do not allow."""


class ResponseProgress:
    """How far the application's answer is, told from the messages it sends.

    Messages of other types (extensions, lifespan) are let through without a look.

    Args:
        is_head: the request asks for the head of the answer alone.

    Attributes:
        is_bodiless: the answer is its head alone, whatever the application says of a body.
    """

    def __init__(self, *, is_head: bool = False) -> None:
        self._is_head = is_head
        self.has_started = False
        self.is_complete = False
        self._missing_bytes: int | None = None
        """Of the body, where its length was announced."""
        self.is_body_complete = False
        self.is_bodiless = False
        self._expects_trailers = False
        self._is_open = False  # as a WebSocket

    @property
    def is_delivered(self) -> bool:
        """Whether the client has all it was promised, so that its leaving is no loss.

        That can be before the answer is complete: middleware often sends the end as an empty message of its own.
        """
        return self.is_complete or self.is_bodiless or (self._missing_bytes == 0 and not self._expects_trailers)

    @property
    def missing_bytes(self) -> int:
        """How much of the announced length is still to come; negative where there was too much."""
        return self._missing_bytes or 0

    def unstart(self) -> None:
        """Take back the start of the answer: it could not be sent."""
        self.has_started = self._expects_trailers = self._is_open = self.is_bodiless = False
        self._missing_bytes = None

    def note(self, message: Message) -> None:
        """Take a message into account, before it is passed on.

        Raises:
            UnexpectedMessageError: it comes too early, too late or twice.
            ValueError: the length that it announces is none, or its status is no number.
        """
        match message["type"]:
            case "http.response.body" | "websocket.http.response.body":
                self.note_body(message)
            case "http.response.start" | "websocket.http.response.start" | "websocket.accept" as kind:
                self._require(not self.has_started, kind, "the response has started")
                is_open = kind == "websocket.accept"  # which has no status and no length
                status = 0 if is_open else int(message["status"])
                self._missing_bytes = None if is_open else _find_length(message.get("headers", ()))
                self._is_open = is_open
                self.is_bodiless = self._is_head or status in NO_BODY_STATUSES
                self._expects_trailers = bool(message.get("trailers", False))
                self.has_started = True
            case "http.response.trailers" as kind:
                self._require(self.is_body_complete, kind, "the body is not complete")
                self._require(not self.is_complete, kind, "the response is complete")
                self.is_complete = not message.get("more_trailers", False)
            case "websocket.send" as kind:
                self._require(self._is_open, kind, "the WebSocket is not open")
            case "websocket.close" as kind:
                self._require(self._is_open or not self.has_started, kind, "the WebSocket is closed or denied")
                self.has_started = self.is_complete = self.is_body_complete = True
                self._is_open = False

    def note_body(self, message: Message) -> None:
        """The same of a piece of the body, which most messages are."""
        kind = message["type"]
        self._require(self.has_started and not self._is_open, kind, "the response has not started")
        self._require(not self.is_body_complete, kind, "the body is complete")
        if self._missing_bytes is not None:
            self._missing_bytes -= len(message.get("body", b""))
        if not message.get("more_body", False):
            self.is_body_complete = True
            self.is_complete = not self._expects_trailers

    @staticmethod
    def _require(is_allowed: bool, kind: str, why_not: str) -> None:
        if not is_allowed:
            raise UnexpectedMessageError(f"{kind} was sent, but {why_not}")


def _find_length(fields: Iterable[tuple[bytes, bytes]]) -> int | None:
    return read_length([bytes(value) for name, value in fields if bytes(name).lower() == b"content-length"])


def read_length(values: Sequence[bytes]) -> int | None:
    """What an answer's fields of that name announce, None where there is none (RFC 9110 section 8.6).

    Raises:
        ValueError: it is not one number. A client could read it in two ways, or not at all.
    """
    if len(values) > 1 or not all(map(bytes.isdigit, values)):
        raise ValueError("content-length is not one number")
    return int(values[0]) if values else None
