"""Keeps workers running on the same listening sockets: starts, replaces and restarts them, and passes signals on.

The supervisor holds the sockets, so that no connection is refused or lost while workers come and go: what one
that leaves has not accepted, another will. It serves nothing itself. When to give up is `core.supervision`'s.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import structlog
import trio

from sage_edge.core.errors import EdgeError, ExitCode, Fault
from sage_edge.core.problems import Problem
from sage_edge.core.supervision import RestartPolicy, vary
from sage_edge.server.certificate_set import Names
from sage_edge.server.early_signals import ENDING, HINT, EarlySignals, RepeatedSignals
from sage_edge.server.log_writer import LogWriter
from sage_edge.server.metrics_listener import serve_metrics
from sage_edge.server.metrics_reports import WorkersMetrics
from sage_edge.server.notify import Notifier, keep_notified
from sage_edge.server.place import Place, wait_for_any
from sage_edge.server.preparation import Plan
from sage_edge.server.shared_listeners import SharedListeners
from sage_edge.server.status_listener import serve_status
from sage_edge.server.worker_link import TimeLimits
from sage_edge.server.worker_process import WorkerProcess

log = structlog.get_logger(__name__)

MEMORY_SECONDS = 5.0
"""How often the workers' memory is looked at."""
AT_ONCE_SECONDS = 3.0
"""How long a worker may take to end at once."""
RELOAD_SECONDS = 30.0
"""How long the workers' loading of certificates is waited for before the service manager is told that it is over."""
UNSTARTED_SECONDS = 1.0
"""How long to wait where the system cannot start another process."""


