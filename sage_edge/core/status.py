"""What the status page shows, from snapshots of the metrics: figures of the moment, and their last two minutes.

Arithmetic only: who takes the snapshots, and when, is `server.status_listener`'s; how they look is `app.status_page`'s.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from sage_edge.core.exchange import HEALTH_MOUNT
from sage_edge.core.metric_families import AWAITED, GENERATION_BOUNDS
from sage_edge.core.metrics import Snapshot

HISTORY_SECONDS = 120
RECENT_SECONDS = 10
"""What the quantiles are taken of."""

LONGEST_BETWEEN_SECONDS = 3.0
"""A process that has told nothing for longer counts nothing, as far as anybody knows."""

SECONDS_PER_DAY = 86_400

FAULTS = {
    "connections refused": "sage_edge_connections_refused",
    "TLS handshakes failed": "sage_edge_tls_handshake_failures",
    "protocol errors": "sage_edge_protocol_errors",
    "limits exceeded": "sage_edge_limits_exceeded",
    "log lines lost": "sage_edge_log_lines_dropped",
}
"""What is counted where, of what goes wrong around requests."""

Series = Sequence[float | None]
"""One value for each second, the latest last; None where there was nothing to measure."""


@dataclass(frozen=True)
class Totals:
    """What a process has counted so far.

    Attributes:
        at: when, in seconds of the machine's monotonic clock.
        requests: that have ended.
        events: sent.
    """

    at: float
    requests: float
    events: float


@dataclass(frozen=True)
class Pace:
    """How fast a process counts, by the last two that it told: in its own time, whenever that is heard.

    Attributes:
        totals: the last.
        requests_per_second, events_per_second: between the two; 0 where there was but one.
    """

    totals: Totals
    requests_per_second: float = 0.0
    events_per_second: float = 0.0

    def follow(self, totals: Totals, now: float) -> Pace:
        """The pace once others were told, or the same again."""
        seconds = totals.at - self.totals.at
        if seconds > 0:
            requests, events = totals.requests - self.totals.requests, totals.events - self.totals.events
            return Pace(totals, max(0.0, requests / seconds), max(0.0, events / seconds))
        return self if now - totals.at <= LONGEST_BETWEEN_SECONDS else Pace(totals)


@dataclass(frozen=True)
class Sample:
    """The figures that are charted, at one moment.

    Attributes:
        at: seconds of the machine's monotonic clock.
        in_flight: requests.
        totals: of each process, by its id.
        first_events: how many first events fell into each bucket so far.
    """

    at: float
    in_flight: float
    totals: Mapping[int, Totals]
    first_events: tuple[int, ...]


@dataclass(frozen=True)
class Traffic:
    """What a mount or a protocol has done.

    Attributes:
        name: of it.
        in_flight: requests and WebSockets.
        requests: that have ended.
        failed: of these, answered with 5xx; not health's word that the edge is not ready.
        events: sent.
        sent_bytes: of bodies and WebSocket frames.
    """

    name: str
    in_flight: int = 0
    requests: int = 0
    failed: int = 0
    events: int = 0
    sent_bytes: int = 0


@dataclass(frozen=True)
class Overview:
    """The page's figures.

    Attributes:
        at: Unix time of the figures.
        phase: of the edge's life; "silent" where no worker answers.
        checks: of readiness: whether each is passed.
        mounts, protocols: what they have done.
        endings: how many requests ended early, by cause.
        faults: how often each of `FAULTS` was counted since the start.
        connections: that are open.
        edge_lag_seconds: of the edge's own loop; None where nobody tells.
        gateway_lag_seconds: of the slowest gateway's loop; None where it has none of its own.
        longest_wait_seconds: until now, for the head of an answer and for a first event.
        waits_given_up: such waits that others than the gateway ended.
        waiting_for_client: answers that do now.
        certificate_days: until the first expires; None for plaintext.
        workers: how many are ready, and should be; None without a supervisor.
    """

    at: float
    phase: str
    checks: Mapping[str, bool]
    mounts: Sequence[Traffic]
    protocols: Sequence[Traffic]
    endings: Mapping[str, int]
    faults: Mapping[str, int]
    connections: int
    edge_lag_seconds: float | None
    gateway_lag_seconds: float | None
    longest_wait_seconds: tuple[float, float]
    waits_given_up: int
    waiting_for_client: int
    certificate_days: float | None
    workers: tuple[int, int] | None

    @property
    def in_flight(self) -> int:
        """Of all mounts."""
        return sum(mount.in_flight for mount in self.mounts)

    @property
    def requests(self) -> int:
        """The same."""
        return sum(mount.requests for mount in self.mounts)

    @property
    def events(self) -> int:
        """The same."""
        return sum(mount.events for mount in self.mounts)


class History:
    """The samples of the last two minutes, one a second."""

    def __init__(self) -> None:
        self._samples: deque[Sample] = deque(maxlen=HISTORY_SECONDS + 1)
        self._paces: deque[Mapping[int, Pace]] = deque(maxlen=HISTORY_SECONDS + 1)

    def add(self, sample: Sample) -> None:
        """Add the latest."""
        before = self._paces[-1] if self._paces else {}
        self._samples.append(sample)
        self._paces.append(
            {
                pid: before[pid].follow(totals, sample.at) if pid in before else Pace(totals)
                for pid, totals in sample.totals.items()
            }
        )

    @property
    def in_flight(self) -> Series:
        """Requests."""
        return [sample.in_flight for sample in self._samples][1:]

    @property
    def requests_per_second(self) -> Series:
        """That ended."""
        return [sum(pace.requests_per_second for pace in paces.values()) for paces in self._paces][1:]

    @property
    def events_per_second(self) -> Series:
        """That were sent."""
        return [sum(pace.events_per_second for pace in paces.values()) for paces in self._paces][1:]

    @property
    def first_event_seconds(self) -> Series:
        """The median of each second's."""
        return [quantile(0.5, _difference(before, after)) for before, after in pairwise(self._samples)]

    def recent_first_event_seconds(self, share: float) -> float | None:
        """A quantile of those of the last seconds; None where there were none."""
        if len(self._samples) < 2:
            return None
        before = self._samples[max(0, len(self._samples) - 1 - RECENT_SECONDS)]
        return quantile(share, _difference(before, self._samples[-1]))


