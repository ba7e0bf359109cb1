"""permessage-deflate on the server's side (RFC 7692): what is agreed to, and the frames' payloads.

Takes the place of wsproto's own extension, which inflates all that a frame holds without a bound,
and loses its way where a PING comes between the fragments of a compressed message.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable
from dataclasses import dataclass

from wsproto.extensions import Extension
from wsproto.frame_protocol import CloseReason, FrameDecoder, FrameProtocol, Opcode, RsvBits

ExtensionOffer = tuple[str, tuple[tuple[str, str], ...]]
"""A name and its parameters; the value of one without a value is ""."""

WINDOW_BITS = 12
"""4 KiB each way instead of 32: 40 KiB instead of 300 for each WebSocket, at little cost to short messages."""
DEFLATE_BYTES = 40 * 1024
"""What that is, both ways together."""
MEMORY_LEVEL = 5
LONGEST_WINDOW_BITS = 15
SLICE_BYTES = 4096
"""What is inflated at a time. zlib copies what follows each final block, of which there may be one every two bytes."""
TAIL = b"\x00\x00\xff\xff"
"""The end of each message, which is not sent (section 7.2.1)."""

# Section 7.1. A value of 8 is legal for the server too, but zlib cannot compress with so small a window.
_VALUES = {
    "server_no_context_takeover": re.compile(r""),
    "client_no_context_takeover": re.compile(r""),
    "server_max_window_bits": re.compile(r"9|1[0-5]"),
    "client_max_window_bits": re.compile(r"|[89]|1[0-5]"),
}


@dataclass(frozen=True)
class DeflateAgreement:
    """The parameters of both sides (section 7.1).

    Attributes:
        client_max_window_bits: None where the client cannot be told.
    """

    server_no_context_takeover: bool
    client_no_context_takeover: bool
    server_max_window_bits: int
    client_max_window_bits: int | None

    def as_field_value(self) -> bytes:
        """For the answer's `sec-websocket-extensions`."""
        parts = [BoundedDeflate.name, f"server_max_window_bits={self.server_max_window_bits}"]
        if self.client_max_window_bits is not None:
            parts.append(f"client_max_window_bits={self.client_max_window_bits}")
        if self.server_no_context_takeover:
            parts.append("server_no_context_takeover")
        if self.client_no_context_takeover:
            parts.append("client_no_context_takeover")
        return "; ".join(parts).encode()


def agree(offers: Iterable[ExtensionOffer]) -> DeflateAgreement | None:
    """Agree to the first offer that can be kept; the others are declined (section 5)."""
    for name, parameters in offers:
        if name == BoundedDeflate.name and (agreement := _agree_to(parameters)) is not None:
            return agreement
    return None


def _agree_to(parameters: tuple[tuple[str, str], ...]) -> DeflateAgreement | None:
    given = dict(parameters)
    is_legal = len(given) == len(parameters) and all(
        name in _VALUES and _VALUES[name].fullmatch(value) for name, value in parameters
    )
    if not is_legal:
        return None
    client_bits = given.get("client_max_window_bits")
    return DeflateAgreement(
        server_no_context_takeover="server_no_context_takeover" in given,
        client_no_context_takeover="client_no_context_takeover" in given,
        server_max_window_bits=min(WINDOW_BITS, int(given.get("server_max_window_bits", WINDOW_BITS))),
        client_max_window_bits=None if client_bits is None else min(WINDOW_BITS, int(client_bits or WINDOW_BITS)),
    )


class BoundedDeflate(Extension):
    """Inflates what comes and deflates what goes, on one connection.

    Args:
        agreement: with the client.
        max_message_bytes: the size of a message at which inflating it ends, with close code 1009.

    Attributes:
        is_message_deflated: the one that is under way, or was last.
    """

    name = "permessage-deflate"

    def __init__(self, agreement: DeflateAgreement, max_message_bytes: int) -> None:
        self._agreement = agreement
        self._max_message_bytes = max_message_bytes
        self._inflated_bytes = 0  # of the message under way
        self.is_message_deflated = False
        self._is_frame_deflated = False
        self._compressor: zlib._Compress | None = None
        self._decompressor: zlib._Decompress | None = None

    def enabled(self) -> bool:
        """It is only made where it was agreed to."""
        return True

    def offer(self) -> bool | str:
        """A server offers nothing."""
        return False

    def frame_inbound_header(
        self, proto: FrameDecoder | FrameProtocol, opcode: Opcode, rsv: RsvBits, payload_length: int
    ) -> CloseReason | RsvBits:
        """Note what the frame's payload is. Called again where the header was incomplete."""
        is_first = opcode in {Opcode.TEXT, Opcode.BINARY}
        if rsv.rsv1 and not is_first:
            return CloseReason.PROTOCOL_ERROR  # section 6.1
        if is_first:
            self.is_message_deflated = rsv.rsv1
            self._inflated_bytes = 0
        self._is_frame_deflated = self.is_message_deflated and not opcode.iscontrol()
        return RsvBits(True, False, False)

    def frame_inbound_payload_data(self, proto: FrameDecoder | FrameProtocol, data: bytes) -> bytes | CloseReason:
        """Inflate a piece of a payload."""
        return self._inflate(data) if self._is_frame_deflated else data

    def frame_inbound_complete(self, proto: FrameDecoder | FrameProtocol, fin: bool) -> bytes | CloseReason | None:
        """Inflate the rest of a message (section 7.2.2)."""
        if not fin or not self._is_frame_deflated:
            return None
        rest = self._inflate(TAIL)
        if self._agreement.client_no_context_takeover:
            self._decompressor = None
        return rest

    def frame_outbound(
        self, proto: FrameDecoder | FrameProtocol, opcode: Opcode, rsv: RsvBits, data: bytes, fin: bool
    ) -> tuple[RsvBits, bytes]:
        """Deflate a message, which is always one frame (section 7.2.1)."""
        if opcode.iscontrol():
            return rsv, data
        if self._compressor is None:
            bits = self._agreement.server_max_window_bits
            self._compressor = zlib.compressobj(wbits=-bits, memLevel=MEMORY_LEVEL)
        deflated = self._compressor.compress(data) + self._compressor.flush(zlib.Z_SYNC_FLUSH)
        if self._agreement.server_no_context_takeover:
            self._compressor = None
        return RsvBits(True, rsv.rsv2, rsv.rsv3), deflated.removesuffix(TAIL)

    def _inflate(self, data: bytes) -> bytes | CloseReason:
        room_bytes = self._max_message_bytes - self._inflated_bytes
        inflated = bytearray()
        try:
            for start in range(0, len(data), SLICE_BYTES):
                rest = data[start : start + SLICE_BYTES]
                while rest:
                    if self._decompressor is None or self._decompressor.eof:
                        self._decompressor = self._new_decompressor()
                    # One byte more, because 0 would mean no bound.
                    inflated += self._decompressor.decompress(rest, room_bytes - len(inflated) + 1)
                    if len(inflated) > room_bytes:
                        return CloseReason.MESSAGE_TOO_BIG
                    rest = self._decompressor.unused_data  # after a final block (section 7.2.3.4)
        except zlib.error:
            return CloseReason.INVALID_FRAME_PAYLOAD_DATA
        self._inflated_bytes += len(inflated)
        return bytes(inflated)

    def _new_decompressor(self) -> zlib._Decompress:
        # A larger window than agreed to is no harm, and there are clients that say 8 and mean 9, as zlib does.
        return zlib.decompressobj(-max(9, self._agreement.client_max_window_bits or LONGEST_WINDOW_BITS))
