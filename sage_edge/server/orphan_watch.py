"""Ends a worker whose supervisor is gone where its loop cannot: it is prepared still, or the loop hangs.

It would keep the address, which a supervisor that is started in its place needs; or on a port that is shared take
connections that nobody serves. What a loop that turns does then is `server.run`'s. A gateway that keeps the
interpreter's lock holds this up too.
"""

from __future__ import annotations

import select
import threading
from collections.abc import Callable
from contextvars import copy_context

from sage_edge.core.logger import EdgeLogger
from sage_edge.server.worker_link import WorkerLink
from sage_edge.server.worker_process import QUIET_SECONDS

log = EdgeLogger(__name__)


class OrphanWatch:
    """Watches, in a thread of its own, from here on.

    Args:
        link: to the supervisor.
        end_process: ends the process beneath whatever it does.
    """

    def __init__(self, link: WorkerLink, end_process: Callable[[], None]) -> None:
        self._link = link
        self._end_process = end_process
        self._is_serving = False
        # In a copy of the context, for its lines to have the worker's number.
        threading.Thread(target=copy_context().run, args=[self._watch], name="orphan watch", daemon=True).start()

    def begin_to_serve(self) -> None:
        """From now on the loop is left the time in which it would notice by itself."""
        self._is_serving = True

    def _watch(self) -> None:
        poll = select.poll()
        poll.register(self._link.fileno(), select.POLLHUP)  # what is said is the loop's to read
        (_, events), *_ = poll.poll()
        if not events & select.POLLHUP:  # the gateway has closed the descriptor
            return
        if self._is_serving and self._link.has_ended.wait(QUIET_SECONDS):
            return
        log.error("the supervisor is gone: ending at once")
        self._end_process()
