"""A worker's place: what stays the same while processes come and go in it, one after the other.

When another is started, and what becomes of the one before. What a process is, is `server.worker_process`'s; how they
are started, ended and judged together, `server.supervisor`'s.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection

import trio

from sage_edge.core.logger import EdgeLogger
from sage_edge.core.supervision import RestartPolicy
from sage_edge.server.worker_process import WorkerProcess

log = EdgeLogger(__name__)


class Place:
    """One of the workers there should be, whichever process it is. `keep` it, and ask it for others.

    Args:
        number: from 1.
        stop: set once no more are to be started.
        start: starts a worker; None where the system cannot.
        leave: has a worker drain and end, and returns at once; told whether another has its place.
        judge: called with the worker that was started and never got ready, or None, where nobody serves in the place;
            for how long to wait before the next is started.

    Attributes:
        worker: the latest that was ready; it may leave, or have ended.
        starting: that is to follow it, and is not ready yet.
        policy: how starts went.
    """

    def __init__(
        self,
        number: int,
        *,
        stop: trio.Event,
        start: Callable[[Place], Awaitable[WorkerProcess | None]],
        leave: Callable[[WorkerProcess, bool], None],
        judge: Callable[[Place, WorkerProcess | None], float],
    ) -> None:
        self.number = number
        self.worker: WorkerProcess | None = None
        self.starting: WorkerProcess | None = None
        self.policy = RestartPolicy()
        self._stop = stop
        self._start = start
        self._leave = leave
        self._judge = judge
        self._is_trying = False
        self._left = trio.Event()  # once the worker is about to end, by somebody else's word
        self._wanted = trio.Event()  # until another is tried, which answers all that was wanted before
        self._tried = trio.Event()  # once it was
        self._has_worked = False
        self._replaced: set[WorkerProcess] = set()

    @property
    def leaving(self) -> Collection[WorkerProcess]:
        """Those that others have followed, and that still run, to the end of their streams."""
        self._replaced = {worker for worker in self._replaced if not worker.ended.is_set()}
        return self._replaced

    @property
    def is_ready(self) -> bool:
        """Whether a worker serves in it."""
        return any(worker is not None and worker.is_ready for worker in (self.worker, self.starting))

    @property
    def holder(self) -> WorkerProcess | None:
        """Who stands for it: the worker or, where that has ended, the one that starts."""
        has_ended = self.worker is None or self.worker.ended.is_set()
        return self.starting if has_ended else self.worker

    async def keep(self) -> None:
        """Have a worker in it, until `stop` is set; at the end, it leaves."""
        counted: WorkerProcess | None = None  # one that leaves may outlive several starts in vain
        while not self._stop.is_set():
            worker = self.worker
            if worker is not None and worker is not counted and await self._has_left(worker):
                counted = worker
                await self._pause(self.policy.delay_seconds(worker.ready_seconds))
            if not self._stop.is_set() and not await self._try() and not self._stop.is_set():
                await self._bear_failure()
        if self.worker is not None and not self.worker.ended.is_set():
            self._leave(self.worker, False)

    def replace(self, worker: WorkerProcess, reason: str) -> None:
        """Have another put in the place of this worker, if it still has it. It leaves when the other is ready."""
        if worker is self.worker and not worker.ended.is_set() and not self._is_trying and not self._wanted.is_set():
            log.info("worker is to be replaced", worker=self.number, pid=worker.pid, reason=reason)
            self._wanted.set()

    def note_leaving(self, worker: WorkerProcess, reason: str) -> None:
        """Others have told this worker to end. Another follows as after a death: each can go on again and again."""
        if worker is self.worker and not worker.ended.is_set() and not self._is_trying:
            log.info("worker is to be replaced", worker=self.number, pid=worker.pid, reason=reason)
            self._left.set()

    async def renew(self, reason: str) -> bool:
        """Have a worker that is started from now on; whether there is one.

        Each process is a gateway's memory: however often it is asked for, there are two at the most.
        """
        if self._is_trying:  # what that finds may be old already
            await wait_for_any(self._tried, self._stop)
        tried = self._tried  # whoever asks for it
        for worker in self.leaving:
            await wait_for_any(worker.ended, tried, self._stop)
        if self.worker is not None and not tried.is_set():
            self.replace(self.worker, reason)
        if not self._is_trying and not tried.is_set():
            self._wanted.set()  # also where it waits, empty, for the next start
        await wait_for_any(tried, self._stop)
        return tried.is_set() and self._has_worked

    async def _has_left(self, worker: WorkerProcess) -> bool:
        """Wait until another is to follow this one; whether that is because it has ended, or will, and not as asked."""
        if not worker.is_leaving:
            await wait_for_any(worker.ended, self._left, self._wanted, self._stop)
        if worker.ended.is_set():
            self.worker = None
        return worker.ended.is_set() or worker.is_leaving

    async def _try(self) -> bool:
        """Start one; once it is ready, the one before leaves. Whether that worked."""
        self._is_trying, self._left, self._wanted = True, trio.Event(), trio.Event()
        started = self.starting = await self._start(self)
        if started is not None:
            await wait_for_any(started.ready, started.ended, self._stop)
            if started.ready.is_set():
                self.policy.note_ready()
                before, self.worker, self.starting = self.worker, started, None
                if before is not None and not before.ended.is_set():
                    log.info("worker is replaced", worker=self.number, pid=before.pid, by_pid=started.pid)
                    self._replaced.add(before)
                    self._leave(before, True)
            elif not started.ended.is_set():
                self._leave(started, self.worker is not None)
        self._is_trying, self._has_worked = False, self.worker is not None and self.worker is started
        tried, self._tried = self._tried, trio.Event()
        tried.set()
        return self._has_worked

    async def _bear_failure(self) -> None:
        started, self.starting = self.starting, None
        if self.worker is not None and self.worker.ended.is_set():
            self.worker = None
        if self.worker is not None and not self.worker.is_leaving:
            log.error("the new worker did not start, the old one stays", worker=self.number)
            return
        await self._pause(self._judge(self, started))

    async def _pause(self, seconds: float) -> None:
        with trio.move_on_after(seconds):
            await wait_for_any(self._wanted, self._stop)


async def wait_for_any(*events: trio.Event) -> None:
    """Wait until one of them is set."""
    async with trio.open_nursery() as nursery:

        async def wait(event: trio.Event) -> None:
            await event.wait()
            nursery.cancel_scope.cancel()

        for event in events:
            nursery.start_soon(wait, event)
