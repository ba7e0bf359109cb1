"""One worker as its supervisor sees it: a process, the signals it gets, and what it says."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from typing import Any

import trio

from sage_edge.core.errors import ExitCode
from sage_edge.core.logger import EdgeLogger
from sage_edge.server.certificate_set import Names
from sage_edge.server.ending import END_SECONDS
from sage_edge.server.memory import allocated_bytes
from sage_edge.server.shared_listeners import SharedListeners
from sage_edge.server.worker_link import VARIABLE, MessageSender, Order, TimeLimits, read_messages

log = EdgeLogger(__name__)

LAST_WORDS_SECONDS = 0.5
"""How long what a worker said last is waited for, once it has ended."""
QUIET_SECONDS = 3.0
"""A worker whose loop has not turned for so long does not count as ready, and others accept in its place."""
SILENCE_SECONDS = 30.0
"""The same, and it is killed."""
REAP_SECONDS = 0.5
"""How often it is looked whether what was killed has ended."""
LOOK_SECONDS = 1.0
"""How often it is looked for that."""
LATE_SECONDS = 10.0
"""How long after its last moment to start a worker is killed: it has been started itself before its gateway is."""


class WorkerProcess:
    """A worker.

    Args:
        number: of its place, from 1.
        command: that starts it.
        listeners: that it inherits.
        limits: of its time, until it says its own.
        on_event: called with the name and values of what it says.
        names_in_use: of the certificates that are served as it starts.
        is_measured: whether its figures are shown.

    Attributes:
        ready: set once it has said so.
        closed: set once it has said that it accepts no more from the edge's sockets.
        reloaded: set when it has next loaded its certificates again, whether they were good or not.
        ended: set once it has.
        exit_code: None while it runs; negative for a signal, as `subprocess` has it.
        is_leaving: it drains, or is about to.
        is_silent: it was ready, and has said nothing for `QUIET_SECONDS`; "silent" and "answering" are events of it.
        streams: how many it had in flight when it last told, in a drain.
        limits: of its time.
    """

    def __init__(
        self,
        number: int,
        command: Sequence[str],
        listeners: SharedListeners,
        limits: TimeLimits,
        on_event: Callable[[WorkerProcess, str, Mapping[str, Any]], None],
        names_in_use: Names | None = None,
        *,
        is_measured: bool = True,
    ) -> None:
        self.number = number
        self.ready = trio.Event()
        self.closed = trio.Event()
        self.reloaded = trio.Event()
        self.ended = trio.Event()
        self.exit_code: int | None = None
        self.is_leaving = self.is_silent = False
        self.streams = 0
        self.limits = limits
        self._command = command
        self._listeners = listeners
        self._names_in_use = names_in_use
        self._is_measured = is_measured
        self._on_event = on_event
        self._started_at = self._heard_at = 0.0
        self._has_spoken = self._is_listening = False
        self._ready_at: float | None = None
        self._process: trio.Process
        self._link: socket.socket
        self._sender: MessageSender

    @property
    def pid(self) -> int:
        """Of its process."""
        return self._process.pid

    @property
    def is_ready(self) -> bool:
        """Whether it serves, and will go on."""
        return self.ready.is_set() and not self.is_leaving and not self.is_silent and not self.ended.is_set()

    @property
    def has_told_faults(self) -> bool:
        """Whether it ended because of faults that it has reported: of its configuration, or its gateway."""
        return self.exit_code in {ExitCode.CONFIGURATION, ExitCode.STARTUP}

    @property
    def ready_seconds(self) -> float | None:
        """For how long it has been ready; None if it never was."""
        return None if self._ready_at is None else trio.current_time() - self._ready_at

    @property
    def memory_bytes(self) -> int:
        """What it has allocated of the machine's memory; 0 where the system does not say."""
        return allocated_bytes(self.pid)

    async def start(self) -> None:
        """Start it.

        Raises:
            OSError: the system has no room for another process.
        """
        self._link, other = socket.socketpair()
        with ExitStack() as stack:
            stack.enter_context(other)
            stack.callback(self._link.close)
            self._link.setblocking(False)
            self._sender = MessageSender(self._link)
            inheritance = self._listeners.describe(
                self.number, other.fileno(), self._names_in_use, is_measured=self._is_measured
            )
            self._process = await trio.lowlevel.open_process(
                list(self._command),
                pass_fds=list(self._listeners.descriptors | {other.fileno()}),
                env={**os.environ, VARIABLE: inheritance.to_text()},
                # Of its own: a terminal's interrupt is the supervisor's to pass on.
                process_group=0,
            )
            stack.pop_all()
            other.close()
        self._started_at = self._heard_at = trio.current_time()
        log.info("worker started", worker=self.number, pid=self.pid)

    async def run(self) -> None:
        """Hear what it says until it has ended. Cancelled, it is killed."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._watch_silence)
                heard_all = trio.Event()
                nursery.start_soon(self._hear, heard_all)
                await self._process.wait()
                # A process that the gateway has forked may hold the worker's end of the link, and go on.
                with trio.move_on_after(LAST_WORDS_SECONDS):
                    await heard_all.wait()
                nursery.cancel_scope.cancel()
        finally:
            if self._process.returncode is None:
                self.kill()
                with trio.CancelScope(shield=True):
                    await self._process.wait()
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)  # what its gateway has started, and has left behind
            self._link.close()
            self.exit_code = self._process.returncode
            self.ended.set()

    async def reap_orphans(self) -> None:
        """Wait for what its gateway has left behind, where that is the supervisor's now: a container's first process.

        Those of its own process group alone: other children of the supervisor are others' to wait for. Killed as they
        are, one may stay for as long as a tracer or a device holds it: nothing else is to wait for this.
        """
        while True:
            try:
                pid, _ = os.waitpid(-self.pid, os.WNOHANG)  # noqa: ASYNC222 - it does not block
            except ChildProcessError:
                return
            if not pid:
                await trio.sleep(REAP_SECONDS)

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        if self._process.returncode is None:
            self._process.send_signal(number)

    def pass_on(self, number: signal.Signals) -> bool:
        """Send it a signal, unless that would end it, for it has only just begun; whether it was sent.

        One that starts finds all files anew.
        """
        if self._has_spoken:
            self.send(number)
        return self._has_spoken

    def drain(self, *, is_replaced: bool) -> None:
        """Have it finish what it does, and end.

        Args:
            is_replaced: whether another has its place, so that no balancer has to notice.
        """
        self.is_leaving = True
        self._order(Order.LEAVE_TO_ANOTHER if is_replaced else Order.DRAIN)

    async def wait_for_drain(self) -> None:
        """Wait for the end of one that was told to drain. Where that does not come in time, it is killed."""
        with trio.move_on_after(self.limits.last_call_seconds + self.limits.drain_seconds + END_SECONDS):
            await self.ended.wait()
            return
        log.error("worker does not end and is killed", worker=self.number, pid=self.pid)
        self.kill()
        await self.ended.wait()

    def end(self) -> None:
        """Have it end now."""
        self._order(Order.END)

    def kill(self) -> None:
        """End it at once."""
        self.is_leaving = True
        self.send(signal.SIGKILL)

    def tell(self, **values: object) -> None:
        """Tell it something. One that does not listen loses it."""
        self._sender.send(values)

    def _order(self, order: Order) -> None:
        if self._is_listening:
            self.tell(order=order.value)
        else:
            self.send(signal.SIGTERM)  # it is being prepared, or starts: there is nothing to finish

    async def _hear(self, heard_all: trio.Event) -> None:
        async for message in read_messages(self._link):
            self._heard_at = trio.current_time()
            self._has_spoken = True
            if self.is_silent:
                self.is_silent = False
                log.info("worker answers again", worker=self.number, pid=self.pid)
                self._on_event(self, "answering", {})
            try:
                self._note(message)
            except Exception as error:  # of another version, say: no reason to end the others
                log.error("what a worker said makes no sense", worker=self.number, exc_info=error)
        heard_all.set()

    def _note(self, message: Mapping[str, Any]) -> None:
        event = str(message.get("event"))
        match event:
            case "started":
                self.limits = TimeLimits(**message["limits"])
            case "alive":
                self._is_listening = True
            case "ready" if not self.ready.is_set():
                self._ready_at = trio.current_time()
                self.ready.set()
            case "closed":
                self.closed.set()
            case "streams":
                self.streams = message["in_flight"]
            case "reloaded":
                reloaded, self.reloaded = self.reloaded, trio.Event()
                reloaded.set()
        self._on_event(self, event, message)

    async def _watch_silence(self) -> None:
        while True:
            before = trio.current_time()
            await trio.sleep(LOOK_SECONDS)
            now = trio.current_time()
            # While the supervisor itself was held up, nothing was heard: that is not the worker's silence.
            held_up_seconds = now - before - LOOK_SECONDS
            self._heard_at += held_up_seconds
            self._started_at += held_up_seconds
            reason = None
            if self.ready.is_set():
                silent_seconds = now - self._heard_at
                if silent_seconds > SILENCE_SECONDS:
                    reason = "it does not answer"
                elif silent_seconds > QUIET_SECONDS and self.is_ready:
                    self.is_silent = True
                    log.warning("worker is silent: others accept in its place", worker=self.number, pid=self.pid)
                    self._on_event(self, "silent", {})
            elif now - self._started_at > self.limits.startup_seconds + LATE_SECONDS:
                reason = "it does not become ready"
            if reason is not None:
                log.error("worker is killed", worker=self.number, pid=self.pid, reason=reason)
                self._process.kill()
                return
