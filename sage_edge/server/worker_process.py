"""One worker as its supervisor sees it: a process, the signals it gets, and what it says."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import structlog
import trio

from sage_edge.server.memory import resident_bytes
from sage_edge.server.worker_link import VARIABLE, Inheritance, MessageSender, read_messages

log = structlog.get_logger(__name__)

SILENCE_SECONDS = 30.0
"""A worker whose loop has not turned for so long is killed."""


class WorkerProcess:
    """A worker.

    Args:
        number: of its place, from 1.
        command: that starts it.
        listeners: of each place.
        on_event: called with the name and values of what it says.

    Attributes:
        ready: set once it has said so.
        ended: set once it has.
        exit_code: None while it runs; negative for a signal, as `subprocess` has it.
    """

    def __init__(
        self,
        number: int,
        command: Sequence[str],
        listeners: Sequence[Sequence[socket.socket]],
        on_event: Callable[[WorkerProcess, str, Mapping[str, Any]], None],
    ) -> None:
        self.number = number
        self.ready = trio.Event()
        self.ended = trio.Event()
        self.exit_code: int | None = None
        self._command = command
        self._listeners = listeners
        self._on_event = on_event
        self._heard_at = 0.0
        self._ready_at: float | None = None
        self._is_leaving = False
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
        return self.ready.is_set() and not self._is_leaving and not self.ended.is_set()

    @property
    def ready_seconds(self) -> float | None:
        """For how long it has been ready; None if it never was."""
        return None if self._ready_at is None else trio.current_time() - self._ready_at

    @property
    def memory_bytes(self) -> int:
        """What it has of the machine's memory now; 0 where the system does not say."""
        return resident_bytes(self.pid)

    async def start(self) -> None:
        """Start it.

        Raises:
            OSError: the system has no room for another process.
        """
        self._link, other = socket.socketpair()
        with other:
            self._link.setblocking(False)
            self._sender = MessageSender(self._link)
            rows = [[sock.fileno() for sock in row] for row in self._listeners]
            inheritance = Inheritance(self.number, other.fileno(), rows)
            self._process = await trio.lowlevel.open_process(
                list(self._command),
                pass_fds=list({other.fileno(), *(descriptor for row in rows for descriptor in row)}),
                env={**os.environ, VARIABLE: inheritance.to_text()},
                # Of its own: a terminal's interrupt is the supervisor's to pass on.
                process_group=0,
            )
        self._heard_at = trio.current_time()
        log.info("worker started", worker=self.number, pid=self.pid)

    async def run(self) -> None:
        """Hear what it says until it has ended. Cancelled, it is killed."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._watch_silence)
                async for message in read_messages(self._link):
                    self._heard_at = trio.current_time()
                    self._note(message)
                await self._process.wait()
                nursery.cancel_scope.cancel()
        finally:
            if self._process.returncode is None:
                self.kill()
                with trio.CancelScope(shield=True):
                    await self._process.wait()
            self._link.close()
            self.exit_code = self._process.returncode
            self.ended.set()

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        if self._process.returncode is None:
            self._process.send_signal(number)

    def drain(self) -> None:
        """Have it finish what it does, and end."""
        self._is_leaving = True
        self.send(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once."""
        self._is_leaving = True
        self.send(signal.SIGKILL)

    def tell(self, **values: object) -> None:
        """Tell it something. One that does not listen loses it."""
        self._sender.send(values)

    def _note(self, message: Mapping[str, Any]) -> None:
        event = str(message["event"])
        if event == "ready" and not self.ready.is_set():
            self._ready_at = trio.current_time()
            self.ready.set()
        self._on_event(self, event, message)

    async def _watch_silence(self) -> None:
        while True:
            silent_seconds = trio.current_time() - self._heard_at
            if self.ready.is_set() and silent_seconds > SILENCE_SECONDS:
                log.error("worker does not answer and is killed", worker=self.number, pid=self.pid)
                self._process.kill()
                return
            await trio.sleep(1)