class Supervisor:
    """The workers of an edge.

    Args:
        plan: what is to be served; its sockets are closed at the end.
        command: that starts a worker.
        announce: called once the first of them accepts, with its gateway's name (None without) and links by title.
        notifier: the service manager's.
        logs: writes the log.
    """

    def __init__(
        self,
        plan: Plan,
        command: Sequence[str],
        announce: Callable[[str | None, Mapping[str, str]], None],
        notifier: Notifier,
        logs: LogWriter,
    ) -> None:
        settings = self._settings = plan.settings
        self._plan = plan
        self._command = command
        count = settings.workers or 1
        self._listeners = SharedListeners(
            plan.sockets, plan.redirect_sockets, count=count, is_port_shared=settings.reuse_port
        )
        self._announce: Callable[[str | None, Mapping[str, str]], None] | None = announce
        self._places = [Place(number + 1) for number in range(count)]
        self._workers: set[WorkerProcess] = set()  # those that leave, too
        self._notifier = notifier
        self._logs = logs
        self._metrics = WorkersMetrics(self._holds_place)
        self._metrics.own.refresh_with(self._count_workers)
        self._applications: Mapping[str, str] = {}  # by prefix, once a worker has told
        self._names_in_use: Names = plan.certificates.current.names if plan.certificates is not None else {}
        self._stop = trio.Event()
        self._first_is_ready = trio.Event()
        self._is_restarting = self._is_ending_at_once = False
        self._fault: Fault | None = None
        self._nursery: trio.Nursery

    async def run(self, early_signals: EarlySignals) -> None:
        """Run until SIGTERM or SIGINT.

        Args:
            early_signals: keeps those that came before they are received here.

        Raises:
            EdgeError: workers fail to start, again and again; or the first does.
        """
        try:
            await self._run_all(early_signals)
        finally:
            self._listeners.close()
        if self._fault is not None:
            raise EdgeError(self._fault)
        log.info("stopped")

    async def _run_all(self, early_signals: EarlySignals) -> None:
        async with trio.open_nursery() as watching:
            watching.start_soon(self._watch_signals, early_signals, watching)
            watching.start_soon(keep_notified, self._notifier, self._describe_status, self._is_in_transition)
            metrics = self._metrics
            page = partial(serve_metrics, metrics.families, metrics.snapshot, self._plan.metrics_sockets)
            watching.start_soon(page, self._settings.limits)
            status = partial(serve_status, metrics.snapshot, self._logs.problems, lambda: self._applications)
            watching.start_soon(status, self._plan.admin_sockets, self._settings.limits)
            watching.start_soon(self._close_listeners)
            if self._settings.max_memory_bytes is not None:
                watching.start_soon(self._watch_memory, self._settings.max_memory_bytes)
            async with trio.open_nursery() as self._nursery:
                for place in self._places:
                    self._nursery.start_soon(self._keep, place)
            watching.cancel_scope.cancel()

    async def _close_listeners(self) -> None:
        await self._stop.wait()
        for worker in self._workers:
            if worker.is_leaving:  # nobody goes on in its place any more, for which its idle connections may wait
                worker.drain(is_replaced=False)
        await self._listeners.close_after(max((each.limits.last_call_seconds for each in self._workers), default=0.0))

    def _describe_status(self) -> str:
        state = "draining" if self._stop.is_set() else "serving"
        return f"{state}: {self._ready} of {len(self._places)} workers are ready"

    @property
    def _ready(self) -> int:
        return sum(place.is_ready for place in self._places)

    def _count_workers(self) -> None:
        figures = self._metrics.own
        figures.workers_wanted.of().number = len(self._places)
        figures.workers_ready.of().number = self._ready
        figures.dropped_log_lines.of().number = self._logs.dropped

    def _holds_place(self, pid: int) -> bool:
        return any(place.worker is not None and place.worker.pid == pid for place in self._places)

    def _is_in_transition(self) -> bool:
        return self._stop.is_set() or not self._first_is_ready.is_set()

    # The life of a place: workers, one after the other.

    async def _keep(self, place: Place) -> None:
        if place is not self._places[0]:  # the first alone finds out whether a worker can start at all
            await wait_for_any(self._first_is_ready, self._stop)
        policy = RestartPolicy()
        while not self._stop.is_set():
            place.worker = await self._start(place)
            delay_seconds: float | None = UNSTARTED_SECONDS
            if place.worker is not None:
                worker = await self._replace_until_ended(place, place.worker)
                if self._stop.is_set():
                    break
                delay_seconds = self._judge(policy, worker)
            elif not self._first_is_ready.is_set():
                self._give_up(f"worker {place.number} cannot be started")
            if delay_seconds is None:
                return
            with trio.move_on_after(delay_seconds):
                await self._stop.wait()
        if place.worker is not None:
            await self._drain(place.worker, is_replaced=False)

    async def _replace_until_ended(self, place: Place, worker: WorkerProcess) -> WorkerProcess:
        """Wait for the end of a place's worker, and put others in its place where that is asked for; the last."""
        while True:
            await wait_for_any(worker.ended, place.replacement_wanted, self._stop)
            if worker.ended.is_set() or self._stop.is_set():
                return worker
            successor = await self._start(place)
            if successor is not None:
                await wait_for_any(successor.ready, successor.ended, self._stop)
            place.is_replaced = successor is not None and successor.ready.is_set()
            if successor is not None and place.is_replaced:
                self._nursery.start_soon(partial(self._drain, worker, is_replaced=True))
                place.worker = worker = successor
            elif successor is not None and self._stop.is_set():
                self._nursery.start_soon(partial(self._drain, successor, is_replaced=True))
            elif worker.is_leaving:
                log.error("the new worker did not start, and the old one ends", worker=place.number)
            else:
                log.error("the new worker did not start, the old one stays", worker=place.number)
            place.replacement_wanted = trio.Event()
            place.replacement_done.set()

    async def _start(self, place: Place) -> WorkerProcess | None:
        """Start a worker; None where the system cannot, for want of descriptors, memory, or the program itself."""
        limits = TimeLimits.of(self._settings)
        worker = WorkerProcess(place.number, self._command, self._listeners, limits, self._note, self._names_in_use)
        try:
            await worker.start()
        except OSError as error:
            log.error("worker cannot be started", worker=place.number, reason=str(error))
            return None
        self._nursery.start_soon(self._run, worker)
        return worker

    async def _run(self, worker: WorkerProcess) -> None:
        self._workers.add(worker)
        await worker.run()
        self._workers.discard(worker)
        if not worker.is_leaving:
            self._metrics.own.worker_failures.add()
            log.error("worker ended", worker=worker.number, pid=worker.pid, reason=_describe_end(worker))
        self._metrics.retire(worker.pid)
        self._tell_all()

    async def _drain(self, worker: WorkerProcess, *, is_replaced: bool) -> None:
        worker.drain(is_replaced=is_replaced)
        self._tell_all()
        await worker.wait_for_drain()

    def _judge(self, policy: RestartPolicy, worker: WorkerProcess) -> float | None:
        """What follows from a worker's unasked end: seconds until the next start, None to give up."""
        delay_seconds = policy.delay_seconds(worker.ready_seconds)
        if not self._first_is_ready.is_set():
            self._give_up(f"worker {worker.number} ended before it was ready: {_describe_end(worker)}")
            return None
        if delay_seconds is None:
            self._give_up(f"worker {worker.number} fails to start, again and again")
        return delay_seconds

    def _give_up(self, what: str) -> None:
        hint = "its own error is above; --log-level debug shows more"
        self._fault = Fault(what, hint, ExitCode.STARTUP)
        self._stop.set()

    # What the workers say, and are told.

    def _note(self, worker: WorkerProcess, event: str, message: Mapping[str, Any]) -> None:
        match event:
            case "serving" if self._announce is not None:
                announce, self._announce = self._announce, None
                announce(message["gateway"], message["links"])
                if message["gateway"] is not None:
                    self._applications = {self._settings.mount_prefix or "/": message["gateway"]}
            case "problem":
                fields = {name: value for name, value in message.items() if name != "event"}
                self._logs.problems.note(Problem.from_message({**fields, "worker": worker.number}))
            case "ready":
                if not self._first_is_ready.is_set():
                    self._first_is_ready.set()
                    self._notifier.ready(self._describe_status())
                log.info("worker ready", worker=worker.number, pid=worker.pid)
                self._tell_all()
            case "certificates":
                self._names_in_use = message["names"]
            case "metrics":
                self._metrics.note(worker.pid, message["snapshot"])
            case "recycle":
                self._replace(worker, "it has served its number of requests")
            case "draining" if not worker.is_leaving:
                worker.is_leaving = True
                self._tell_all()  # first: what waits in its queue, others take
                self._replace(worker, "it was told to end")

    def _tell_all(self) -> None:
        absent = [place.number for place in self._places if not place.is_ready]
        ready, wanted = len(self._places) - len(absent), len(self._places)
        for worker in self._workers:
            worker.tell(ready=ready, wanted=wanted, absent=absent)

    def _replace(self, worker: WorkerProcess, reason: str) -> None:
        place = self._places[worker.number - 1]
        if place.worker is worker and not place.replacement_wanted.is_set():
            log.info("worker is replaced", worker=worker.number, pid=worker.pid, reason=reason)
            place.replacement_done = trio.Event()
            place.replacement_wanted.set()

    # What the system and the operator say.

    async def _watch_signals(self, early_signals: EarlySignals, watching: trio.Nursery) -> None:
        repeated = RepeatedSignals()
        with trio.open_signal_receiver(*ENDING, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2) as signals:
            early_signals.deliver()
            async for number in signals:
                name = signal.Signals(number).name
                if number in ENDING:
                    if repeated.note(trio.current_time()):
                        continue
                    if self._stop.is_set():
                        log.info("ending at once", signal=name)
                        watching.start_soon(self._end_at_once)
                    else:
                        log.info("draining", signal=name, hint=HINT)
                        self._notifier.stopping("draining")
                        self._stop.set()
                elif number == signal.SIGUSR2:
                    self._nursery.start_soon(self._restart)
                elif number == signal.SIGHUP:
                    watching.start_soon(self._reload)
                else:
                    self._logs.reopen()
                    for worker in self._workers:
                        worker.pass_on(signal.SIGUSR1)

    async def _reload(self) -> None:
        """Have the workers load their certificates again, and tell the service manager once they have."""
        is_told = not self._is_in_transition()
        if is_told:
            self._notifier.reloading("loading certificates")
        with trio.move_on_after(RELOAD_SECONDS):
            async with trio.open_nursery() as nursery:
                for worker in self._workers:
                    if worker.pass_on(signal.SIGHUP):
                        nursery.start_soon(wait_for_any, worker.reloaded, worker.ended)
        if is_told and not self._stop.is_set():
            self._notifier.ready(self._describe_status())

    async def _end_at_once(self) -> None:
        for worker in self._workers:
            worker.end()
        if self._is_ending_at_once:
            return
        self._is_ending_at_once = True
        await trio.sleep(AT_ONCE_SECONDS)
        for worker in self._workers:
            log.error("worker does not end and is killed", worker=worker.number, pid=worker.pid)
            worker.kill()

    async def _restart(self) -> None:
        """Replace all workers, one after the other."""
        if self._is_restarting or self._stop.is_set():
            log.warning("a restart is under way already")
            return
        self._is_restarting = True
        log.info("restarting workers", count=len(self._places))
        try:
            for place in self._places:
                if not await self._restart_one(place):
                    if self._stop.is_set():
                        return
                    log.error("the restart has ended early", at_worker=place.number)
                    return
        finally:
            self._is_restarting = False
        log.info("restarted workers", count=len(self._places))

    async def _restart_one(self, place: Place) -> bool:
        if place.replacement_wanted.is_set():  # one that was started before the restart was asked for is not new
            await wait_for_any(place.replacement_done, self._stop)
        if place.worker is None:
            return True  # what is started there is new anyway
        self._replace(place.worker, "restart")
        await wait_for_any(place.replacement_done, self._stop)
        return place.replacement_done.is_set() and place.is_replaced

    async def _watch_memory(self, limit_bytes: int) -> None:
        limits = {place.number: vary(limit_bytes) for place in self._places}
        while True:
            await trio.sleep(MEMORY_SECONDS)
            for place in self._places:
                worker = place.worker
                if worker is not None and worker.is_ready and worker.memory_bytes > limits[place.number]:
                    self._replace(worker, f"it has {worker.memory_bytes / 2**20:.0f} MB of memory")


def _describe_end(worker: WorkerProcess) -> str:
    exit_code = worker.exit_code or 0
    if exit_code >= 0:
        return f"exit code {exit_code}"
    named = {number.value: number.name for number in signal.Signals}  # most real-time signals have no name
    return f"signal {named.get(-exit_code, -exit_code)}"
