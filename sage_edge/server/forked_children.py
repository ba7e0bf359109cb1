"""What a child that the gateway forks does not get of the edge: its sockets, and its handling of signals.

`multiprocessing` forks on Linux before Python 3.14, and a pool's processes may outlive the edge. A listening socket
that one of them holds open takes connections that nobody accepts, and a client whose socket it holds hears of no end.
What a gateway starts as another program inherits neither, nor do workers, which are such. The log in a child is
`server.log_writer`'s.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterable
from weakref import WeakSet

from sage_edge.server.early_signals import NOT_ENDING

_sockets: WeakSet[socket.socket] = WeakSet()


def keep_from_children(sockets: Iterable[socket.socket]) -> None:
    """Have children close their copies of these as they begin."""
    _sockets.update(sockets)


def leave_signals_to_parent() -> None:
    """Have children end by SIGTERM, as `Process.terminate` means it, and do nothing at the edge's other signals.

    Those come to a whole group (a terminal's interrupt, a service manager's word for log files), and mean the edge,
    whose streams a pool's processes may still have to finish.
    """
    os.register_at_fork(after_in_child=_drop_signals)


def _close_sockets() -> None:
    # Not their descriptors alone: whoever lets go of a socket would close what has got its number since.
    for sock in _sockets:
        sock.close()


def _drop_signals() -> None:
    signal.set_wakeup_fd(-1)  # the parent's, which its loop reads
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for number in (signal.SIGINT, *NOT_ENDING):
        signal.signal(number, lambda *_: None)  # not SIG_IGN, which programs that it starts would inherit


os.register_at_fork(after_in_child=_close_sockets)
