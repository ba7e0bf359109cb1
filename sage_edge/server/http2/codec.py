"""From a client's bytes to frames that are right in themselves (RFC 9113 sections 4 and 6).

The seam behind which another codec could stand: `Codec.feed` calls a `FrameHandler`. What a frame
means for a stream, and whether it is allowed there, is `connection`'s to decide.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Protocol

from sage_edge.server.http2 import frames
from sage_edge.server.http2.frames import ConnectionFault, ErrorCode
from sage_edge.server.http2.hpack import Field, HeaderDecoder

MAX_CONTINUATIONS = 64
"""Frames in one header block. Each may be empty, so a limit on the block's size does not bound them."""

_LONG = struct.Struct(">L")
_SETTING = struct.Struct(">HL")


class FrameHandler(Protocol):
    """What is called with each frame, in order. Any method may raise `ConnectionFault`."""

    def on_headers(self, stream_id: int, fields: list[Field], *, is_last: bool, depends_on: int) -> None:
        """A whole header block, and the stream it names as its parent in the old priority scheme, or 0."""

    def on_data(self, stream_id: int, data: bytes, flow_bytes: int, *, is_last: bool) -> None:
        """A piece of a body, and what it counts for in flow control (section 6.9.1)."""

    def on_priority(self, stream_id: int, depends_on: int) -> None:
        """Deprecated, and without effect (section 5.3.2)."""

    def on_reset(self, stream_id: int, code: int) -> None:
        """The client gives a stream up."""

    def on_settings(self, settings: Sequence[tuple[int, int]]) -> None:
        """Settings to apply and acknowledge."""

    def on_settings_ack(self) -> None:
        """The client has applied the server's settings."""

    def on_ping(self, payload: bytes, *, is_ack: bool) -> None:
        """A PING, or the answer to the server's."""

    def on_goaway(self, code: int) -> None:
        """The client will open no more streams."""

    def on_window_update(self, stream_id: int, increment_bytes: int) -> None:
        """Credit; an increment of 0 is the handler's to refuse, since what it ends depends on the stream."""

    def on_frame_size_fault(self, stream_id: int) -> None:
        """A frame whose wrong size is the fault of its stream alone (section 4.2)."""


