"""What a connection writes, between its protocol, which has it ready, and its socket, which takes it or not.

When to write is `server.connection`'s, and what becomes of a client that takes nothing.
"""

from __future__ import annotations

from sage_edge.server.carrier import ConnectionProtocol
from sage_edge.server.client_socket import ClientSocket
from sage_edge.server.transport import Transport

TURN_BYTES = 64 * 1024
"""What a connection writes at once, before it lets the others go on."""


class Outgoing:
    """One connection's.

    Args:
        sock: of the connection.

    Attributes:
        blocked_since: since when the socket takes nothing; None while it takes something.
    """

    def __init__(self, sock: ClientSocket) -> None:
        self._socket = sock
        self._unsent: memoryview | bytes = b""
        self.blocked_since: float | None = None

    @property
    def has_unsent(self) -> bool:
        """Whether something was taken of the protocol, and not yet by the socket."""
        return bool(self._unsent)

    def write(self, protocol: ConnectionProtocol, transport: Transport, now: float) -> bool:
        """Write what is ready, as far as the socket takes it; whether that was all.

        Otherwise the socket is blocked, or it is the others' turn.

        Raises:
            OSError: the connection is lost, or TLS has failed.
        """
        turn_bytes = 0
        while turn_bytes < TURN_BYTES:
            try:
                if not self._unsent:
                    data = protocol.take_output(TURN_BYTES)
                    if not data and not transport.has_answers:
                        return True
                    self._unsent = transport.send(data)
                sent_bytes = self._socket.sock.send(self._unsent)
            except BlockingIOError:
                sent_bytes = 0
            if sent_bytes < len(self._unsent):
                self._unsent = memoryview(self._unsent)[sent_bytes:]
                self.blocked_since = now
                return False
            self._unsent = b""
            turn_bytes += sent_bytes
        return False

    async def wait_for_room(self) -> bool:
        """Wait until the socket takes more; False where it was closed."""
        has_room = await self._socket.wait_for_room()
        if has_room:
            self.blocked_since = None
        return has_room
