"""HTTP/1.1 requests from a connection's bytes, strictly (RFC 9112): what is ambiguous is refused.

Every transition between a connection's states is here. Heads are read by `head`, chunked bodies by `chunked`.
Which answer belongs to which request, limits of bodies and of time are `connection`'s. However the bytes are cut
into pieces, what is read, and what is refused with which status, is the same.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, auto
from http import HTTPStatus

from sage_edge.server.http1.buffer import Buffer
from sage_edge.server.http1.chunked import ChunkedBody
from sage_edge.server.http1.errors import BadRequestError, malformed
from sage_edge.server.http1.fields import TOKEN
from sage_edge.server.http1.head import Request, read_head

HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""RFC 9113 section 3.4."""

__all__ = ["BadRequestError", "BodyPart", "EndOfRequest", "HTTP2Preface", "Request", "RequestParser"]

_LINE_END = b"\r\n"
_FIRST_OF_METHOD = re.compile(TOKEN.removesuffix(b"++"))


@dataclass(slots=True)
class BodyPart:
    """A piece of the request's body, never empty.

    Attributes:
        data: of it.
        is_dear: it was made of as many chunks as one may be, and more of them may follow at once.
    """

    data: bytes
    is_dear: bool = False


@dataclass(slots=True)
class EndOfRequest:
    """The request is complete. What trailers it had was looked at, and is nobody's: ASGI has no message for them."""


@dataclass(slots=True)
class HTTP2Preface:
    """The connection speaks HTTP/2; `take_rest` has its bytes, the preface first. There are no events after it."""


Event = Request | BodyPart | EndOfRequest | HTTP2Preface


class _State(Enum):
    START = auto()  # one empty line may come before the head
    HEAD = auto()
    SIZED_BODY = auto()
    CHUNKED_BODY = auto()
    OVER = auto()  # waits for `start_next`
    CLOSED = auto()  # no request will be read any more


class RequestParser:
    """One connection's. After a `BadRequestError` it reads nothing more.

    Args:
        max_head_bytes: of a request line and its fields with all their line ends; the same for trailers.
    """

    def __init__(self, *, max_head_bytes: int) -> None:
        self._max_head_bytes = max_head_bytes
        self._buffer = Buffer()
        self._state = _State.START
        self._may_be_http2 = True
        self._left_bytes = 0  # of a body of announced length
        self._chunked = ChunkedBody(max_head_bytes)
        self._refused_head = b""

    @property
    def has_begun(self) -> bool:
        """Whether a part of the next head has come."""
        return self._state in (_State.START, _State.HEAD) and len(self._buffer) > 0

    @property
    def begun_line(self) -> bytes:
        """The first line of the head that could not be read, or is not here whole; as far as it is."""
        return (self._refused_head or self._buffer.peek(self._max_head_bytes)).partition(_LINE_END)[0]

    @property
    def buffered_bytes(self) -> int:
        """What was fed and has not become an event."""
        return len(self._buffer)

    def feed(self, data: bytes) -> None:
        """Take bytes."""
        self._buffer.append(data)

    def next_event(self) -> Event | None:
        """The next event; None where more bytes are needed, or `start_next` is.

        Raises:
            BadRequestError: what came is no request that can be served.
        """
        try:
            match self._state:
                case _State.START | _State.HEAD:
                    return self._next_of_head()
                case _State.SIZED_BODY:
                    return self._next_of_sized_body()
                case _State.CHUNKED_BODY:
                    return self._next_of_chunked_body()
                case _:
                    return None
        except BadRequestError:
            self._state = _State.CLOSED
            raise

    def start_next(self) -> None:
        """The answer is complete: go on to the next request. Only after `EndOfRequest`."""
        if self._state is not _State.OVER:
            raise RuntimeError("the request is not over")
        self._state = _State.START

    def take_rest(self) -> bytes:
        """All that is not read, which is another protocol's from here on."""
        return self._buffer.take(len(self._buffer))

    def _next_of_head(self) -> Request | HTTP2Preface | None:
        buffer = self._buffer
        if not buffer:
            return None
        if self._may_be_http2:
            start = buffer.peek(len(HTTP2_PREFACE))
            if start == HTTP2_PREFACE:
                self._state = _State.CLOSED
                return HTTP2Preface()
            if HTTP2_PREFACE.startswith(start):
                return None
            self._may_be_http2 = False
        if self._state is _State.START and not self._skip_empty_line():
            return None
        if not buffer.match(_FIRST_OF_METHOD):
            raise malformed("The request line is malformed.")  # at once: no end may ever come, as of TLS
        block = buffer.take_block(self._max_head_bytes)
        if block is None:
            if len(buffer) >= self._max_head_bytes:
                raise self._too_large()
            return None
        try:
            request = read_head(block)
        except BadRequestError:
            self._refused_head = block
            raise
        return self._begin_body(request)

    def _skip_empty_line(self) -> bool:
        """Let one empty line pass (section 2.2); whether something of a head is here."""
        start = self._buffer.peek(2)
        if start == b"\r":
            return False
        if start == _LINE_END:
            self._buffer.skip(2)
        self._state = _State.HEAD
        return len(self._buffer) > 0

    def _begin_body(self, request: Request) -> Request:
        if request.is_chunked:
            self._chunked = ChunkedBody(self._max_head_bytes)
            self._state = _State.CHUNKED_BODY
        else:
            self._left_bytes = request.content_length or 0
            self._state = _State.SIZED_BODY
        return request

    def _next_of_sized_body(self) -> BodyPart | EndOfRequest | None:
        if not self._left_bytes:
            return self._end()
        data = self._buffer.take(self._left_bytes)
        if not data:
            return None
        self._left_bytes -= len(data)
        return BodyPart(data)

    def _next_of_chunked_body(self) -> BodyPart | EndOfRequest | None:
        data = self._chunked.take_data(self._buffer)
        if data:
            return BodyPart(data, self._chunked.is_piece_full)
        return self._end() if self._chunked.take_end(self._buffer) else None

    def _end(self) -> EndOfRequest:
        self._state = _State.OVER
        return EndOfRequest()

    def _too_large(self) -> BadRequestError:
        if not self._buffer.has(_LINE_END, self._max_head_bytes):
            return BadRequestError(HTTPStatus.REQUEST_URI_TOO_LONG, "The request line is too long.")
        return BadRequestError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "The request's head is too large.")
