"""A client's socket: read in turns, written to the end of what has to go before all else, and asked how it is.

What is written of a protocol's is `server.connection`'s, which must not wait for it.
"""

from __future__ import annotations

import fcntl
import select
import socket
import struct
import termios
from contextlib import suppress

import trio

from sage_edge.server.fairness import Share
from sage_edge.server.forked_children import keep_from_children


class ClientSocket:
    """A socket as accepted, not blocking.

    Args:
        sock: the socket. Closed by `close`.
        share: of the loop's turn, without which nothing is read.

    Attributes:
        sock: the socket.
        client: address and port; None for a Unix socket.
        server: the same of this end.
        is_closed: whether it is.
    """

    def __init__(self, sock: socket.socket, share: Share) -> None:
        self.sock = sock
        self.client = _address(sock.getpeername())
        self.server = _address(sock.getsockname())
        self.is_closed = False
        self._share = share
        keep_from_children([sock])

    async def receive(self) -> bytes:
        """What it has, as soon as it has something and it is its turn, which then has begun; nothing at the end.

        Raises:
            ClosedResourceError: it is closed, or was meanwhile.
            OSError: the connection is lost.
        """
        while True:
            if self.is_closed:
                raise trio.ClosedResourceError
            await trio.lowlevel.wait_readable(self.sock)
            await self._share.begin()
            if self.is_closed:
                raise trio.ClosedResourceError
            try:
                return self.sock.recv(self._share.read_bytes)
            except BlockingIOError:
                continue

    async def peek(self, size_bytes: int) -> bytes:
        """What it has, which stays there; nothing at the end."""
        while True:
            await trio.lowlevel.wait_readable(self.sock)
            try:
                return self.sock.recv(size_bytes, socket.MSG_PEEK)
            except BlockingIOError:
                continue

    async def send_all(self, data: bytes) -> None:
        """Send all of it."""
        while data:
            try:
                data = data[self.sock.send(data) :]
            except BlockingIOError:
                await trio.lowlevel.wait_writable(self.sock)

    async def wait_for_room(self) -> bool:
        """Wait until it takes more; False where it was closed."""
        if self.is_closed:
            return False
        try:
            await trio.lowlevel.wait_writable(self.sock)
        except trio.ClosedResourceError:
            return False
        return True

    @property
    def unsent_bytes(self) -> int:
        """What the system holds that the client has not acknowledged."""
        try:
            (size_bytes,) = struct.unpack("i", fcntl.ioctl(self.sock, termios.TIOCOUTQ, bytes(4)))
        except OSError:
            return 0
        return int(size_bytes)

    @property
    def has_hung_up(self) -> bool:
        """Whether the client has ended its side, behind bytes that are not read yet."""
        poll = select.poll()
        poll.register(self.sock, getattr(select, "POLLRDHUP", 0))
        return bool(poll.poll(0))

    def give_up_unsent(self) -> None:
        """Have it dropped at the end: the system would keep it for as long as its client takes a byte now and then."""
        with suppress(OSError):
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def close(self) -> None:
        """Close it. What is unsent goes on to its client, unless it was given up."""
        self.is_closed = True
        trio.lowlevel.notify_closing(self.sock)
        # The client is to hear of it even where a process that was forked meanwhile has a copy.
        with suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()


def _address(name: object) -> tuple[str, int] | None:
    return (str(name[0]), int(name[1])) if isinstance(name, tuple) else None
