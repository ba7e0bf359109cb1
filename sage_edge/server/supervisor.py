"""Keeps workers running on the same listening sockets: starts them, judges their ends, and passes signals on.

The supervisor holds the sockets, so that no connection is refused or lost while workers come and go: what one
that leaves has not accepted, another will. It serves nothing itself. How one worker follows another is
`server.place`'s, when that is asked for `server.rolling_restart`'s and `server.recycling`'s.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import trio

from sage_edge.core.errors import EdgeError, ExitCode, Fault
from sage_edge.core.logger import EdgeLogger
from sage_edge.core.problems import Problem
from sage_edge.server.certificate_set import Names
from sage_edge.server.drain import Drain
from sage_edge.server.early_signals import ENDING, HINT, EarlySignals, RepeatedSignals
from sage_edge.server.last_call import end_listening
from sage_edge.server.log_writer import LogWriter
from sage_edge.server.metrics_listener import serve_metrics
from sage_edge.server.metrics_reports import WorkersMetrics
from sage_edge.server.notify import Notifier, keep_notified
from sage_edge.server.place import Place, wait_for_any
from sage_edge.server.preparation import Plan
from sage_edge.server.recycling import Recycling
from sage_edge.server.rolling_restart import RollingRestart
from sage_edge.server.shared_listeners import SharedListeners
from sage_edge.server.status_listener import serve_status
from sage_edge.server.worker_link import TimeLimits
from sage_edge.server.worker_process import WorkerProcess

log = EdgeLogger(__name__)

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
        show_drain: see `Drain`.
    """

    def __init__(
        self,
        plan: Plan,
        command: Sequence[str],
        announce: Callable[[str | None, Mapping[str, str]], None],
        notifier: Notifier,
        logs: LogWriter,
        show_drain: Callable[[str], None] | None = None,
    ) -> None:
        settings = self._settings = plan.settings
        self._plan = plan
        self._command = command
        count = settings.workers or 1
        self._listeners = SharedListeners(
            plan.sockets, plan.redirect_sockets, count=count, is_port_shared=settings.reuse_port
        )
        self._announce: Callable[[str | None, Mapping[str, str]], None] | None = announce
        self._stop = trio.Event()
        build_place = partial(Place, stop=self._stop, start=self._start, leave=self._leave, judge=self._judge)
        self._places = [build_place(number + 1) for number in range(count)]
        self._workers: set[WorkerProcess] = set()  # those that leave, too
        self._recycling = Recycling(self._places, settings.max_memory_bytes)
        self._restarts = RollingRestart(self._places, self._stop, self._telling_of_reload)
        self._reloads = 0  # under way
        self._notifier = notifier
        self._logs = logs
        self._show_drain = show_drain
        self._drain: Drain | None = None
        self._cut_streams = 0
        self._metrics = WorkersMetrics(self._speaks_for_place)
        self._metrics.own.refresh_with(self._count_workers)
        self._applications: Mapping[str, str] = {}  # by prefix, once a worker has told
        self._names_in_use: Names = plan.certificates.current.names if plan.certificates is not None else {}
        self._first_is_ready = trio.Event()
        self._is_ending_at_once = False
        self._fault: Fault | None = None
        self._watching: trio.Nursery  # for as long as there are workers
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
        if self._cut_streams:
            log.warning("streams cut in all", streams=self._cut_streams)
        if self._fault is not None:
            raise EdgeError(self._fault)
        log.info("stopped")

    async def _run_all(self, early_signals: EarlySignals) -> None:
        async with trio.open_nursery() as self._watching:
            watching = self._watching
            watching.start_soon(self._watch_signals, early_signals, watching)
            watching.start_soon(keep_notified, self._notifier, self._describe_status, self._needs_time)
            metrics = self._metrics
            page = partial(serve_metrics, metrics.families, metrics.snapshot, self._plan.metrics_listener)
            watching.start_soon(page, self._settings.limits)
            status = partial(serve_status, metrics.snapshot, self._logs.problems, lambda: self._applications)
            watching.start_soon(status, self._plan.admin_listener, self._settings.limits, lambda: metrics.totals)
            watching.start_soon(self._follow_drain, watching)
            watching.start_soon(self._recycling.watch_memory)
            watching.start_soon(self._restarts.run)
            async with trio.open_nursery() as self._nursery:
                for place in self._places:
                    self._nursery.start_soon(self._keep, place)
            watching.cancel_scope.cancel()

    async def _follow_drain(self, watching: trio.Nursery) -> None:
        await self._stop.wait()
        for listener in (self._plan.metrics_listener, self._plan.admin_listener):
            listener.give_up()
        for worker in self._workers:
            if worker.is_leaving:  # nobody goes on in its place any more, for which its idle connections may wait
                worker.drain(is_replaced=False)
        last_call_seconds = max((each.limits.last_call_seconds for each in self._workers), default=0.0)
        drain_seconds = max((each.limits.drain_seconds for each in self._workers), default=0.0)
        self._drain = Drain(delay_seconds=last_call_seconds, limit_seconds=drain_seconds, show=self._show_drain)
        self._drain.count_streams = lambda: sum(worker.streams for worker in self._workers)
        self._drain.begin()
        watching.start_soon(self._drain.report)
        await end_listening(self._listeners, self._workers, last_call_seconds)

    def _describe_status(self) -> str:
        if self._stop.is_set():
            return self._drain.describe() if self._drain is not None else "draining"
        return f"{self._restarts.describe()}: {self._ready} of {len(self._places)} workers are ready"

    @property
    def _ready(self) -> int:
        return sum(place.is_ready for place in self._places)

    def _count_workers(self) -> None:
        figures = self._metrics.own
        figures.workers_wanted.of().number = len(self._places)
        figures.workers_ready.of().number = self._ready
        figures.dropped_log_lines.of().number = self._logs.dropped
        if self._stop.is_set():  # which the workers tell up to a second later, and those that hang never
            figures.phase.of("draining").number = 1

    def _speaks_for_place(self, pid: int) -> bool:
        holders = [place.holder for place in self._places if place.holder is not None]
        return any(worker.pid == pid and not worker.is_silent for worker in holders)

    def _is_in_transition(self) -> bool:
        return self._stop.is_set() or not self._first_is_ready.is_set()

    def _needs_time(self) -> bool:
        return self._is_in_transition() or self._restarts.is_under_way

    # The life of a place is its own. Here is what it needs for it.

    async def _keep(self, place: Place) -> None:
        if place is not self._places[0]:  # the first alone finds out whether a worker can start at all
            await wait_for_any(self._first_is_ready, self._stop)
        await place.keep()

    async def _start(self, place: Place) -> WorkerProcess | None:
        """Start a worker; None where the system cannot, for want of descriptors, memory, or the program itself."""
        limits = TimeLimits.of(self._settings)
        worker = WorkerProcess(
            place.number,
            self._command,
            self._listeners,
            limits,
            self._note,
            self._names_in_use,
            is_measured=self._plan.is_measured,
        )
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
        self._watching.start_soon(worker.reap_orphans)
        self._workers.discard(worker)
        if not worker.is_leaving:
            self._metrics.own.worker_failures.add()
            log.error("worker ended", worker=worker.number, pid=worker.pid, reason=_describe_end(worker))
        if self._stop.is_set():
            self._cut_streams += worker.streams  # which one that is killed had
        self._metrics.retire(worker.pid)
        self._recycling.note_end(worker)
        self._tell_all()

    def _leave(self, worker: WorkerProcess, is_replaced: bool) -> None:
        worker.drain(is_replaced=is_replaced and not self._stop.is_set())
        self._tell_all()
        self._nursery.start_soon(worker.wait_for_drain)

    def _judge(self, place: Place, started: WorkerProcess | None) -> float:
        """What follows from a start in vain, in a place where nobody serves: seconds until the next, or the end."""
        if started is None:
            if not self._first_is_ready.is_set():
                self._give_up(f"worker {place.number} cannot be started")
            return UNSTARTED_SECONDS
        delay_seconds = place.policy.delay_seconds(None)
        if not self._first_is_ready.is_set() and started.has_told_faults:
            self._give_up(f"worker {place.number} ended before it was ready: {_describe_end(started)}")
        elif self._is_in_vain:
            self._give_up(f"worker {place.number} fails to start, again and again")
        else:
            failed = place.policy.failed_starts
            message = "worker did not start and is tried again"
            log.error(message, worker=place.number, failed_starts=failed, delay_seconds=delay_seconds)
        return delay_seconds

    @property
    def _is_in_vain(self) -> bool:
        """Whether no worker serves, be it to the end of its streams, and none can be hoped for."""
        begun = self._places if self._first_is_ready.is_set() else self._places[:1]
        serves = any(worker.ready.is_set() for worker in self._workers)
        return not serves and all(place.policy.is_in_vain for place in begun)

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
                self._recycling.note_ready(worker)
                self._tell_all()
            case "certificates" if not worker.is_leaving:
                self._names_in_use = {**self._names_in_use, **message["names"]}
            case "metrics":
                self._metrics.note(worker.pid, message["snapshot"], message["at"])
            case "silent":
                self._tell_all()
            case "answering":
                self._recycling.note_answering(worker)
                self._tell_all()
            case "streams" if self._stop.is_set():
                self._cut_streams += message["cut"]
            case "recycle":
                self._recycling.note_served(worker)
            case "draining" if not worker.is_leaving:
                worker.is_leaving = True
                self._tell_all()  # first: what waits in its queue, others take
                self._places[worker.number - 1].note_leaving(worker, "it was told to end")

    def _tell_all(self) -> None:
        absent = [place.number for place in self._places if not place.is_ready]
        ready, wanted = len(self._places) - len(absent), len(self._places)
        for worker in self._workers:
            worker.tell(ready=ready, wanted=wanted, absent=absent)

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
                    self._restarts.ask()
                elif number == signal.SIGHUP:
                    watching.start_soon(self._reload)
                else:
                    self._logs.reopen()
                    for worker in self._workers:
                        worker.pass_on(signal.SIGUSR1)

    async def _reload(self) -> None:
        """Have the workers load their certificates again, and tell the service manager once they have."""
        with self._telling_of_reload("loading certificates"), trio.move_on_after(RELOAD_SECONDS):
            async with trio.open_nursery() as nursery:
                for worker in self._workers:
                    # One that is not ready has read the files just now, and hears no signals yet.
                    if worker.ready.is_set() and worker.pass_on(signal.SIGHUP):
                        nursery.start_soon(wait_for_any, worker.reloaded, worker.ended)

    @contextmanager
    def _telling_of_reload(self, what: str) -> Iterator[None]:
        """Tell the service manager that something is taken up anew and, once nothing is any more, that it is over."""
        if self._is_in_transition():
            yield
            return
        self._reloads += 1
        self._notifier.reloading(what)
        try:
            yield
        finally:
            self._reloads -= 1
            if not self._reloads and not self._stop.is_set():
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


def _describe_end(worker: WorkerProcess) -> str:
    exit_code = worker.exit_code or 0
    if exit_code >= 0:
        return f"exit code {exit_code}"
    named = {number.value: number.name for number in signal.Signals}  # most real-time signals have no name
    return f"signal {named.get(-exit_code, -exit_code)}"
