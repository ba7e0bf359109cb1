"""A lean HTTP/2 client connection over TLS: frames packed by hand, and only as much of RFC 9113 as the loads need.

It counts and keeps everything that comes back. Big receive windows are granted up front, and header blocks are built
once, so that the client costs less than any server.
"""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass, field
from struct import Struct
from time import perf_counter

import hpack

_FRAME = Struct(">HBBBL")  # length in two parts, type, flags, stream
_SETTING = Struct(">HL")
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _GOAWAY, _WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
_END_STREAM = _ACK = 0x1
_END_HEADERS = 0x4
_PADDED = 0x8
_WINDOW = 2**30 - 1  # as h2load's with -w 30 -W 30
_CREDIT_AT = 2**26
_READ = 2**18
_RECORD = 2**14


def frame(kind: int, flags: int, stream: int, payload: bytes | memoryview = b"") -> bytes:
    """One frame."""
    return _FRAME.pack(len(payload) >> 8, len(payload) & 0xFF, kind, flags, stream) + payload


# No dynamic table for answers: then equal blocks mean equal headers, and each need be decoded only once.
_SETTINGS_SENT = _SETTING.pack(1, 0) + _SETTING.pack(2, 0) + _SETTING.pack(4, _WINDOW) + _SETTING.pack(5, _RECORD)
_PREFACE = (
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    + frame(_SETTINGS, 0, 0, _SETTINGS_SENT)
    + frame(_WINDOW_UPDATE, 0, 0, (_WINDOW - 0xFFFF).to_bytes(4, "big"))
)


@dataclass(frozen=True)
class Request:
    """What is asked, and the body that has to be answered with status 200."""

    path: str
    answer: bytes
    body: bytes = b""

    def headers(self) -> list[tuple[str, str]]:
        """As a client library sends them."""
        headers = [
            (":method", "POST" if self.body else "GET"),
            (":scheme", "https"),
            (":authority", "localhost"),
            (":path", self.path),
            ("accept", "*/*"),
            ("user-agent", "sage-edge-bench"),
        ]
        if self.body:
            headers += [("content-type", "application/json"), ("content-length", str(len(self.body)))]
        return headers


class Blocks:
    """The header blocks of requests: how each is written first on a connection, and how from then on.

    Requests that share a connection are first asked in the order given here. The statuses of known blocks of answers
    are kept too: those mean the same on every connection, since there is no dynamic table.
    """

    def __init__(self, *requests: Request) -> None:
        encoder = hpack.Encoder()
        self.first = {request.path: encoder.encode(request.headers()) for request in requests}
        self.again = {request.path: encoder.encode(request.headers()) for request in requests}
        self.statuses: dict[bytes, int] = {}


@dataclass(slots=True, eq=False)
class Stream:
    """A request under way, or done: with `fault` empty if the answer was right."""

    request: Request
    opened: float
    unsent: memoryview
    window: int
    status: int = 0
    body: bytearray = field(default_factory=bytearray)
    arrivals: list[tuple[float, int]] = field(default_factory=list)  # when, and length of the body then
    ended: float = 0.0
    fault: str = ""


