"""An HTTP/2 client without a state machine: sends the frames it is told to, in any order, and notes those that come."""

from __future__ import annotations

import socket
import ssl
import struct
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import hpack

from tests.kit.edge import Edge
from tests.kit.http2_frames import (
    ACK,
    DATA,
    END_STREAM,
    FRAME_BYTES,
    GOAWAY,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    PING,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    SETTINGS_ACK,
    WINDOW_BYTES,
    WINDOW_UPDATE,
    Field,
    data_frame,
    get_fields,
    headers_frame,
    ping_frame,
    plain_block,
    settings_frame,
    window_frame,
)

PATIENCE_SECONDS = 20.0
"""Longest wait for anything a server is to send."""

_LOST = (ConnectionError, ssl.SSLError)


def headers(stream_id: int, fields: Iterable[Field], *, end_stream: bool = True) -> bytes:
    """HEADERS that leave no trace in the peer's table."""
    return headers_frame(stream_id, plain_block(fields), end=end_stream)


def request(path: bytes = b"/ok", method: bytes = b"GET", *more: Field) -> list[Field]:
    """The fields of a request."""
    return get_fields(*more, method=method, authority=b"localhost", path=path)


@dataclass
class Stream:
    """What came back on one stream."""

    fields: list[Field] = field(default_factory=list)
    body: bytearray = field(default_factory=bytearray)
    is_ended: bool = False
    reset_code: int | None = None

    @property
    def status(self) -> int:
        """The status; 0 before it has come."""
        return int(dict(self.fields).get(b":status", b"0"))

    @property
    def is_over(self) -> bool:
        """Nothing more will come."""
        return self.is_ended or self.reset_code is not None


