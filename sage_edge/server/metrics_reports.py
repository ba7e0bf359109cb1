"""Several workers' metrics as one: each reports its own to the supervisor, which adds them up."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import trio

from sage_edge.core.metric_families import Metrics
from sage_edge.core.metrics import Family, Snapshot
from sage_edge.core.problems import Problems
from sage_edge.core.status import Totals, read_totals
from sage_edge.server.process_figures import observe_resources
from sage_edge.server.worker_link import WorkerLink

REPORT_SECONDS = 1.0


async def report_metrics(metrics: Metrics, problems: Problems, link: WorkerLink) -> None:
    """Tell the supervisor the figures of this process, each second and at the end, and what went wrong in between."""
    try:
        while True:
            link.say("metrics", snapshot=metrics.snapshot(), at=time.monotonic())
            for problem in problems.take_untold():
                link.say("problem", **problem.as_message())
            await trio.sleep(REPORT_SECONDS)
    finally:
        link.say("metrics", snapshot=metrics.snapshot(), at=time.monotonic())


class WorkersMetrics:
    """What the workers report, added up. Counters of workers that have ended go on counting.

    Args:
        speaks_for_place: whether a process is the worker of its place and answers, and not one that comes or goes
            beside it.

    Attributes:
        own: the supervisor's figures, about the workers and about itself.
    """

    def __init__(self, speaks_for_place: Callable[[int], bool]) -> None:
        self.own = Metrics()
        observe_resources(self.own)
        self._speaks_for_place = speaks_for_place
        # How the edge is, those know who serve: not one that is silent, or starts or leaves beside another.
        self._of_places = {values.family.name for values in (self.own.phase, self.own.readiness_check)}
        self._latest: dict[int, Snapshot] = {}
        self._totals: dict[int, Totals] = {}
        self._ended: Snapshot = {}

    @property
    def families(self) -> Sequence[Family]:
        """What there is."""
        return self.own.families

    @property
    def totals(self) -> Mapping[int, Totals]:
        """What each process that runs has told last."""
        return self._totals.copy()

    def note(self, pid: int, snapshot: Snapshot, at: float) -> None:
        """Take a report of a process.

        Args:
            pid: of it.
            snapshot: its figures.
            at: when it took them, by the monotonic clock that all processes of a machine share.
        """
        self._latest[pid] = snapshot
        self._totals[pid] = read_totals(snapshot, at)

    def retire(self, pid: int) -> None:
        """A process has ended."""
        self._totals.pop(pid, None)
        snapshot = self._latest.pop(pid, None)
        if snapshot is not None:
            self._ended = self.own.merge([self._ended, self.own.keep_totals(snapshot)])

    def snapshot(self) -> Snapshot:
        """All of them together."""
        return self.own.merge([self._ended, self.own.snapshot(), *map(self._select, self._latest.items())])

    def _select(self, report: tuple[int, Snapshot]) -> Snapshot:
        pid, snapshot = report
        if self._speaks_for_place(pid):
            return snapshot
        return {name: rows for name, rows in snapshot.items() if name not in self._of_places}
