"""An HTTP/2 connection without a socket, and a client that is made of frames.

The client sends what it is told to, allowed or not. Whatever it gets, it holds the server to: frames
that are right in themselves and in their order, and no more DATA than its windows let in.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import hpack

from sage_edge.app.exchange import Exchange
from sage_edge.core.budgets import ClientAccount
from sage_edge.server.http2.connection import HTTP2Connection
from tests.kit.http2_frames import (
    ACK,
    CONTINUATION,
    END_HEADERS,
    END_STREAM,
    FRAME_BYTES,
    GOAWAY,
    HEADER_TABLE_SIZE,
    INITIAL_WINDOW_SIZE,
    LARGEST_WINDOW_BYTES,
    NO_ERROR,
    PING,
    PREFACE,
    SETTINGS,
    SETTINGS_ACK,
    WINDOW_BYTES,
    WINDOW_UPDATE,
    Field,
    Frame,
    data_frame,
    get_fields,
    headers_frame,
    read_frames,
    settings_frame,
    window_frame,
)
from tests.kit.protocol_host import FakeHost, default_limits


@dataclass
class Answer:
    """What came on one stream."""

    interim: list[list[Field]] = field(default_factory=list)
    fields: list[Field] = field(default_factory=list)
    trailers: list[Field] | None = None
    body: bytearray = field(default_factory=bytearray)
    frame_sizes: list[int] = field(default_factory=list)
    has_ended: bool = False
    reset_code: int | None = None

    @property
    def status(self) -> int:
        """The status; 0 before it has come."""
        return int(dict(self.fields).get(b":status", b"0"))

    def take_fields(self, fields: list[Field]) -> None:
        """Take a header section, of the answer, of its trailers, or of what comes before it."""
        assert not self.has_ended
        assert self.reset_code is None
        assert self.trailers is None
        if self.fields:
            assert not any(name.startswith(b":") for name, _ in fields)
            self.trailers = fields
        else:
            assert [name for name, _ in fields if name.startswith(b":")] == [b":status"]
            assert fields[0][0] == b":status"
            if fields[0][1].startswith(b"1"):
                self.interim.append(fields)
            else:
                self.fields = fields


class HTTP2Client:
    """A client, with the server's connection at its other end.

    Args:
        is_open: whether it begins with the preface and empty SETTINGS, and has read the server's.
        account: of its address, its own unless given.
        limits: other than the defaults.

    Attributes:
        window_bytes: what it takes on the connection; `windows` on each stream.
        room_bytes: what the server takes on the connection; `rooms` on each stream.
        goaways: last stream and code of each.
        sent_kinds: of frames.
    """

    def __init__(self, *, is_open: bool = True, account: ClientAccount | None = None, **limits: Any) -> None:
        self.host = FakeHost(default_limits(**limits), account)
        self.connection = HTTP2Connection(self.host)
        self.encoder = hpack.Encoder()
        self.decoder = hpack.Decoder(max_header_list_size=2**20)
        self.answers: dict[int, Answer] = {}
        self.goaways: list[tuple[int, int]] = []
        self.pings: list[Frame] = []
        self.settings: dict[int, int] = {}
        self.acks = 0
        self.window_bytes = self.room_bytes = WINDOW_BYTES
        self.windows: dict[int, int] = {}
        self.rooms: dict[int, int] = {}
        self.initial_window_bytes = WINDOW_BYTES
        self.next_id = 1
        self._block: tuple[Frame, bytes] | None = None
        self._has_settings = False
        self.sent_kinds: set[int] = set()
        self._unnoted = b""
        self._table_sizes: deque[list[int]] = deque()  # in SETTINGS that are not acknowledged
        if is_open:
            self.send(PREFACE, settings_frame(), SETTINGS_ACK)
            self.take()

    # What it says.

    def send(self, *frames: bytes) -> None:
        """Send these, each a whole frame, in one piece."""
        for data in frames:
            if data != PREFACE:
                self._note_sent(*read_frames(data))
        self.connection.receive(b"".join(frames))

    def feed(self, data: bytes) -> None:
        """Send bytes, whatever they are; those that are frames are taken note of as such."""
        self.connection.receive(data)
        data = self._unnoted + data
        if not self.rooms and data.startswith(PREFACE):
            data = data[len(PREFACE) :]
        while len(data) >= 9 and len(data) >= (end := 9 + int.from_bytes(data[:3], "big")):
            stream_id = int.from_bytes(data[5:9], "big") & LARGEST_WINDOW_BYTES
            self._note_sent(Frame(data[3], data[4], stream_id, data[9:end]))
            data = data[end:]
        self._unnoted = data

    def block(self, fields: Sequence[Field]) -> bytes:
        """A header block."""
        return bytes(self.encoder.encode(fields))

    def request(self, *extra: Field, body: bytes | None = None, end: bool = True, **pseudo: bytes | None) -> int:
        """Send a request; the stream's number."""
        if body is not None:
            pseudo.setdefault("method", b"POST")
        stream_id, self.next_id = self.next_id, self.next_id + 2
        sent = [headers_frame(stream_id, self.block(get_fields(*extra, **pseudo)), end=end and body is None)]
        if body is not None:
            sent.append(data_frame(stream_id, body, end=end))
        self.send(*sent)
        return stream_id

    def ask(self, *extra: Field, **rest: Any) -> tuple[int, Exchange]:
        """Send a request that is run; the stream's number and the exchange."""
        before = len(self.host.exchanges)
        stream_id = self.request(*extra, **rest)
        assert len(self.host.exchanges) == before + 1, "no application was run"
        return stream_id, self.host.exchanges[-1]

    def credit(self, stream_id: int, size_bytes: int) -> None:
        """Let the server send so much more, on the stream and on the connection."""
        self.send(window_frame(stream_id, size_bytes), window_frame(0, size_bytes))

    def wait(self, seconds: float) -> None:
        """Let time pass, and the server look at its clock."""
        self.host.now += seconds
        self.connection.check_time(self.host.now)

    def _note_sent(self, *sent: Frame) -> None:
        for one in sent:
            self.sent_kinds.add(one.kind)
            match one.kind:
                case 0:
                    self.room_bytes -= len(one.payload)
                    if one.stream_id in self.rooms:
                        self.rooms[one.stream_id] -= len(one.payload)
                case 1:
                    if one.stream_id not in self.rooms:
                        self.rooms[one.stream_id] = self.host.limits.stream_window_bytes
                        self.windows[one.stream_id] = self.initial_window_bytes
                case 4 if not one.flags & ACK and len(one.payload) % 6 == 0:
                    settings = list(struct.iter_unpack(">HL", one.payload))
                    self._table_sizes.append([value for setting, value in settings if setting == HEADER_TABLE_SIZE])
                    for setting, value in settings:
                        if setting == INITIAL_WINDOW_SIZE:
                            for stream_id in self.windows:
                                self.windows[stream_id] += value - self.initial_window_bytes
                            self.initial_window_bytes = value
                case 8 if len(one.payload) == 4:
                    size_bytes = one.number & LARGEST_WINDOW_BYTES
                    if not one.stream_id:
                        self.window_bytes += size_bytes
                    elif one.stream_id in self.windows:
                        self.windows[one.stream_id] += size_bytes

    # What it hears.

    def take(self, limit_bytes: int = 65_536, *, is_once: bool = False) -> list[Frame]:
        """Take what the server has to say, all of it or what it says at once."""
        taken: list[Frame] = []
        while data := self.connection.take_output(limit_bytes):
            frames = read_frames(data)
            for one in frames:
                self._note_taken(one)
            taken += frames
            if is_once:
                break
        assert self._block is None, "a header block is cut"
        return taken

    def answer(self, stream_id: int) -> Answer:
        """What came on a stream until now."""
        self.take()
        return self.answers.get(stream_id, Answer())

    def goaway_code(self) -> int | None:
        """The code that the connection has ended with; None while it goes on."""
        self.take()
        if not self.connection.wants_close:
            return None
        return self.goaways[-1][1]

    def _note_taken(self, one: Frame) -> None:
        assert self._has_settings or (one.kind, one.flags) == (SETTINGS, 0), "section 3.4: SETTINGS is the first"
        assert len(one.payload) <= FRAME_BYTES
        assert self._block is None or one.kind == CONTINUATION
        assert not self.goaways or self.goaways[-1][1] == NO_ERROR, "a frame follows the last"
        if one.kind in (SETTINGS, PING, GOAWAY):
            assert one.stream_id == 0
        elif one.kind != WINDOW_UPDATE:
            assert one.stream_id & 1, "a frame on a stream that is not the client's"
        match one.kind:
            case 0:
                self._note_data(one)
            case 1:
                assert one.flags & ~(END_STREAM | END_HEADERS) == 0
                self._note_block(one, one.payload, one.flags)
            case 3:
                answer = self.answers.setdefault(one.stream_id, Answer())
                assert answer.reset_code is None, "reset twice"
                answer.reset_code = one.number
            case 4:
                self._note_settings(one)
            case 6:
                assert len(one.payload) == 8
                self.pings.append(one)
            case 7:
                last = int.from_bytes(one.payload[:4], "big")
                assert not self.goaways or last <= self.goaways[-1][0], "section 6.8: the last stream's number grew"
                self.goaways.append((last, one.number))
            case 8:
                self._note_credit(one.stream_id, one.number)
            case 9:
                assert self._block is not None
                first, block = self._block
                assert first.stream_id == one.stream_id
                self._note_block(first, block + one.payload, one.flags)
            case kind:
                raise AssertionError(f"a server does not send frames of kind {kind}")

    def _note_data(self, one: Frame) -> None:
        answer = self.answers[one.stream_id]
        assert answer.fields, "DATA before HEADERS"
        assert not answer.has_ended
        assert answer.reset_code is None
        assert one.flags & ~END_STREAM == 0
        self.window_bytes -= len(one.payload)
        self.windows[one.stream_id] -= len(one.payload)
        if one.payload:
            assert self.window_bytes >= 0, "more than the connection's window"
            assert self.windows[one.stream_id] >= 0, "more than the stream's window"
        answer.body += one.payload
        answer.frame_sizes.append(len(one.payload))
        answer.has_ended = bool(one.flags & END_STREAM)

    def _note_block(self, first: Frame, block: bytes, flags: int) -> None:
        if not flags & END_HEADERS:
            self._block = first, block
            return
        self._block = None
        fields = [(bytes(name), bytes(value)) for name, value in self.decoder.decode(block, raw=True)]
        answer = self.answers.setdefault(first.stream_id, Answer())
        answer.take_fields(fields)
        answer.has_ended = bool(first.flags & END_STREAM)
        assert answer.fields or not answer.has_ended, "section 8.1: an interim answer ends the stream"

    def _note_settings(self, one: Frame) -> None:
        if one.flags & ACK:
            assert not one.payload
            self.acks += 1
            for size_bytes in self._table_sizes.popleft():
                self.decoder.max_allowed_table_size = size_bytes  # section 4.3.1
            return
        assert not self._has_settings, "the server's settings are sent once"
        self._has_settings = True
        self.settings = dict(struct.iter_unpack(">HL", one.payload))

    def _note_credit(self, stream_id: int, size_bytes: int) -> None:
        assert size_bytes > 0, "section 6.9: an increment of 0"
        if not stream_id:
            self.room_bytes += size_bytes
            assert self.room_bytes <= self.host.limits.connection_window_bytes, "more credit than was used"
            return
        answer = self.answers.get(stream_id)
        assert answer is None or answer.reset_code is None
        self.rooms[stream_id] += size_bytes
        assert self.rooms[stream_id] <= self.host.limits.stream_window_bytes, "more credit than was used"
