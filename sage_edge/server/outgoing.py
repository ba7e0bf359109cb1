"""What a connection writes, between its protocol, which has it ready, and its socket, which takes it or not.

When to write is `server.connection`'s, and what becomes of a client that takes next to nothing.
"""

from __future__ import annotations

from sage_edge.core.limits import STALL_PROGRESS_BYTES
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
        is_blocked: the socket takes nothing more for now.
    """

    def __init__(self, sock: ClientSocket) -> None:
        self._socket = sock
        self._unsent: memoryview | bytes = b""
        self._written_bytes = 0
        self._progress_mark: tuple[float, int] | None = None  # since when it waits, and what the client had by then
        self.is_blocked = False

    @property
    def has_unsent(self) -> bool:
        """Whether something was taken of the protocol, and not yet by the socket."""
        return bool(self._unsent)

    def write(self, protocol: ConnectionProtocol, transport: Transport) -> bool:
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
                    if not data and not transport.answer_bytes:
                        return True
                    self._unsent = transport.send(data)
                sent_bytes = self._socket.sock.send(self._unsent)
            except BlockingIOError:
                sent_bytes = 0
            self._written_bytes += sent_bytes
            if sent_bytes < len(self._unsent):
                self._unsent = memoryview(self._unsent)[sent_bytes:]
                self.is_blocked = True
                return False
            self._unsent = b""
            turn_bytes += sent_bytes
        return False

    def is_stalled(self, now: float, limit_seconds: float) -> bool:
        """Whether the client has taken next to nothing of what waits for too long. To be asked now and then."""
        if not self.is_blocked:
            self._progress_mark = None
            return False
        # Not what the socket takes: it has room now and then, in large pieces, while the client is as slow as before.
        taken_bytes = self._written_bytes - self._socket.unsent_bytes
        mark = self._progress_mark
        if mark is None or taken_bytes - mark[1] >= STALL_PROGRESS_BYTES:
            self._progress_mark = (now, taken_bytes)
            return False
        return now - mark[0] > limit_seconds

    async def wait_for_room(self) -> bool:
        """Wait until the socket takes more; False where it was closed."""
        has_room = await self._socket.wait_for_room()
        if has_room:
            self.is_blocked = False
        return has_room
