"""The listening sockets of an edge with workers, which inherit them: opened, handed over and closed for all of them.

Held by the supervisor, what waits in their queues outlives any worker. Who accepts from them is `server.worker`'s.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence

from sage_edge.core.errors import EdgeError, ExitCode, Fault, reason_of
from sage_edge.server.certificate_set import Names
from sage_edge.server.hand_over import hand_over
from sage_edge.server.listener import close_listeners, remove_paths, spread
from sage_edge.server.worker_link import Inheritance


class SharedListeners:
    """All of them.

    Args:
        sockets: of the edge's addresses.
        redirect_sockets: of its plaintext port. All workers accept from the same ones: what they answer costs little.
        count: how many workers there are to be.
        is_port_shared: whether other edges may listen on the same ports.

    Attributes:
        is_port_shared: the same.

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
        self.is_port_shared = is_port_shared

    @property
    def descriptors(self) -> set[int]:
        """Of each socket, for a process to inherit."""
        return {sock.fileno() for row in (*self._rows, self._redirect_sockets) for sock in row}

    def describe(self, number: int, link: int, names_in_use: Names | None, *, is_measured: bool) -> Inheritance:
        """What the worker of a place inherits.

        Args:
            number: of its place, from 1.
            link: descriptor of its end of the link.
            names_in_use: of the certificates.
            is_measured: whether its figures are shown.
        """
        rows = [[sock.fileno() for sock in row] for row in self._rows]
        redirect_row = [sock.fileno() for sock in self._redirect_sockets]
        return Inheritance(number, link, rows, redirect_row, names_in_use, is_measured)

    def hand_over(self) -> None:
        """Have new connections to shared ports go to others, who are to go on."""
        if self.is_port_shared:
            hand_over([*self._edge_sockets, *self._redirect_sockets])

    def remove_paths(self) -> None:
        """Have nobody find the Unix sockets any more."""
        for row in self._rows:
            remove_paths(row)

    def close_edge(self) -> None:
        """Close those of the edge's addresses; where ports are shared, of the plaintext port, too."""
        redirect_sockets = self._redirect_sockets if self.is_port_shared else ()
        close_listeners([*self._edge_sockets, *redirect_sockets])

    def leave_redirects(self) -> None:
        """Leave the plaintext port to the workers, which close it when they end."""
        for sock in self._redirect_sockets:
            sock.close()

    def close(self) -> None:
        """Close all of them."""
        close_listeners([*self._edge_sockets, *self._redirect_sockets])

    @property
    def _edge_sockets(self) -> Sequence[socket.socket]:
        return [sock for row in self._rows for sock in row]