class Connection:
    """One connection. `is_timed` keeps when each piece of an answer came."""

    def __init__(self, port: int, tls: ssl.SSLContext, blocks: Blocks, *, is_timed: bool = False) -> None:
        self.opened = perf_counter()
        self.streams: dict[int, Stream] = {}
        self.used = 0  # requests sent so far
        self.is_ready = False  # the handshake is complete
        self.is_lost = False
        self.has_unsent = False  # the socket took less than there is: call flush when it is writable
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = tls.wrap_bio(self._incoming, self._outgoing, server_hostname="localhost")
        self._is_timed = is_timed
        self._blocks = blocks
        self._known: set[str] = set()
        self._decoder = hpack.Decoder()
        self._decoder.header_table_size = self._decoder.max_allowed_table_size = 0
        self._next_id = 1
        self._plain: list[bytes] = [_PREFACE]
        self._cipher = memoryview(b"")
        self._rest = b""
        self._uncredited = 0
        self._window, self._initial_window, self._largest = 0xFFFF, 0xFFFF, 0x4000
        self._handshake()

    def ask(self, request: Request) -> Stream:
        """Begin a request. It is sent by the next `flush`."""
        stream_id, self._next_id = self._next_id, self._next_id + 2
        is_known = request.path in self._known
        self._known.add(request.path)
        block = (self._blocks.again if is_known else self._blocks.first)[request.path]
        flags = _END_HEADERS if request.body else _END_HEADERS | _END_STREAM
        self._plain.append(frame(_HEADERS, flags, stream_id, block))
        stream = Stream(request, perf_counter(), memoryview(request.body), self._initial_window)
        self.streams[stream_id] = stream
        self.used += 1
        if request.body:
            self._send_body(stream_id, stream)
        return stream

    def receive(self) -> list[Stream]:
        """Take what has come, and return the streams that ended by it. All end when the connection does."""
        try:
            data = self.socket.recv(_READ)
        except (BlockingIOError, InterruptedError):
            return []
        except OSError as error:
            return self._lost(type(error).__name__)
        if not data:
            return self._lost("connection closed")
        self._incoming.write(data)
        try:
            if not self.is_ready:
                self._handshake()
            pieces = [self._rest]
            while self._incoming.pending:
                pieces.append(self._tls.read(_RECORD))
        except ssl.SSLWantReadError:
            if not self.is_ready:
                return []
        except ssl.SSLError as error:
            return self._lost(f"TLS: {error.reason}")
        try:
            return self._take(b"".join(pieces))
        except (KeyError, hpack.HPACKError) as error:
            return self._lost(f"not HTTP/2 as expected: {error!r}")

    def flush(self) -> None:
        """Send what there is to send."""
        if not self.is_ready and not self._outgoing.pending:
            return
        if self._plain and self.is_ready:
            self._tls.write(b"".join(self._plain))
            self._plain.clear()
        if self._outgoing.pending:
            self._cipher = memoryview(bytes(self._cipher) + self._outgoing.read())
        try:
            while self._cipher:
                self._cipher = self._cipher[self.socket.send(self._cipher) :]
        except (BlockingIOError, InterruptedError):
            pass
        except OSError:
            self._cipher = memoryview(b"")  # the next receive says that the connection is lost
        self.has_unsent = bool(self._cipher)

    def close(self) -> None:
        """Leave politely."""
        if self.is_ready:
            self._plain.append(frame(_GOAWAY, 0, 0, bytes(8)))
            self.flush()
        self.socket.close()

    def _handshake(self) -> None:
        try:
            self._tls.do_handshake()
            self.is_ready = True
        except ssl.SSLWantReadError:
            pass
        self.flush()

    def _take(self, data: bytes) -> list[Stream]:
        """Go through the frames. Event streams spend all their time here."""
        ended: list[Stream] = []
        now = perf_counter()
        position, size, streams = 0, len(data), self.streams
        while size - position >= 9:
            high, low, kind, flags, stream_id = _FRAME.unpack_from(data, position)
            start = position + 9
            position = start + (high << 8 | low)
            if position > size:
                position = start - 9
                break
            if kind == _DATA and not flags & _PADDED:
                stream = streams[stream_id]
                self._uncredited += position - start
                if position > start:
                    stream.body += data[start:position]
                    if self._is_timed:
                        stream.arrivals.append((now, len(stream.body)))
                if flags & _END_STREAM:
                    ended.append(self._ended(stream_id, now))
            elif kind == _HEADERS and not flags & _PADDED and flags & _END_HEADERS:
                self._head(streams[stream_id], data[start:position])
                if flags & _END_STREAM:
                    ended.append(self._ended(stream_id, now))
            elif kind == _RST_STREAM:
                if stream_id in streams:
                    stream = self._ended(stream_id, now)
                    stream.fault = f"reset with {int.from_bytes(data[start:position], 'big')}"
                    ended.append(stream)
            elif kind in (_SETTINGS, _PING, _WINDOW_UPDATE):
                self._control(kind, flags, stream_id, data[start:position])
            elif kind == _GOAWAY:
                code = int.from_bytes(data[start + 4 : start + 8], "big")
                if code:
                    return ended + self._lost(f"GOAWAY with {code}")
            else:
                return ended + self._lost(f"a frame of type {kind}, flags {flags:#x}: not understood")
        self._rest = data[position:]
        if self._uncredited > _CREDIT_AT:
            self._plain.append(frame(_WINDOW_UPDATE, 0, 0, self._uncredited.to_bytes(4, "big")))
            self._uncredited = 0
        return ended

    def _head(self, stream: Stream, block: bytes) -> None:
        status = self._blocks.statuses.get(block)
        if status is None:
            headers = dict(self._decoder.decode(block, raw=True))
            status = self._blocks.statuses[block] = int(headers.get(b":status", 0))
        stream.status = status or stream.status

    def _ended(self, stream_id: int, now: float) -> Stream:
        stream = self.streams.pop(stream_id)
        stream.ended = now
        if stream.status != 200:
            stream.fault = f"status {stream.status}"
        elif stream.body != stream.request.answer:
            stream.fault = f"{len(stream.body)} bytes for {len(stream.request.answer)}"
            if len(stream.body) == len(stream.request.answer):
                stream.fault = "other bytes"
        return stream

    def _lost(self, reason: str) -> list[Stream]:
        """The connection is of no more use."""
        lost = list(self.streams.values())
        self.streams.clear()
        self.is_ready, self.is_lost = False, True
        for stream in lost:
            stream.fault = reason
        return lost

    def _control(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        if kind == _PING and not flags & _ACK:
            self._plain.append(frame(_PING, _ACK, 0, payload))
        elif kind == _SETTINGS and not flags & _ACK:
            for identifier, value in _SETTING.iter_unpack(payload):
                if identifier == 4:
                    for stream in self.streams.values():
                        stream.window += value - self._initial_window
                    self._initial_window = value
                elif identifier == 5:
                    self._largest = value
            self._plain.append(frame(_SETTINGS, _ACK, 0))
            self._send_bodies()
        elif kind == _WINDOW_UPDATE:
            increment = int.from_bytes(payload, "big")
            if stream_id == 0:
                self._window += increment
                self._send_bodies()
            elif raised := self.streams.get(stream_id):
                raised.window += increment
                self._send_body(stream_id, raised)

    def _send_bodies(self) -> None:
        for stream_id, stream in self.streams.items():
            self._send_body(stream_id, stream)

    def _send_body(self, stream_id: int, stream: Stream) -> None:
        """Send as much of the request's body as the windows take."""
        while stream.unsent and (size := min(len(stream.unsent), stream.window, self._window, self._largest)) > 0:
            piece, stream.unsent = stream.unsent[:size], stream.unsent[size:]
            self._plain.append(frame(_DATA, 0 if stream.unsent else _END_STREAM, stream_id, piece))
            stream.window -= size
            self._window -= size