def read_totals(snapshot: Snapshot, at: float) -> Totals:
    """Those of one process's snapshot."""
    return Totals(at, sum(_numbers(snapshot, "sage_edge_requests")), sum(_numbers(snapshot, "sage_edge_events")))


def take_sample(snapshot: Snapshot, at: float, totals: Mapping[int, Totals] | None = None) -> Sample:
    """The sample of a snapshot.

    Args:
        snapshot: of one process, or of several, merged.
        at: now, in seconds of the machine's monotonic clock.
        totals: of each of several processes.
    """
    rows = [counts for _, counts, _ in snapshot.get("sage_edge_time_to_first_event_seconds", ())]
    return Sample(
        at,
        in_flight=sum(_numbers(snapshot, "sage_edge_requests_in_flight")),
        totals={0: read_totals(snapshot, at)} if totals is None else totals,
        first_events=tuple(map(sum, zip(*rows, strict=True))) or (0,) * (len(GENERATION_BOUNDS) + 1),
    )


def read_overview(snapshot: Snapshot, unix_time: float) -> Overview:
    """The figures of a snapshot."""
    lag, edge_lag = (_numbers(snapshot, f"sage_edge_{whose}loop_lag_seconds") for whose in ("gateway_", ""))
    longest = dict.fromkeys(AWAITED, 0.0)
    for (_, awaited), seconds in snapshot.get("sage_edge_longest_wait_seconds", ()):
        longest[awaited] = max(longest[awaited], seconds)
    expiry = _numbers(snapshot, "sage_edge_certificate_expiry_timestamp_seconds")
    ready, wanted = _numbers(snapshot, "sage_edge_workers_ready"), _numbers(snapshot, "sage_edge_workers_wanted")
    endings: dict[str, int] = {}
    for (_, cause), number in snapshot.get("sage_edge_cancellations", ()):
        if number:
            endings[cause.replace("_", " ")] = endings.get(cause.replace("_", " "), 0) + int(number)
    # A supervisor that drains says so before its workers do.
    phases = [labels[0] for labels, number in snapshot.get("sage_edge_phase", ()) if number]
    # Of workers that do not answer, other figures are still there.
    without_phase = "silent" if wanted and snapshot.get("sage_edge_connections_limit") else "starting"
    return Overview(
        at=unix_time,
        phase=phases[0] if phases else without_phase,
        checks={labels[0]: bool(number) for labels, number in snapshot.get("sage_edge_readiness_check", ())},
        mounts=_traffic(snapshot, 0),
        protocols=[replace(row, name=f"HTTP/{row.name}") for row in _traffic(snapshot, 1)],
        endings=dict(sorted(endings.items(), key=lambda item: -item[1])),
        faults={name: int(sum(_numbers(snapshot, family))) for name, family in FAULTS.items()},
        connections=int(sum(_numbers(snapshot, "sage_edge_connections_open"))),
        edge_lag_seconds=max(edge_lag) if edge_lag else None,
        gateway_lag_seconds=max(lag) if lag else None,
        longest_wait_seconds=(longest["head"], longest["first_event"]),
        waits_given_up=int(sum(_numbers(snapshot, "sage_edge_waits_given_up"))),
        waiting_for_client=int(sum(_numbers(snapshot, "sage_edge_answers_waiting_for_client"))),
        certificate_days=(min(expiry) - unix_time) / SECONDS_PER_DAY if expiry else None,
        workers=(int(sum(ready)), int(sum(wanted))) if wanted else None,
    )


