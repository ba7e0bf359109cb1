"""The run: every load on every server, in turn, round after round."""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from sage_edge.server.development_certificates import create_development_certificates
from tests.bench.kinds import Load, quantile
from tests.bench.processes import cores, machine_seconds, on_core
from tests.bench.servers import Running, Server

_SETTLE_SECONDS = 0.1
_FAULTS = (OSError, RuntimeError)

Say = Callable[[str], None]


@dataclass
class Row:
    """What one server did under one load: the figures of each round, and what went wrong."""

    server: str
    rounds: list[dict[str, float]] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)

    def figure(self, name: str) -> float | None:
        """The median over the rounds."""
        values = [figures[name] for figures in self.rounds if name in figures]
        return median(values) if values else None

    def spread(self, name: str) -> float | None:
        """How far the rounds are apart, as a share of the median."""
        values = [figures[name] for figures in self.rounds if name in figures]
        middle = median(values) if values else 0.0
        return (max(values) - min(values)) / middle if middle else None


@dataclass
class Result:
    """All rows of one load."""

    load: Load
    rows: list[Row] = field(default_factory=list)


def compare(
    loads: Sequence[Load], servers: Sequence[Server], *, rounds: int, seconds: float, say: Say
) -> Iterator[Result]:
    """Run it all, load by load. Each has servers of its own, which take turns; each round begins with another one."""
    server_core, client_core = cores()
    with tempfile.TemporaryDirectory(prefix="sage-edge-bench-") as folder, on_core(client_core):
        certificates = Path(folder, "certificates")
        create_development_certificates(certificates, now=datetime.now(UTC))
        for load in loads:
            contenders = [
                Contender(load, server, Path(folder), certificates, server_core, seconds)
                for server in servers
                if server.is_present and load.suits(http1=server.http1)
            ]
            try:
                for number in range(rounds):
                    say(f"{load.name}: round {number + 1} of {rounds}")
                    for place in range(len(contenders)):
                        contenders[(number + place) % len(contenders)].measure()
            finally:
                for contender in contenders:
                    contender.end()
            yield Result(load, [contender.row for contender in contenders])


class Contender:
    """One server under one load. It is started when its first turn comes, and again if it has ended."""

    def __init__(self, load: Load, server: Server, folder: Path, certificates: Path, core: int, seconds: float) -> None:
        self.row = Row(server.name)
        self._load, self._server, self._seconds = load, server, seconds
        self._folder, self._certificates, self._core = folder, certificates, core
        self._running: Running | None = None
        self._amount = 0

    def measure(self) -> None:
        """One round."""
        try:
            if self._load.is_fresh:
                self.end()
            server = self._running or self._start()
            self._round(server)
            if not server.group.is_running:
                raise RuntimeError(f"ended: {server.last_words()}")
        except _FAULTS as fault:
            self.row.faults[f"{fault}"] += 1
            self.end()

    def end(self) -> None:
        """End the server."""
        if self._running:
            self._running.group.end()
            self._running = None

    def _start(self) -> Running:
        folder = Path(tempfile.mkdtemp(dir=self._folder, prefix=f"{self._server.name}-"))
        self._running = Running(self._server, folder, self._certificates, self._core)
        self._running.wait()
        self._amount = self._load.prepare(self._running, self._seconds)
        return self._running

    def _round(self, server: Running) -> None:
        time.sleep(_SETTLE_SECONDS)
        began, machine, cpu = time.perf_counter(), machine_seconds(), server.group.cpu_seconds()
        outcome = self._load.run(server, self._amount)
        cpu, machine = server.group.cpu_seconds() - cpu, machine_seconds() - machine
        wall = time.perf_counter() - began
        self.row.faults.update(outcome.faults)
        count = outcome.right * self._load.weight
        if not count:
            return
        figures = {
            "rate": count / outcome.seconds,
            "cpu": cpu / count * 10_000,
            "memory": server.group.peak_memory() / 1e6,
            "server_busy": cpu / outcome.seconds,
            "client_busy": outcome.client_cpu / outcome.seconds,
            "others_busy": max(0.0, machine - cpu - outcome.client_cpu) / wall,
            **outcome.values,
        }
        for name, times in (("first", outcome.firsts), ("late", outcome.lates), ("jitter", outcome.jitters)):
            if times:
                figures[f"{name}_p50"] = quantile(times, 0.5) * 1000
                figures[f"{name}_p99"] = quantile(times, 0.99) * 1000
        self.row.rounds.append(figures)
