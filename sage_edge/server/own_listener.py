"""A listener for those who run the edge, whose address an edge that is about to end may still have.

What is shown there is `server.metrics_listener`'s and `server.status_listener`'s; which faults are waited for is
`server.preparation`'s.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence

import trio

from sage_edge.core.bind import Bind, TCPBind
from sage_edge.core.logger import EdgeLogger
from sage_edge.server.listener import SocketAddress, describe_address, open_listeners, resolve

log = EdgeLogger(__name__)

RETRY_SECONDS = 1.0
"""How often an address that is taken is tried again."""


class OwnListener:
    """It.

    Args:
        sockets: listening.
        awaited: where to listen once that is possible; None where it is already, or nothing is to be shown.
        opened: what to say then.

    Attributes:
        sockets: the same, and those that were opened later.
    """

    def __init__(self, sockets: Sequence[socket.socket] = (), awaited: Bind | None = None, opened: str = "") -> None:
        self.sockets = sockets
        self._awaited = awaited
        self._opened = opened
        self._addresses: Sequence[SocketAddress] = ()
        self._is_given_up = False

    @property
    def is_wanted(self) -> bool:
        """Whether something is shown, now or later."""
        return bool(self.sockets) or self._awaited is not None

    def give_up(self) -> None:
        """Wait no longer: this edge is about to end, and an address that becomes free is for one that stays."""
        self._is_given_up = True

    async def wait_until_open(self) -> Sequence[socket.socket]:
        """The sockets, once they listen; none where that was given up."""
        while self._awaited is not None and not self._is_given_up:
            await trio.sleep(RETRY_SECONDS)
            if isinstance(self._awaited, TCPBind) and not self._addresses:
                self._addresses = await _resolve(self._awaited)
            elif not self._is_given_up:
                self._open(self._awaited)
        return self.sockets

    def _open(self, bind: Bind) -> None:
        sockets, faults = open_listeners([bind], resolve=lambda _: self._addresses)
        if not faults:
            self.sockets, self._awaited = sockets, None
            log.info(self._opened, addresses=[describe_address(sock) for sock in sockets])


async def _resolve(bind: TCPBind) -> Sequence[SocketAddress]:
    """Its addresses; none where they are not to be had now. In a thread: whoever knows names may take seconds."""
    try:
        return await trio.to_thread.run_sync(resolve, bind, abandon_on_cancel=True)
    except OSError:
        return ()
