"""An http/1.1 connection without a socket, and its client."""

from __future__ import annotations

from typing import Any

from sage_edge.app.exchange import Exchange
from sage_edge.server.http1.connection import HTTP1Connection
from tests.kit.protocol_host import FakeHost, default_limits

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


class HTTP1Client:
    """A client of a connection in memory, and the clock of both.

    Args:
        limits: that are not the defaults.
    """

    def __init__(self, **limits: Any) -> None:
        self.host = FakeHost(default_limits(**limits))
        self.connection = HTTP1Connection(self.host)

    def send(self, data: bytes) -> None:
        """Send bytes."""
        self.connection.receive(data)

    def ask(self, data: bytes = GET) -> Exchange:
        """Send a request, and return its exchange."""
        self.send(data)
        return self.host.exchanges[-1]

    def take(self) -> bytes:
        """What the server says."""
        output = b""
        while data := self.connection.take_output(65536):
            output += data
        return output

    def wait(self, seconds: int) -> None:
        """Let time pass, second by second."""
        for _ in range(seconds):
            self.host.now += 1
            self.connection.check_time(self.host.now)
