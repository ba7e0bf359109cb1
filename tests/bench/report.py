"""What a run leaves behind: text, Markdown, JSON, and the circumstances it was made in."""

from __future__ import annotations

import os
import platform
import ssl
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.bench import h2load
from tests.bench.rounds import Result
from tests.bench.servers import ROOT, Server
from tests.bench.table import STOCK, ratio

_EXPLANATION = f"""\
Every server runs the same application on one core, over TLS 1.3, with its own command line; the client has another
core. Servers take turns in every round; figures are medians of the rounds, and `spread` is how far these are apart.
`x {STOCK[0]}` is how many times better than stock Hypercorn's the first figure is. CPU is user and system time of all
processes of a server, memory the sum of their peaks; nginx and Caddy are measured with the uvicorn behind them.
Every answer is checked, its status and its bytes."""


def circumstances(servers: Sequence[Server], *, rounds: int, seconds: float) -> dict[str, str]:
    """When, where and with what."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": f"{_cpu()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}",
        "python": f"{platform.python_version()}, {ssl.OPENSSL_VERSION}",
        "commit": _commit(),
        "servers": ", ".join(f"{server.name} {server.version()}" for server in servers),
        "client": f"h2load {h2load.version()}; what it cannot do, and all without it: tests/bench/http2.py",
        "run": f"{rounds} rounds, about {seconds:g} s for each turn",
        "command": " ".join(["scripts/bench", *sys.argv[1:]]),
    }


def preface(header: Mapping[str, str]) -> str:
    """What stands before the tables."""
    facts = "\n".join(f"- {name}: {value}" for name, value in header.items())
    return f"# Benchmarks\n\n{_EXPLANATION}\n\n{facts}\n"


def as_json(header: Mapping[str, str], results: Sequence[Result]) -> dict[str, Any]:
    """Everything, with each round."""
    return {
        "header": dict(header),
        "loads": {
            result.load.name: {
                "what": result.load.what,
                "unit": result.load.unit,
                "figures": result.load.figures,
                "servers": {
                    row.server: {
                        "medians": {name: row.figure(name) for figures in row.rounds[:1] for name in figures},
                        "ratios": {stock: ratio(result, row, stock) for stock in STOCK},
                        "rounds": row.rounds,
                        "faults": dict(row.faults),
                    }
                    for row in result.rows
                },
            }
            for result in results
        },
    }


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty=, modified"]
    try:
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
