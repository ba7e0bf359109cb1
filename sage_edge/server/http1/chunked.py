"""The chunked coding of a request's body (RFC 9112 section 7.1), with its trailers."""

from __future__ import annotations

import re
from http import HTTPStatus

from sage_edge.server.http1.buffer import Buffer
from sage_edge.server.http1.errors import BadRequestError, malformed
from sage_edge.server.http1.fields import read_fields

MAX_EXTENSION_BYTES = 256
"""Of one chunk, whose extensions are ignored."""
FREE_EXTENSION_BYTES = 16 * 1024
"""What all extensions in a body may come to beyond the size of its data (section 7.1.1)."""

MOST_CHUNKS = 1024
"""In one piece of data: they may take a few milliseconds."""

# Section 7.1.1 allows white space before an extension's semicolon; it is refused, as readers differ on it.
_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,16})(;[\t\x20-\x7e\x80-\xff]{0,%d})?\r\n" % (MAX_EXTENSION_BYTES - 1))
_MAX_SIZE_LINE_BYTES = 16 + MAX_EXTENSION_BYTES + 2
_LINE_END = b"\r\n"
_NO_TRAILERS = frozenset(
    {
        b"authorization",
        b"connection",
        b"content-encoding",
        b"content-length",
        b"content-range",
        b"content-type",
        b"cookie",
        b"expect",
        b"host",
        b"keep-alive",
        b"max-forwards",
        b"proxy-authorization",
        b"proxy-connection",
        b"range",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
"""What frames, routes, authenticates or changes a request comes too late behind it (RFC 9110 section 6.5.1)."""


class ChunkedBody:
    """One body's.

    Args:
        max_trailer_bytes: of its trailers.

    Attributes:
        is_piece_full: the latest piece of data has as many chunks as one may have.
    """

    __slots__ = (
        "_data_bytes",
        "_extension_bytes",
        "_is_in_trailers",
        "_is_line_end_due",
        "_left_bytes",
        "_limit",
        "is_piece_full",
    )

    def __init__(self, max_trailer_bytes: int) -> None:
        self._limit = max_trailer_bytes
        self._left_bytes = 0  # of the current chunk
        self._is_line_end_due = False  # behind a chunk's data
        self._is_in_trailers = False
        self._data_bytes = 0
        self._extension_bytes = 0
        self.is_piece_full = False

    def take_data(self, buffer: Buffer) -> bytes:
        """Take the data that is here, of many chunks in one piece: a chunk can be a byte, and a piece costs more.

        Raises:
            BadRequestError: it is not chunked as it should be.
        """
        parts: list[bytes] = []
        try:
            while len(parts) < MOST_CHUNKS and (self._left_bytes or self._begin_chunk(buffer)):
                part = buffer.take(self._left_bytes)
                if not part:
                    break
                parts.append(part)
                self._left_bytes -= len(part)
                self._is_line_end_due = not self._left_bytes
        except BadRequestError:
            if not parts:  # what is before the fault is good, and the fault will be met again
                raise
        self.is_piece_full = len(parts) == MOST_CHUNKS
        return b"".join(parts)

    def take_end(self, buffer: Buffer) -> bool:
        """Take the trailers, and with them the body's end; False where that is not here yet.

        Raises:
            BadRequestError: a field breaks a rule.
        """
        if not self._is_in_trailers:
            return False
        if buffer.peek(2) == _LINE_END:
            buffer.skip(2)
            return True
        block = buffer.take_block(self._limit)
        if block is None:
            if len(buffer) >= self._limit:
                detail = "The request's trailers are too large."
                raise BadRequestError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, detail)
            return False
        if not _NO_TRAILERS.isdisjoint(name for name, _ in read_fields(block)):
            raise malformed("A field is not allowed among trailers.")
        return True

    def _begin_chunk(self, buffer: Buffer) -> bool:
        """Take the line before a chunk's data; False where there is no data behind it, or not all of it is here."""
        if self._is_in_trailers or not self._end_chunk(buffer):
            return False
        match = buffer.match(_SIZE_LINE)
        if match is None:
            if len(buffer) >= _MAX_SIZE_LINE_BYTES or buffer.has(b"\n", _MAX_SIZE_LINE_BYTES):
                raise malformed("A chunk's size or its extensions are malformed.")
            return False
        size, extensions = match.groups(b"")
        if self._extension_bytes + len(extensions) > self._data_bytes + FREE_EXTENSION_BYTES:
            raise malformed("The chunks have too many extensions.")
        self._extension_bytes += len(extensions)
        self._left_bytes = int(size, 16)
        self._data_bytes += self._left_bytes
        self._is_in_trailers = not self._left_bytes
        buffer.skip(len(match[0]))
        return not self._is_in_trailers

    def _end_chunk(self, buffer: Buffer) -> bool:
        """Take the line end behind a chunk's data, where one is due."""
        if not self._is_line_end_due:
            return True
        line_end = buffer.peek(2)
        if line_end == _LINE_END:
            buffer.skip(2)
            self._is_line_end_due = False
            return True
        if _LINE_END.startswith(line_end):
            return False
        raise malformed("A chunk's data does not end where its size says.")
