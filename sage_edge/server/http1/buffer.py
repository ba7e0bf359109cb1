"""Bytes of a connection that came and are not read yet. What they mean is the parser's.

Nothing is looked at twice, and what comes and goes in one piece is never copied.
"""

from __future__ import annotations

import re

from sage_edge.server.http1.errors import malformed


class Buffer:
    """Bytes that are added at the end and taken from the front."""

    __slots__ = ("_data", "_scanned_bytes", "_start")

    def __init__(self) -> None:
        self._data: bytes | bytearray = b""
        self._start = 0  # of what is left of it
        self._scanned_bytes = 0  # of what is left: `take_block` has found no end in them

    def __len__(self) -> int:
        return len(self._data) - self._start

    def append(self, data: bytes) -> None:
        """Add bytes."""
        if not self._data:
            self._data = data
            return
        if isinstance(self._data, bytes):
            self._data = bytearray(memoryview(self._data)[self._start :])
        else:
            del self._data[: self._start]
        self._start = 0
        self._data += data

    def peek(self, size_bytes: int) -> bytes:
        """The first bytes, which stay."""
        return bytes(self._data[self._start : self._start + size_bytes])

    def match(self, pattern: re.Pattern[bytes]) -> re.Match[bytes] | None:
        """Match the front, which stays."""
        return pattern.match(self._data, self._start)

    def has(self, what: bytes, limit_bytes: int) -> bool:
        """Whether something is among the first bytes."""
        return self._data.find(what, self._start, self._start + limit_bytes) >= 0

    def skip(self, size_bytes: int) -> None:
        """Drop the first bytes; there are as many."""
        self._start += size_bytes
        self._scanned_bytes = 0
        if self._start == len(self._data):
            self._data = b""
            self._start = 0

    def take(self, limit_bytes: int) -> bytes:
        """Take up to so many bytes; none where there are none."""
        data = self.peek(limit_bytes)
        self.skip(len(data))
        return data

    def take_block(self, limit_bytes: int) -> bytes | None:
        """Take lines, each with its end, and drop the empty line behind them.

        Returns:
            None where that empty line is not among the first bytes: it is not here yet, or beyond the limit.

        Raises:
            BadRequestError: a line ends in a bare LF. Found as it comes: a client that ends its lines so may never
                send another end.
        """
        data, start = self._data, self._start
        scanned = start + self._scanned_bytes
        limit = min(len(data), start + limit_bytes)
        end = data.find(b"\r\n\r\n", max(start, scanned - 3), limit)
        stop = limit if end < 0 else end + 4
        if data.count(b"\n", scanned, stop) != data.count(b"\r\n", max(start, scanned - 1), stop):
            raise malformed("A line of the head ends in a bare LF.")  # RFC 9112 section 2.2
        if end < 0:
            self._scanned_bytes = limit - start
            return None
        block = self.peek(end + 2 - start)
        self.skip(end + 4 - start)
        return block
