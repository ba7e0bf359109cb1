"""A listener for those who run the edge, whose address an edge that is about to end may still have.

What is shown there is `server.metrics_listener`'s and `server.status_listener`'s; which faults are waited for is
`server.preparation`'s.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence

import trio

from sage_edge.core.bind import Bind
from sage_edge.core.logger import EdgeLogger
from sage_edge.server.listener import describe_address, open_listeners

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

    @property
    def is_wanted(self) -> bool:
        """Whether something is shown, now or later."""
        return bool(self.sockets) or self._awaited is not None

    async def wait_until_open(self) -> Sequence[socket.socket]:
        """The sockets, once they listen."""
        while self._awaited is not None:
            await trio.sleep(RETRY_SECONDS)
            sockets, faults = open_listeners([self._awaited])
            if not faults:
                self.sockets, self._awaited = sockets, None
                log.info(self._opened, addresses=[describe_address(sock) for sock in sockets])
        return self.sockets
