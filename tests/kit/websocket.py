"""A WebSocket client over http/1.1 (RFC 6455) and over HTTP/2 (RFC 8441), without any manners of its own.

The frames are wsproto's; the connections are the raw clients'.
"""

from __future__ import annotations

import socket
import struct
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from wsproto import WSConnection
from wsproto.connection import Connection, ConnectionType
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Message,
    Ping,
    Pong,
    RejectConnection,
    RejectData,
    Request,
    TextMessage,
)

from tests.kit.edge import Edge
from tests.kit.raw_http1 import raw_http1
from tests.kit.raw_http2 import RawHTTP2, raw_http2

LOST = 1006
"""RFC 6455 section 7.1.5: the connection ended without a closing handshake."""


@dataclass(frozen=True)
class Close:
    """The end of a WebSocket."""

    code: int
    reason: str = ""


class WebSocket(ABC):
    """The client's end.

    Attributes:
        status: of the answer to the handshake; 101 or 200 where it was accepted.
        subprotocol: what the server chose.
        refusal: the body of an answer that refuses.
    """

    def __init__(self, connection: WSConnection | Connection) -> None:
        self._connection = connection
        self.status = 0
        self.subprotocol: str | None = None
        self.refusal = b""
        self._received: deque[str | bytes | Close | Pong] = deque()
        self._parts: list[str] | list[bytes] = []

    @property
    def is_open(self) -> bool:
        """Whether the server accepted it."""
        return self.status in {101, 200}

    def send(self, data: str | bytes, *, fragment_size: int | None = None) -> None:
        """Send a message, in fragments if asked to."""
        kind = TextMessage if isinstance(data, str) else BytesMessage
        size = fragment_size or len(data) or 1
        starts = range(0, len(data) or 1, size)
        for start in starts:
            self._send(kind(data=data[start : start + size], message_finished=start == starts[-1]))  # type: ignore[arg-type]

    def ping(self, payload: bytes = b"") -> None:
        """Send a ping; the answer comes from `receive`."""
        self._send(Ping(payload))

    def receive(self) -> str | bytes | Close | Pong:
        """The next message, or the close; `Close(LOST)` where the connection ends without one."""
        while not self._received:
            data = self._read()
            if not data:
                return Close(LOST)
            for event in self._feed(data):
                self._note(event)
        return self._received.popleft()

    def close(self, code: int = 1000, reason: str = "") -> Close:
        """Make the closing handshake; the server's part of it."""
        self._send(CloseConnection(code, reason))
        while not isinstance(answer := self.receive(), Close):
            pass
        return answer

    @abstractmethod
    def vanish(self) -> None:
        """End the connection, or the stream, without a closing handshake."""

    @abstractmethod
    def _send(self, event: Event) -> None: ...

    @abstractmethod
    def _read(self) -> bytes: ...

    def _feed(self, data: bytes) -> Iterator[Event]:
        self._connection.receive_data(data)
        yield from self._connection.events()

    def _note(self, event: Event) -> None:
        match event:
            case Message():
                self._parts.append(event.data)  # type: ignore[arg-type]
                if event.message_finished:
                    self._received.append(type(event.data)().join(self._parts))  # type: ignore[arg-type]
                    self._parts = []
            case Pong():
                self._received.append(event)
            case CloseConnection():
                self._received.append(Close(event.code, event.reason or ""))


class HTTP1WebSocket(WebSocket):
    """Over a connection of its own."""

    def __init__(self, sock: socket.socket, path: str, subprotocols: Sequence[str] = ()) -> None:
        super().__init__(WSConnection(ConnectionType.CLIENT))
        self._sock = sock
        # Otherwise each small frame waits for the acknowledgement of the one before.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._send(Request(host="localhost", target=path, subprotocols=list(subprotocols)))
        is_answered = False
        while not is_answered:
            data = self._read()
            assert data, "the connection was closed before the handshake was answered"
            for event in self._feed(data):
                match event:
                    case AcceptConnection():
                        self.status, self.subprotocol = 101, event.subprotocol
                        is_answered = True
                    case RejectConnection():
                        self.status = event.status_code
                    case RejectData():
                        self.refusal += event.data
                        is_answered = event.body_finished
                    case _:
                        self._note(event)

    def vanish(self) -> None:
        # With this option, close sends RST: what a client that has crashed looks like.
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._sock.close()

    def _send(self, event: Event) -> None:
        self._sock.sendall(self._connection.send(event))

    def _read(self) -> bytes:
        return self._sock.recv(65536)


class HTTP2WebSocket(WebSocket):
    """On a stream of a connection that it shares."""

    def __init__(self, http2: RawHTTP2, path: str, subprotocols: Sequence[str] = ()) -> None:
        super().__init__(Connection(ConnectionType.CLIENT))
        self._http2 = http2
        http2.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        fields = [
            (b":method", b"CONNECT"),
            (b":protocol", b"websocket"),
            (b":scheme", b"https"),
            (b":authority", b"localhost"),
            (b":path", path.encode()),
            (b"sec-websocket-version", b"13"),
        ]
        if subprotocols:
            fields.append((b"sec-websocket-protocol", ", ".join(subprotocols).encode()))
        self._stream_id = http2.send_headers(fields, end_stream=False)
        self._response = http2.responses[self._stream_id]
        http2.wait_until(lambda: bool(self._response.headers) or self._response.is_over)
        self.status = self._response.status
        self.subprotocol = dict(self._response.headers).get(b"sec-websocket-protocol", b"").decode() or None
        if not self.is_open:
            self.refusal = bytes(http2.wait_for(self._stream_id).body)

    def vanish(self) -> None:
        self._http2.reset(self._stream_id)

    def _send(self, event: Event) -> None:
        self._http2.send_data(self._stream_id, self._connection.send(event))

    def _read(self) -> bytes:
        self._http2.wait_until(lambda: bool(self._response.body) or self._response.is_over)
        data = bytes(self._response.body)
        self._response.body.clear()
        return data


@contextmanager
def websocket(edge: Edge, protocol: str, path: str, subprotocols: Sequence[str] = ()) -> Iterator[WebSocket]:
    """A WebSocket on a connection of its own, with its handshake answered. `protocol` is "h2" or "http/1.1"."""
    if protocol == "h2":
        with raw_http2(edge) as connection:
            # RFC 8441 section 3: only once the server has said that it takes it.
            connection.wait_until(lambda: connection.connection.remote_settings.enable_connect_protocol == 1)
            yield HTTP2WebSocket(connection, path, subprotocols)
    else:
        with raw_http1(edge) as sock:
            yield HTTP1WebSocket(sock, path, subprotocols)
