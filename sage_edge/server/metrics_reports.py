"""Several workers' metrics as one: each reports its own to the supervisor, which adds them up."""

from __future__ import annotations

from collections.abc import Sequence

import trio

from sage_edge.core.metric_families import Metrics
from sage_edge.core.metrics import Family, Snapshot
from sage_edge.core.problems import Problems
from sage_edge.server.worker_link import WorkerLink

REPORT_SECONDS = 1.0


async def report_metrics(metrics: Metrics, problems: Problems, link: WorkerLink) -> None:
    """Tell the supervisor the figures of this process, each second and at the end, and what went wrong in between."""
    try:
        while True:
            link.say("metrics", snapshot=metrics.snapshot())
            for problem in problems.take_untold():
                link.say("problem", **problem.as_message())
            await trio.sleep(REPORT_SECONDS)
    finally:
        link.say("metrics", snapshot=metrics.snapshot())


class WorkersMetrics:
    """What the workers report, added up. Counters of workers that have ended go on counting.

    Attributes:
        own: the supervisor's figures, about the workers.
    """

    def __init__(self) -> None:
        self.own = Metrics()
        self._latest: dict[int, Snapshot] = {}
        self._ended: Snapshot = {}

    @property
    def families(self) -> Sequence[Family]:
        """What there is."""
        return self.own.families

    def note(self, pid: int, snapshot: Snapshot) -> None:
        """Take a report of a process."""
        self._latest[pid] = snapshot

    def retire(self, pid: int) -> None:
        """A process has ended."""
        snapshot = self._latest.pop(pid, None)
        if snapshot is not None:
            self._ended = self.own.merge([self._ended, self.own.keep_totals(snapshot)])

    def snapshot(self) -> Snapshot:
        """All of them together."""
        return self.own.merge([self._ended, self.own.snapshot(), *self._latest.values()])
