"""HTTP/2 frames as bytes: numbers, and the frames a server writes (RFC 9113 section 6)."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from enum import IntEnum

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""What a client begins with (section 3.4)."""

FRAME_HEAD_BYTES = 9
DEFAULT_WINDOW_BYTES = 65_535
LARGEST_WINDOW_BYTES = 2**31 - 1
DEFAULT_FRAME_BYTES = 16_384
LARGEST_FRAME_BYTES = 2**24 - 1
LAST_STREAM_ID = 2**31 - 1

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)

END_STREAM = 0x01
ACK = 0x01
END_HEADERS = 0x04
PADDED = 0x08
HAS_PRIORITY = 0x20

_HEAD = struct.Struct(">HBBBL")
_LONG = struct.Struct(">L")
_SETTING = struct.Struct(">HL")


class ErrorCode(IntEnum):
    """Section 7."""

    NO_ERROR = 0x0
    PROTOCOL_ERROR = 0x1
    INTERNAL_ERROR = 0x2
    FLOW_CONTROL_ERROR = 0x3
    SETTINGS_TIMEOUT = 0x4
    STREAM_CLOSED = 0x5
    FRAME_SIZE_ERROR = 0x6
    REFUSED_STREAM = 0x7
    CANCEL = 0x8
    COMPRESSION_ERROR = 0x9
    CONNECT_ERROR = 0xA
    ENHANCE_YOUR_CALM = 0xB
    INADEQUATE_SECURITY = 0xC
    HTTP_1_1_REQUIRED = 0xD


class Setting(IntEnum):
    """Section 6.5.2, and RFC 8441 section 3."""

    HEADER_TABLE_SIZE = 0x1
    ENABLE_PUSH = 0x2
    MAX_CONCURRENT_STREAMS = 0x3
    INITIAL_WINDOW_SIZE = 0x4
    MAX_FRAME_SIZE = 0x5
    MAX_HEADER_LIST_SIZE = 0x6
    ENABLE_CONNECT_PROTOCOL = 0x8


class ConnectionFault(Exception):  # noqa: N818  # RFC 9113 calls it an error; here it is the client's fault
    """The connection has to end with this code (section 5.4.1)."""

    def __init__(self, code: ErrorCode, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


def frame_head(size_bytes: int, kind: int, flags: int, stream_id: int) -> bytes:
    """The nine bytes before a payload (section 4.1)."""
    return _HEAD.pack(size_bytes >> 8, size_bytes & 0xFF, kind, flags, stream_id)


def headers_frames(stream_id: int, block: bytes, *, is_last: bool, largest_bytes: int) -> bytes:
    """A header block as HEADERS and as many CONTINUATION frames as it takes (sections 6.2 and 6.10)."""
    flags = END_STREAM if is_last else 0
    if len(block) <= largest_bytes:
        return frame_head(len(block), HEADERS, flags | END_HEADERS, stream_id) + block
    parts = [frame_head(largest_bytes, HEADERS, flags, stream_id), block[:largest_bytes]]
    for start in range(largest_bytes, len(block), largest_bytes):
        part = block[start : start + largest_bytes]
        end = END_HEADERS if start + largest_bytes >= len(block) else 0
        parts += [frame_head(len(part), CONTINUATION, end, stream_id), part]
    return b"".join(parts)


def settings_frame(settings: Iterable[tuple[Setting, int]]) -> bytes:
    """The server's settings (section 6.5)."""
    payload = b"".join(_SETTING.pack(setting, value) for setting, value in settings)
    return frame_head(len(payload), SETTINGS, 0, 0) + payload


SETTINGS_ACK = frame_head(0, SETTINGS, ACK, 0)


def rst_stream_frame(stream_id: int, code: ErrorCode) -> bytes:
    """The end of a stream (section 6.4)."""
    return frame_head(4, RST_STREAM, 0, stream_id) + _LONG.pack(code)


def ping_frame(payload: bytes, *, is_ack: bool) -> bytes:
    """Eight bytes that the other end returns (section 6.7)."""
    return frame_head(8, PING, ACK if is_ack else 0, 0) + payload


def goaway_frame(last_stream_id: int, code: ErrorCode, reason: str = "") -> bytes:
    """The end of a connection, for now or soon (section 6.8)."""
    debug = reason.encode()
    return frame_head(8 + len(debug), GOAWAY, 0, 0) + _LONG.pack(last_stream_id) + _LONG.pack(code) + debug


def window_update_frame(stream_id: int, increment_bytes: int) -> bytes:
    """Credit for a stream, or with 0 for the connection (section 6.9)."""
    return frame_head(4, WINDOW_UPDATE, 0, stream_id) + _LONG.pack(increment_bytes)
