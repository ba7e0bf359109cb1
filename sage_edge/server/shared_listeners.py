"""The listening sockets of an edge with workers, which inherit them: opened, handed over and closed for all of them.

Held by the supervisor, what waits in their queues outlives any worker. Who accepts from them is `server.worker`'s.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence

import trio

from sage_edge.core.errors import EdgeError, ExitCode, Fault, reason_of
from sage_edge.server.certificate_set import Names
from sage_edge.server.hand_over import CLOSED_SECONDS, hand_over
from sage_edge.server.listener import close_listeners, spread
from sage_edge.server.worker_link import Inheritance


class SharedListeners:
    """All of them.

    Args:
        sockets: of the edge's addresses.
        redirect_sockets: of its plaintext port. All workers accept from the same ones: what they answer costs little.
        count: how many workers there are to be.
        is_port_shared: whether other edges may listen on the same ports.

    Raises:
        EdgeError: the system has no room for so many; those that were given are closed.
    """

    def __init__(
        self,
        sockets: Sequence[socket.socket],
        redirect_sockets: Sequence[socket.socket],
        *,
        count: int,
        is_port_shared: bool,
    ) -> None:
        try:
            self._rows = spread(sockets, count)
        except OSError as error:
            close_listeners([*sockets, *redirect_sockets])
            what = f"--workers: no {count} sockets can be opened for each address: {reason_of(error)}"
            hint = "raise the limit of open files (ulimit -n, LimitNOFILE=), or have fewer workers"
            raise EdgeError(Fault(what, hint, ExitCode.STARTUP, error, setting="workers")) from error
        self._redirect_sockets = redirect_sockets
        self._is_port_shared = is_port_shared

    @property
    def descriptors(self) -> set[int]:
        """Of each socket, for a process to inherit."""
        return {sock.fileno() for row in (*self._rows, self._redirect_sockets) for sock in row}

    def describe(self, number: int, link: int, names_in_use: Names | None) -> Inheritance:
        """What the worker of a place inherits.

        Args:
            number: of its place, from 1.
            link: descriptor of its end of the link.
            names_in_use: of the certificates.
        """
        rows = [[sock.fileno() for sock in row] for row in self._rows]
        return Inheritance(number, link, rows, [sock.fileno() for sock in self._redirect_sockets], names_in_use)

    async def close_after(self, delay_seconds: float) -> None:
        """Close the supervisor's copies when the workers close theirs, so that who comes later is refused."""
        if self._is_port_shared:
            hand_over([*(sock for row in self._rows for sock in row), *self._redirect_sockets])
        await trio.sleep(delay_seconds)
        if self._is_port_shared:
            await trio.sleep(CLOSED_SECONDS)  # the last copy is ours, for these to be closed in one moment
        self.close()

    def close(self) -> None:
        """Close them now."""
        for row in (*self._rows, self._redirect_sockets):
            close_listeners(row)
