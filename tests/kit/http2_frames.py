"""HTTP/2 frames, packed and read by hand: right or wrong, as a test wants them (RFC 9113 section 6)."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass

from hpack.hpack import encode_integer

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM = ACK = 0x01
END_HEADERS = 0x04
PADDED = 0x08
HAS_PRIORITY = 0x20

NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR, SETTINGS_TIMEOUT, STREAM_CLOSED = range(6)
FRAME_SIZE_ERROR, REFUSED_STREAM, CANCEL, COMPRESSION_ERROR, CONNECT_ERROR, ENHANCE_YOUR_CALM = range(6, 12)

HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE = range(1, 6)
MAX_HEADER_LIST_SIZE, _, ENABLE_CONNECT_PROTOCOL = range(6, 9)

WINDOW_BYTES = 65_535
LARGEST_WINDOW_BYTES = 2**31 - 1
FRAME_BYTES = 16_384

Field = tuple[bytes, bytes]


@dataclass(frozen=True)
class Frame:
    """As it came."""

    kind: int
    flags: int
    stream_id: int
    payload: bytes

    @property
    def number(self) -> int:
        """The last 32 bits of a frame that is made of numbers: an error code or an increment."""
        return int(struct.unpack(">L", self.payload[4:8] if self.kind == GOAWAY else self.payload)[0])


def read_frames(data: bytes) -> list[Frame]:
    """Whole frames, and nothing after them."""
    found = []
    while data:
        assert len(data) >= 9, "a frame's head is cut"
        length = int.from_bytes(data[:3], "big")
        assert len(data) >= 9 + length, "a frame is cut"
        stream_id = int.from_bytes(data[5:9], "big")
        assert stream_id <= LARGEST_WINDOW_BYTES, "the reserved bit is set"
        found.append(Frame(data[3], data[4], stream_id, bytes(data[9 : 9 + length])))
        data = data[9 + length :]
    return found


def frame(kind: int, flags: int = 0, stream_id: int = 0, payload: bytes = b"") -> bytes:
    """Any frame."""
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream_id.to_bytes(4, "big") + payload


def data_frame(stream_id: int, data: bytes = b"", *, end: bool = False, pad: int | None = None) -> bytes:
    """DATA (section 6.1)."""
    flags, payload = _pad(END_STREAM if end else 0, data, pad)
    return frame(DATA, flags, stream_id, payload)


def headers_frame(
    stream_id: int,
    block: bytes,
    *,
    end: bool = True,
    is_whole: bool = True,
    pad: int | None = None,
    depends_on: int | None = None,
) -> bytes:
    """HEADERS (section 6.2)."""
    flags = (END_STREAM if end else 0) | (END_HEADERS if is_whole else 0)
    if depends_on is not None:
        flags |= HAS_PRIORITY
        block = struct.pack(">LB", depends_on, 15) + block
    flags, block = _pad(flags, block, pad)
    return frame(HEADERS, flags, stream_id, block)


def continuation_frame(stream_id: int, block: bytes = b"", *, is_last: bool = True) -> bytes:
    """CONTINUATION (section 6.10)."""
    return frame(CONTINUATION, END_HEADERS if is_last else 0, stream_id, block)


def priority_frame(stream_id: int, depends_on: int = 0) -> bytes:
    """PRIORITY (section 6.3)."""
    return frame(PRIORITY, 0, stream_id, struct.pack(">LB", depends_on, 15))


def reset_frame(stream_id: int, code: int = CANCEL) -> bytes:
    """RST_STREAM (section 6.4)."""
    return frame(RST_STREAM, 0, stream_id, struct.pack(">L", code))


def settings_frame(*settings: tuple[int, int]) -> bytes:
    """SETTINGS (section 6.5)."""
    return frame(SETTINGS, 0, 0, b"".join(struct.pack(">HL", *setting) for setting in settings))


SETTINGS_ACK = frame(SETTINGS, ACK)


def ping_frame(payload: bytes = b"12345678", *, is_ack: bool = False) -> bytes:
    """PING (section 6.7)."""
    return frame(PING, ACK if is_ack else 0, 0, payload)


def goaway_frame(code: int = NO_ERROR, last_stream_id: int = 0) -> bytes:
    """GOAWAY (section 6.8)."""
    return frame(GOAWAY, 0, 0, struct.pack(">LL", last_stream_id, code))


def window_frame(stream_id: int, increment_bytes: int) -> bytes:
    """WINDOW_UPDATE (section 6.9)."""
    return frame(WINDOW_UPDATE, 0, stream_id, struct.pack(">L", increment_bytes))


def _pad(flags: int, payload: bytes, pad: int | None) -> tuple[int, bytes]:
    return (flags, payload) if pad is None else (flags | PADDED, bytes((pad,)) + payload + bytes(pad))


def get_fields(
    *extra: Field,
    method: bytes | None = b"GET",
    scheme: bytes | None = b"https",
    authority: bytes | None = b"edge.test",
    path: bytes | None = b"/",
    protocol: bytes | None = None,
) -> list[Field]:
    """A request's header list; a pseudo-header field that is None is left out."""
    pseudo = {
        b":method": method,
        b":scheme": scheme,
        b":authority": authority,
        b":path": path,
        b":protocol": protocol,
    }
    return [*((name, value) for name, value in pseudo.items() if value is not None), *extra]


def plain_block(fields: Iterable[Field]) -> bytes:
    """A header block without use of any table: literals that are not indexed (RFC 7541 section 6.2.2)."""
    return b"".join([b"\0" + _string(name) + _string(value) for name, value in fields])


def _string(text: bytes) -> bytes:
    return bytes(encode_integer(len(text), 7)) + text
