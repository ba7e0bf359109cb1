"""Answers of HTTP/1.1 as bytes: heads, and how a body is delimited (RFC 9112 section 6)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from http import HTTPStatus

from sage_edge.core.exchange import NO_BODY_STATUSES, read_length
from sage_edge.server.http1.fields import TOKEN
from sage_edge.server.http_exchange import LARGEST_STATUS

Fields = Iterable[tuple[bytes, bytes]]

_NAMES = re.compile(rb"(?:%b\n)*+" % TOKEN)
_VALUES = re.compile(rb"(?:[\t\x20-\x7e\x80-\xff]*+\n)*+")
_OF_THE_CONNECTION = frozenset({b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"})
"""Framing and the connection are the server's to say."""
_NO_TRAILERS = _OF_THE_CONNECTION | {b"content-length", b"trailer"}


LAST_CHUNK = b"0\r\n\r\n"
WHOLE_BYTES = 4096
"""From so many on, a piece of a body is written as it is, between the ends of its chunk."""


class ResponseFraming:
    """How one final answer is delimited.

    Args:
        method: of the request.
        version: of the request.
        keeps_alive: whether the connection can go on after it.
        takes_trailers: whether the client asked for trailers.

    Attributes:
        keeps_alive: the same, as the answer's head leaves it.
    """

    __slots__ = ("_has_body", "_is_chunked", "_method", "_takes_trailers", "_version", "keeps_alive")

    def __init__(self, method: str, version: str, *, keeps_alive: bool, takes_trailers: bool) -> None:
        self.keeps_alive = keeps_alive
        self._method = method
        self._version = version
        self._takes_trailers = takes_trailers
        self._has_body = True
        self._is_chunked = False

    def start(self, status: int, fields: Fields) -> bytes:
        """The head.

        Raises:
            ValueError: a field or the status is not allowed.
        """
        if status < HTTPStatus.OK:
            raise ValueError(f"{status} is not the status of a final answer")
        given, lengths = [], []
        for name, value in fields:
            lowered = bytes(name).lower()
            if lowered == b"content-length":
                lengths.append(bytes(value))
            elif lowered not in _OF_THE_CONNECTION:
                given.append((name, value))
        self._delimit(status, read_length(lengths), given)
        if not self.keeps_alive:
            given.append((b"connection", b"close"))
        elif self._version == "1.0":
            given.append((b"connection", b"keep-alive"))
        return encode_head(status, given)

    def encode_body(self, data: bytes, *, is_last: bool) -> tuple[bytes, ...]:
        """A piece of the body, in parts, so that a large one is not copied; nothing where the answer can have none."""
        if not self._has_body:
            return ()
        if not self._is_chunked:
            return (data,)
        end = LAST_CHUNK if is_last else b""
        if not data:  # an empty chunk would be the last
            return (end,)
        if len(data) < WHOLE_BYTES:
            return (b"%x\r\n%b\r\n%b" % (len(data), data, end),)
        return (b"%x\r\n" % len(data), data, b"\r\n" + end)

    def encode_trailers(self, fields: Fields) -> bytes:
        """The end of the body with trailers, which only a chunked one can have, for a client that asked for them.

        Others end without: they might not know what to make of them, and ASGI's extension has the server drop them.

        Raises:
            ValueError: a field is not allowed.
        """
        if not (self._is_chunked and self._takes_trailers):
            return b"".join(self.encode_body(b"", is_last=True))
        allowed = [field for field in fields if bytes(field[0]).lower() not in _NO_TRAILERS]
        return b"0\r\n%b\r\n" % _encode_fields(allowed)

    def _delimit(self, status: int, length: int | None, given: list[tuple[bytes, bytes]]) -> None:
        """RFC 9112 section 6.3. What length a status may have, and that a body has it, is the exchange's."""
        if self._method == "CONNECT" and 200 <= status < 300:
            self._has_body = self.keeps_alive = False  # what follows would be the tunnel's, and there is none
            return
        if length is not None:
            given.append((b"content-length", b"%d" % length))
        if self._method == "HEAD" or status in NO_BODY_STATUSES:
            self._has_body = False
        elif length is None and self._version == "1.1":
            self._is_chunked = True
            given.append((b"transfer-encoding", b"chunked"))
        elif length is None:
            self.keeps_alive = False  # its end is the connection's


def encode_head(status: int, fields: Fields) -> bytes:
    """A status line and fields, as they are: also of an interim answer.

    Raises:
        ValueError: a field or the status is not allowed.
    """
    return b"%b%b\r\n" % (_status_line(status), _encode_fields(fields))


def _encode_fields(fields: Fields) -> bytes:
    given = [(bytes(name), bytes(value).strip(b" \t")) for name, value in fields]
    # All at once, and the line ends counted: one inside a name or a value would pass for one between two.
    names = b"".join([name + b"\n" for name, _ in given])
    if names.count(b"\n") != len(given) or not _NAMES.fullmatch(names):
        raise ValueError("a header's name is not a token")  # RFC 9110 section 5.1
    values = b"".join([value + b"\n" for _, value in given])
    if values.count(b"\n") != len(given) or not _VALUES.fullmatch(values):
        raise ValueError("a header has a control character in its value")  # RFC 9110 section 5.5
    return b"".join([b"%b: %b\r\n" % field for field in given])


@lru_cache(maxsize=1024)
def _status_line(status: int) -> bytes:
    if not 100 <= status <= LARGEST_STATUS:
        raise ValueError(f"{status} is not a status")
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = ""
    return b"HTTP/1.1 %d %b\r\n" % (status, phrase.encode())
