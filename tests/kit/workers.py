"""Workers without processes, for tests of what their supervisor makes of them."""

from __future__ import annotations

import itertools
from typing import Any

import trio

_pids = itertools.count(1001)


class FakeWorker:
    """Like `WorkerProcess`: it becomes ready, leaves and ends as a test says."""

    def __init__(self, number: int = 1, memory_bytes: int = 0) -> None:
        self.number = number
        self.pid = next(_pids)
        self.ready = trio.Event()
        self.closed = trio.Event()
        self.ended = trio.Event()
        self.is_leaving = self.is_silent = False
        self.memory_bytes = memory_bytes
        self.ready_seconds: float | None = None

    @property
    def is_ready(self) -> bool:
        return self.ready.is_set() and not self.is_leaving and not self.is_silent and not self.ended.is_set()

    def become_ready(self, *, for_seconds: float = 60.0) -> FakeWorker:
        """Serve, and tell later that it was for so long."""
        self.ready_seconds = for_seconds
        self.ready.set()
        return self


class FakePlace:
    """Like `Place`: it notes what is wanted of it."""

    def __init__(self, number: int, worker: Any) -> None:
        self.number = number
        self.worker = worker
        self.leaving: list[Any] = []
        self.reasons: list[str] = []

    def replace(self, worker: Any, reason: str) -> None:
        if worker is self.worker:
            self.reasons.append(reason)
