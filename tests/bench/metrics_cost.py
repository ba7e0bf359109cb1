"""What metrics cost a request: `python -m tests.bench.metrics_cost --loop asyncio`. Needs h2load and two cores.

Two servers beside each other differ by more than what is looked for. So one server serves in turns of a tenth of a
second with and without the layer, and each pair of turns is one difference.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from sage_edge.app.asgi import ASGIApplication, Receive, Scope, Send
from sage_edge.app.dispatch import GuardedDispatcher
from sage_edge.app.stack import build_stack
from sage_edge.app.tracing import Tracer
from sage_edge.cli import main as run_program
from sage_edge.core.metric_families import Metrics
from sage_edge.core.settings import Settings
from sage_edge.server import run
from sage_edge.server.development_certificates import create_development_certificates

TURN_SECONDS = 0.1
BETWEEN_SECONDS = 0.01
START_SECONDS = 6.0
"""Until the server is up and warm."""
FEWEST_REQUESTS = 100
"""Of a turn that counts."""
TRIMMED = 0.1
"""The share of differences that is left out at either end: somebody else had the core."""


@dataclass
class Turns:
    """With and without metrics: whose turn it is, and the microseconds of processor that a request took in each."""

    is_measured: bool = False
    requests: int = 0
    taken: list[tuple[bool, float]] = field(default_factory=list)

    def build(
        self, dispatcher: GuardedDispatcher, settings: Settings, metrics: Metrics | None, tracer: Tracer | None = None
    ) -> ASGIApplication:
        """In place of the edge's stack, both: with and without."""
        measured = build_stack(dispatcher, settings, metrics, tracer)
        unmeasured = build_stack(dispatcher, settings, None, tracer)

        def application(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
            self.requests += 1
            chosen = measured if self.is_measured or scope["type"] == "lifespan" else unmeasured
            return chosen(scope, receive, send)

        return application

    def take(self, seconds: float) -> None:
        """Take turns for so long, and end the process as its user would."""
        time.sleep(START_SECONDS)
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            requests, began_at = self.requests, time.process_time()
            time.sleep(TURN_SECONDS)
            used_seconds, served = time.process_time() - began_at, self.requests - requests
            if served >= FEWEST_REQUESTS:
                self.taken.append((self.is_measured, used_seconds / served * 1e6))
            self.is_measured = not self.is_measured
            time.sleep(BETWEEN_SECONDS)
        os.kill(os.getpid(), signal.SIGTERM)


def describe(taken: Sequence[tuple[bool, float]]) -> str:
    """The mean of the differences, in microseconds and as a share, with their standard error."""
    pairs = [sorted(pair) for pair in zip(taken[::2], taken[1::2], strict=False) if pair[0][0] != pair[1][0]]
    without = statistics.median(first for (_, first), _ in pairs)
    differences = sorted(second - first for (_, first), (_, second) in pairs)
    left_out = int(TRIMMED * len(differences))
    kept = differences[left_out : len(differences) - left_out]
    mean, error = statistics.mean(kept), statistics.stdev(kept) / len(kept) ** 0.5
    return (
        f"{mean:.2f} microseconds of {without:.1f}: {mean / without:.2%}"
        f" (standard error {error / without:.2%}, {len(differences)} pairs of turns)"
    )


def serve(options: argparse.Namespace) -> None:
    """Be the server."""
    turns = Turns()
    run.build_stack = turns.build  # type: ignore[attr-defined]
    threading.Thread(target=turns.take, args=(options.seconds,), daemon=True).start()
    gateway = ("--gateway", f"tests.bench.applications:{options.loop}_app", "--gateway-loop", options.loop)
    pair = ("--certfile", f"{options.serve}/cert.pem", "--keyfile", f"{options.serve}/key.pem")
    binds = ("--bind", f"fd://{options.descriptor}", "--metrics-bind", "127.0.0.1:0", "--admin-bind", "127.0.0.1:0")
    sys.argv = ["sage-edge", "serve", *gateway, *pair, *binds, "--no-access-log", "--log-level", "warning"]
    try:
        run_program()
    finally:
        sys.stdout.write(f"{describe(turns.taken)}\n")


def main() -> None:
    """Measure, or be the server that is measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--loop", choices=["asyncio", "trio"], default="asyncio", help="of the gateway")
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--descriptor", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options)
        return
    load = shutil.which("h2load")
    if load is None or len(os.sched_getaffinity(0)) < 2:
        parser.error("it needs h2load (Debian: nghttp2-client) and two cores")
    cores = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        create_development_certificates(Path(folder), now=datetime.now(UTC))
        inner = [*sys.argv[1:], "--serve", folder, "--descriptor", str(listener.fileno())]
        os.sched_setaffinity(0, cores[:1])
        server = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.metrics_cost", *inner], pass_fds=[listener.fileno()]
        )
        os.sched_setaffinity(0, cores[1:2])
        time.sleep(START_SECONDS / 2)
        address = f"https://127.0.0.1:{listener.getsockname()[1]}/json"
        lasts = str(int(options.seconds + START_SECONDS))
        subprocess.run([load, "-c10", "-m10", "-D", lasts, address], stdout=subprocess.DEVNULL, check=True)
        sys.exit(server.wait(60))


if __name__ == "__main__":
    main()