def arrange_mounts(mounts: Sequence[Traffic], prefixes: Iterable[str]) -> Sequence[Traffic]:
    """Those at prefixes, nobody's requests yet among them, before the edge's own: they stay where they are."""
    by_name = {mount.name: mount for mount in mounts}
    own = sorted(by_name.keys() - set(prefixes))
    return [by_name.get(name) or Traffic(name) for name in [*sorted(prefixes), *own]]


def quantile(share: float, counts: Sequence[int]) -> float | None:
    """Estimate a quantile of a histogram of generations, as Prometheus does: evenly within a bucket.

    Returns:
        Seconds; the last bound for what lies beyond it; None where nothing was counted.
    """
    wanted = share * sum(counts)
    if not wanted:
        return None
    passed, lower = 0, 0.0
    for bound, count in zip(GENERATION_BOUNDS, counts, strict=False):
        if count and passed + count >= wanted:
            return lower + (bound - lower) * (wanted - passed) / count
        passed, lower = passed + count, bound
    return GENERATION_BOUNDS[-1]


def _difference(before: Sample, after: Sample) -> list[int]:
    return [max(0, late - early) for early, late in zip(before.first_events, after.first_events, strict=True)]


def _numbers(snapshot: Snapshot, name: str) -> list[float]:
    return [number for _, number in snapshot.get(name, ())]


def _is_failure(mount: str, status: str) -> bool:
    return status.startswith("5") and (mount, status) != (HEALTH_MOUNT, "503")


def _traffic(snapshot: Snapshot, position: int) -> list[Traffic]:
    """By the label at a position: 0 for the mount, 1 for the protocol."""
    by_name: dict[str, dict[str, int]] = {}

    def add(family: str, what: str, status_position: int = 0) -> None:
        for labels, number in snapshot.get(family, ()):
            if status_position and not _is_failure(labels[0], labels[status_position]):
                continue
            figures = by_name.setdefault(labels[position], {})
            figures[what] = figures.get(what, 0) + int(number)

    add("sage_edge_requests_in_flight", "in_flight")
    add("sage_edge_requests", "requests")
    add("sage_edge_requests", "failed", 3)
    add("sage_edge_events", "events")
    add("sage_edge_response_body_bytes", "sent_bytes")
    return [Traffic(name, **figures) for name, figures in sorted(by_name.items())]
