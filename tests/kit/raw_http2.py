"""A raw HTTP/2 client: sends the frames it is told to, valid or not, and collects what comes back."""

from __future__ import annotations

import socket
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import h2.config
import h2.connection
import h2.events
from hyperframe.frame import Frame, GoAwayFrame

from tests.kit.edge import WAIT_SECONDS, Edge

Header = tuple[bytes, bytes]


@dataclass
class Response:
    """What came back on one stream."""

    headers: list[Header] = field(default_factory=list)
    body: bytearray = field(default_factory=bytearray)
    trailers: list[Header] = field(default_factory=list)
    is_ended: bool = False
    reset_code: int | None = None

    @property
    def status(self) -> int:
        """The status; 0 before it has come."""
        return int(dict(self.headers).get(b":status", b"0"))

    @property
    def is_over(self) -> bool:
        """Nothing more will come."""
        return self.is_ended or self.reset_code is not None


class RawHTTP2:
    """One connection. Received body bytes are credited at once."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        configuration = h2.config.H2Configuration(
            client_side=True,
            header_encoding=None,
            validate_outbound_headers=False,
            normalize_outbound_headers=False,
        )
        self.connection = h2.connection.H2Connection(configuration)
        # h2 gives every stream up at a GOAWAY, also those below its last id (RFC 9113 section 6.8).
        self.connection._frame_dispatch_table[GoAwayFrame] = self._take_goaway
        self.goaways: list[GoAwayFrame] = []
        self.connection.initiate_connection()
        self.responses: defaultdict[int, Response] = defaultdict(Response)
        self.is_closed = False
        self.flush()

    def request(
        self, path: bytes, *, method: bytes = b"GET", headers: Sequence[Header] = (), body: bytes | None = None
    ) -> int:
        """Send a request; the stream's number. The body must fit the peer's window."""
        fields = [
            (b":method", method),
            (b":scheme", b"https"),
            (b":authority", b"localhost"),
            (b":path", path),
            *headers,
        ]
        return self.send_headers(fields, body=body)

    def send_headers(self, fields: Sequence[Header], *, body: bytes | None = None, end_stream: bool = True) -> int:
        """Send exactly these header fields on a new stream."""
        stream_id = self.connection.get_next_available_stream_id()
        self.connection.send_headers(stream_id, list(fields), end_stream=end_stream and body is None)
        if body is not None:
            self.send_data(stream_id, body, end_stream=end_stream)
        self.flush()
        return stream_id

    def send_data(self, stream_id: int, body: bytes, *, end_stream: bool = False) -> None:
        """Send DATA frames, waiting for credit as need be."""
        while body:
            window = self.connection.local_flow_control_window(stream_id)
            if not window:
                self.flush()
                self.receive()
                if self.is_closed or self.responses[stream_id].is_over:
                    return
                continue
            size = min(len(body), window, self.connection.max_outbound_frame_size)
            self.connection.send_data(stream_id, body[:size])
            body = body[size:]
        if end_stream:
            self.connection.end_stream(stream_id)
        self.flush()

    def wait_for(self, stream_id: int) -> Response:
        """The response of a stream, once it is over or the connection is."""
        self.wait_until(lambda: self.responses[stream_id].is_over)
        return self.responses[stream_id]

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Receive until a condition holds or the connection is closed."""
        while not condition() and not self.is_closed:
            self.receive()

    def reset(self, stream_id: int, code: int = 8) -> None:
        """Send RST_STREAM, CANCEL by default."""
        self.connection.reset_stream(stream_id, code)
        self.flush()

    def flush(self) -> None:
        """Send what the connection has to send."""
        self.sock.sendall(self.connection.data_to_send())

    def _take_goaway(self, frame: GoAwayFrame) -> tuple[list[Frame], list[h2.events.Event]]:
        self.goaways.append(frame)
        return [], []

    def receive(self) -> None:
        """Take one piece from the socket."""
        data = self.sock.recv(65536)
        if not data:
            self.is_closed = True
            return
        for event in self.connection.receive_data(data):
            self._note(event)
        self.flush()

    def _note(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.ResponseReceived():
                self.responses[event.stream_id].headers = list(event.headers)
            case h2.events.DataReceived():
                self.responses[event.stream_id].body += event.data
                self.connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            case h2.events.TrailersReceived():
                self.responses[event.stream_id].trailers = list(event.headers)
            case h2.events.StreamEnded():
                self.responses[event.stream_id].is_ended = True
            case h2.events.StreamReset():
                self.responses[event.stream_id].reset_code = int(event.error_code)
            case h2.events.ConnectionTerminated():
                self.is_closed = True


@contextmanager
def raw_http2(edge: Edge) -> Iterator[RawHTTP2]:
    """A connection to an edge, over TLS with ALPN h2, or by prior knowledge without."""
    with socket.create_connection(("127.0.0.1", edge.port), timeout=WAIT_SECONDS) as sock:
        if edge.ca is None:
            yield RawHTTP2(sock)
            return
        with edge.ssl_context("h2").wrap_socket(sock, server_hostname="localhost") as stream:
            assert stream.selected_alpn_protocol() == "h2"
            yield RawHTTP2(stream)