class FrameClient:
    """One connection, its preface sent.

    Args:
        sock: connected.
        settings_sent: in the preface.
        is_crediting: give credit for what comes.
        is_polite: answer PING.

    Attributes:
        settings: the server's.
        goaways: last stream and code of each.
        windows: what may be sent on each stream; on the connection for 0.
    """

    def __init__(
        self,
        sock: socket.socket,
        settings_sent: Mapping[int, int] | None = None,
        *,
        is_crediting: bool = True,
        is_polite: bool = True,
    ) -> None:
        self.sock = sock
        self.settings: dict[int, int] = {}
        self.goaways: list[tuple[int, int]] = []
        self.streams: defaultdict[int, Stream] = defaultdict(Stream)
        self.windows: defaultdict[int, int] = defaultdict(lambda: self._initial_window)
        self.windows[0] = WINDOW_BYTES
        self.pings: list[bytes] = []
        self.is_closed = False
        self._initial_window = WINDOW_BYTES
        self._is_crediting = is_crediting
        self._is_polite = is_polite
        self._acknowledged: set[bytes] = set()
        self._decoder = hpack.Decoder(2**20)
        self._received = bytearray()
        self._next_id = 1
        self.send(PREFACE + settings_frame(*(settings_sent or {}).items()))

    def open(self, fields: Sequence[Field] | None = None, *, end_stream: bool = True) -> int:
        """Send HEADERS on a new stream; its number."""
        stream_id = self.next_id()
        self.send(headers(stream_id, fields or request(), end_stream=end_stream))
        return stream_id

    def next_id(self) -> int:
        """The number of a new stream, on which nothing is sent yet."""
        stream_id, self._next_id = self._next_id, self._next_id + 2
        return stream_id

    def get(self, path: bytes = b"/ok") -> Stream:
        """The answer to a GET."""
        return self.wait_for(self.open(request(path)))

    def send(self, *frames: bytes) -> None:
        """Send bytes. That the server has left is noted, not raised."""
        self.sock.settimeout(PATIENCE_SECONDS)
        try:
            self.sock.sendall(b"".join(frames))
        except _LOST:
            self._read_rest()

    def flood(self, frames: Iterable[bytes], *, at_once: int = 500) -> None:
        """Send many frames, reading what comes between them, until the server says GOAWAY or leaves."""
        waiting: list[bytes] = []
        for each in frames:
            waiting.append(each)
            if len(waiting) >= at_once:
                self.send(*waiting)
                waiting.clear()
                while self.receive(0):
                    pass
                if self.is_closed or self.goaways:
                    return
        self.send(*waiting)

    def send_body(self, stream_id: int, body: bytes, *, end_stream: bool = True) -> None:
        """Send DATA as far as the windows allow, until the body is sent or the stream is reset."""
        while body and self.streams[stream_id].reset_code is None and not self.is_closed:
            size = min(len(body), self.windows[0], self.windows[stream_id], FRAME_BYTES)
            if size <= 0:
                assert self.receive(PATIENCE_SECONDS) or self.is_closed, "no credit came"
                continue
            self.windows[0] -= size
            self.windows[stream_id] -= size
            self.send(data_frame(stream_id, body[:size], end=end_stream and size == len(body)))
            body = body[size:]

    def ping(self) -> None:
        """Wait for the answer to a PING: by then the server has read everything before it."""
        payload = struct.pack(">Q", time.monotonic_ns())
        self.send(ping_frame(payload))
        self.wait_until(lambda: payload in self._acknowledged or self.is_closed)
        assert payload in self._acknowledged, "the connection was closed before the PING was answered"

    def wait_for(self, stream_id: int) -> Stream:
        """What came back on a stream, once that is over or the connection is closed."""
        stream = self.streams[stream_id]
        self.wait_until(lambda: stream.is_over or self.is_closed)
        return stream

    def wait_until(self, condition: Callable[[], bool], seconds: float = PATIENCE_SECONDS) -> None:
        """Receive until a condition holds.

        Raises:
            AssertionError: the time is up, or the connection closed, without it.
        """
        deadline = time.monotonic() + seconds
        while not condition():
            is_alive = not self.is_closed and self.receive(max(0.001, deadline - time.monotonic()))
            assert is_alive or condition(), f"in vain; closed: {self.is_closed}, GOAWAY: {self.goaways}"

    def receive(self, seconds: float) -> bool:
        """Take one piece from the socket; False if none came in time, or none will."""
        self.sock.settimeout(seconds)
        try:
            piece = self.sock.recv(65536)
        except (TimeoutError, BlockingIOError, ssl.SSLWantReadError):
            return False
        except _LOST:
            piece = b""
        self._received += piece
        if not piece:
            self.is_closed = True
        answers = [answer for each in self._frames() if (answer := self._note(*each))]
        if answers and not self.is_closed:
            self.send(*answers)
        return bool(piece)

    def _read_rest(self) -> None:
        while not self.is_closed:
            if not self.receive(1):
                self.is_closed = True

    def _frames(self) -> Iterator[tuple[int, int, int, bytes]]:
        while len(self._received) >= 9:
            size = int.from_bytes(self._received[:3], "big")
            if len(self._received) < 9 + size:
                return
            kind, flags, stream_id = struct.unpack(">BBI", self._received[3:9])
            payload = bytes(self._received[9 : 9 + size])
            del self._received[: 9 + size]
            yield kind, flags, stream_id, payload

    def _note(self, kind: int, flags: int, stream_id: int, payload: bytes) -> bytes:
        """Note a frame; what it is answered with."""
        if kind in {DATA, HEADERS}:
            return self._note_message(kind, flags, stream_id, payload)
        if kind == RST_STREAM:
            self.streams[stream_id].reset_code = int.from_bytes(payload, "big")
        elif kind == GOAWAY:
            self.goaways.append(struct.unpack(">II", payload[:8]))
        elif kind == WINDOW_UPDATE:
            self.windows[stream_id] += int.from_bytes(payload, "big")
        elif kind == PING and flags & ACK:
            self._acknowledged.add(payload)
        elif kind == PING:
            self.pings.append(payload)
            return ping_frame(payload, is_ack=True) if self._is_polite else b""
        elif kind == SETTINGS and not flags & ACK:
            self.settings |= dict(struct.iter_unpack(">HI", payload))
            self._resize(self.settings.get(INITIAL_WINDOW_SIZE, WINDOW_BYTES))
            return SETTINGS_ACK
        return b""

    def _note_message(self, kind: int, flags: int, stream_id: int, payload: bytes) -> bytes:
        stream = self.streams[stream_id]
        if kind == HEADERS:
            stream.fields += self._decoder.decode(payload, raw=True)
        stream.body += payload if kind == DATA else b""
        stream.is_ended |= bool(flags & END_STREAM)
        if kind == HEADERS or not payload or not self._is_crediting:
            return b""
        return window_frame(0, len(payload)) + (window_frame(stream_id, len(payload)) if not stream.is_over else b"")

    def _resize(self, initial: int) -> None:
        difference, self._initial_window = initial - self._initial_window, initial
        for stream_id in self.windows:
            self.windows[stream_id] += difference if stream_id else 0


@contextmanager
def frame_client(
    edge: Edge, settings_sent: Mapping[int, int] | None = None, *, is_crediting: bool = True, is_polite: bool = True
) -> Iterator[FrameClient]:
    """A connection to an edge whose settings have come, over TLS with ALPN h2, or by prior knowledge without."""
    with socket.create_connection(("127.0.0.1", edge.port), timeout=PATIENCE_SECONDS) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        stream = edge.ssl_context("h2").wrap_socket(sock, server_hostname="localhost") if edge.ca else sock
        with stream:
            client = FrameClient(stream, settings_sent, is_crediting=is_crediting, is_polite=is_polite)
            client.wait_until(lambda: bool(client.settings))
            yield client
