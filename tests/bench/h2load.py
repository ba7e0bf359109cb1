"""Loads put on a server with nghttp2's h2load, where it is installed: it is cheaper than any client in Python."""

from __future__ import annotations

import re
import resource
import shutil
import subprocess
import tempfile

from tests.bench.client import LONGEST_SECONDS, Outcome
from tests.bench.http2 import Request

_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}


def is_present() -> bool:
    """It is installed."""
    return shutil.which("h2load") is not None


def version() -> str:
    """Its version."""
    if not is_present():
        return "absent"
    return (
        subprocess.run(["h2load", "--version"], capture_output=True, text=True, check=False)
        .stdout.split("/")[-1]
        .strip()
    )


def run(port: int, request: Request, *, connections: int, streams: int, total: int, http1: bool = False) -> Outcome:
    """Keep `streams` requests under way on each connection until `total` are over. HTTP/1.1 has one on each instead."""
    shape = ["-c", connections * streams, "-m", 1, "--h1"] if http1 else ["-c", connections, "-m", streams]
    command = ["h2load", "-n", total, *shape, "-w", 30, "-W", 30, f"--connect-to=127.0.0.1:{port}"]
    with tempfile.NamedTemporaryFile() as body:
        if request.body:
            body.write(request.body)
            body.flush()
            command += ["-d", body.name, "-H", "content-type: application/json"]
        command.append(f"https://localhost:{port}{request.path}")
        before = _children_cpu()
        try:
            ended = subprocess.run(
                list(map(str, command)), capture_output=True, text=True, timeout=LONGEST_SECONDS, check=False
            )
        except subprocess.TimeoutExpired:
            outcome = Outcome(seconds=LONGEST_SECONDS)
            outcome.faults[f"not over after {LONGEST_SECONDS:.0f} s"] = total
            return outcome
    outcome = _outcome(ended.stdout, total, len(request.answer))
    outcome.client_cpu = _children_cpu() - before
    return outcome


def _outcome(report: str, total: int, answer: int) -> Outcome:
    """What its report says: a request counts if it was answered with 2xx, and if all bodies' bytes are there."""
    finished = re.search(r"finished in ([\d.]+)(us|ms|s|m)\b", report)
    good = re.search(r"status codes: (\d+) 2xx", report)
    counts = re.search(r"(\d+) succeeded, (\d+) failed", report)  # errors and time-outs are among the failed
    data = re.search(r"\((\d+)\) data", report)
    if not (finished and good and counts and data):
        raise ConnectionError(f"h2load: {' '.join(report.split())[-200:] or 'no report'}")
    outcome = Outcome(right=int(good[1]), seconds=float(finished[1]) * _UNITS[finished[2]])
    succeeded, failed = map(int, counts.groups())
    if succeeded - outcome.right:
        outcome.faults["status not 2xx"] = succeeded - outcome.right
    if failed:
        outcome.faults["failed"] = failed
    if total - succeeded - failed:
        outcome.faults["not answered"] = total - succeeded - failed
    if int(data[1]) != outcome.right * answer:
        outcome.faults[f"{data[1]} bytes in all bodies for {outcome.right * answer}"] = 1
        outcome.right = min(outcome.right, int(data[1]) // answer)
    return outcome


def _children_cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