class Codec:
    """One connection's. After a `ConnectionFault` it is of no use.

    Args:
        handler: is called with each frame.
        max_list_bytes: of a decoded header list; more ends the connection, for the decoder's state is lost.
        has_time: whether to go on with the next frame. A frame's bytes say nothing of what it costs.

    Attributes:
        blocks: how many header blocks of more than one frame have begun.
    """

    def __init__(self, handler: FrameHandler, *, max_list_bytes: int, has_time: Callable[[], bool]) -> None:
        self._handler = handler
        self._has_time = has_time
        self._decoder = HeaderDecoder(max_list_bytes)
        self._max_block_bytes = max_list_bytes
        self._rest = b""
        self._is_begun = False
        self._has_settings = False
        self._block: list[bytes] = []
        self._block_bytes = 0
        self._block_stream_id = 0  # 0: no header block is open
        self._block_flags = 0
        self._block_depends_on = 0
        self.blocks = 0
        self._take: tuple[Callable[[int, int, bytes], None], ...] = (
            self._take_data,
            self._take_headers,
            self._take_priority,
            self._take_reset,
            self._take_settings,
            self._take_push_promise,
            self._take_ping,
            self._take_goaway,
            self._take_window_update,
            self._take_continuation,
        )

    @property
    def is_in_block(self) -> bool:
        """Whether a header block has begun and not ended."""
        return self._block_stream_id != 0

    def let_go(self) -> None:
        """Take nothing more, and hold on to nothing that holds on to this."""
        self._take = ()

    @property
    def held_bytes(self) -> int:
        """What has come of a frame or a header block that is not here whole."""
        return len(self._rest) + (self._block_bytes if self._block_stream_id else 0)

    def feed(self, data: bytes) -> bool:
        """Take bytes; calls the handler for each frame that is complete, one at least.

        Returns:
            False where there was no time for all of them: the rest is kept, and gone on with when more is fed, or none.

        Raises:
            ConnectionFault: a connection error (section 5.4.1).
        """
        if self._rest:
            data = self._rest + data
            self._rest = b""
        position = 0
        if not self._is_begun:
            position = len(frames.PREFACE)
            if not data.startswith(frames.PREFACE[: len(data)]):
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "this is not HTTP/2's connection preface")
            if len(data) < position:
                self._rest = data
                return True
            self._is_begun = True
        size = len(data)
        take, has_time = self._take, self._has_time
        is_whole = True
        while size - position >= frames.FRAME_HEAD_BYTES:
            (head,) = _LONG.unpack_from(data, position)
            length = head >> 8
            kind = head & 0xFF
            if length > frames.DEFAULT_FRAME_BYTES:
                raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "a frame is larger than SETTINGS_MAX_FRAME_SIZE")
            start = position + frames.FRAME_HEAD_BYTES
            end = start + length
            if end > size:
                break
            flags = data[position + 4]
            stream_id = _LONG.unpack_from(data, position + 5)[0] & frames.LAST_STREAM_ID
            position = end
            if not self._has_settings and (kind != frames.SETTINGS or flags & frames.ACK):
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "the first frame is not SETTINGS")  # section 3.4
            if self._block_stream_id and (kind != frames.CONTINUATION or stream_id != self._block_stream_id):
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a frame interrupts a header block")  # section 6.10
            if kind < len(take):  # others are ignored (section 5.5)
                take[kind](flags, stream_id, data[start:end])
            if not has_time() and position < size:
                is_whole = False
                break
        self._rest = data[position:]
        return is_whole

    def _take_data(self, flags: int, stream_id: int, payload: bytes) -> None:
        _require_stream(stream_id)
        flow_bytes = len(payload)
        if flags & frames.PADDED:
            payload = _unpad(payload)
        self._handler.on_data(stream_id, payload, flow_bytes, is_last=bool(flags & frames.END_STREAM))

    def _take_headers(self, flags: int, stream_id: int, payload: bytes) -> None:
        _require_stream(stream_id)
        if flags & frames.PADDED:
            payload = _unpad(payload)
        depends_on = 0
        if flags & frames.HAS_PRIORITY:
            if len(payload) < 5:
                raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "HEADERS is too short for its priority fields")
            depends_on = _LONG.unpack_from(payload)[0] & frames.LAST_STREAM_ID
            payload = payload[5:]
        if flags & frames.END_HEADERS:
            fields = self._decoder.decode(payload)
            self._handler.on_headers(stream_id, fields, is_last=bool(flags & frames.END_STREAM), depends_on=depends_on)
            return
        self.blocks += 1
        self._block = [payload]
        self._block_bytes = len(payload)
        self._block_stream_id = stream_id
        self._block_flags = flags
        self._block_depends_on = depends_on

    def _take_continuation(self, flags: int, stream_id: int, payload: bytes) -> None:
        if not self._block_stream_id:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "CONTINUATION without HEADERS")
        self._block.append(payload)
        self._block_bytes += len(payload)
        if self._block_bytes > self._max_block_bytes or len(self._block) > MAX_CONTINUATIONS:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "a header block is too large")
        if flags & frames.END_HEADERS:
            block = b"".join(self._block)
            self._block.clear()
            self._block_stream_id = 0
            self._handler.on_headers(
                stream_id,
                self._decoder.decode(block),
                is_last=bool(self._block_flags & frames.END_STREAM),
                depends_on=self._block_depends_on,
            )

    def _take_priority(self, _flags: int, stream_id: int, payload: bytes) -> None:
        _require_stream(stream_id)
        if len(payload) != 5:
            self._handler.on_frame_size_fault(stream_id)
            return
        self._handler.on_priority(stream_id, _LONG.unpack_from(payload)[0] & frames.LAST_STREAM_ID)

    def _take_reset(self, _flags: int, stream_id: int, payload: bytes) -> None:
        _require_stream(stream_id)
        _require_size(payload, 4)
        self._handler.on_reset(stream_id, _LONG.unpack(payload)[0])

    def _take_settings(self, flags: int, stream_id: int, payload: bytes) -> None:
        _require_connection(stream_id)
        if flags & frames.ACK:
            _require_size(payload, 0)
            self._handler.on_settings_ack()
            return
        if len(payload) % _SETTING.size:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "SETTINGS ends within a setting")
        self._has_settings = True
        self._handler.on_settings(list(_SETTING.iter_unpack(payload)))

    def _take_push_promise(self, _flags: int, _stream_id: int, _payload: bytes) -> None:
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a client cannot push")  # section 8.4

    def _take_ping(self, flags: int, stream_id: int, payload: bytes) -> None:
        _require_connection(stream_id)
        _require_size(payload, 8)
        self._handler.on_ping(payload, is_ack=bool(flags & frames.ACK))

    def _take_goaway(self, _flags: int, stream_id: int, payload: bytes) -> None:
        _require_connection(stream_id)
        if len(payload) < 8:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "GOAWAY is too short")
        self._handler.on_goaway(_LONG.unpack_from(payload, 4)[0])

    def _take_window_update(self, _flags: int, stream_id: int, payload: bytes) -> None:
        _require_size(payload, 4)
        self._handler.on_window_update(stream_id, _LONG.unpack(payload)[0] & frames.LARGEST_WINDOW_BYTES)


def _require_stream(stream_id: int) -> None:
    if not stream_id:
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "the frame needs a stream")


def _require_connection(stream_id: int) -> None:
    if stream_id:
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "the frame belongs to the connection, not to a stream")


def _require_size(payload: bytes, size_bytes: int) -> None:
    if len(payload) != size_bytes:
        raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, f"the frame's payload is not of {size_bytes} bytes")


def _unpad(payload: bytes) -> bytes:
    if not payload:
        raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "a padded frame without its padding's length")
    if payload[0] >= len(payload):
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "the padding is as long as the frame")  # section 6.1
    return payload[1 : len(payload) - payload[0]]
