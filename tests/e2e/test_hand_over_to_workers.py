"""A shared port that is handed over to an edge with workers: all of them get connections, however the old one ends."""

from __future__ import annotations

import re
import signal
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.kit.edge import WAIT_SECONDS, Edge, running_edge
from tests.kit.eventually import eventually

pytestmark = pytest.mark.usefixtures("unmeasured_workers")

GATEWAY = """
import os

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"%d" % os.getpid()})
"""
ASKS = 400
LEAST = 150
"""Of so many, each of two gets fewer than this in one case of 2 million."""


@contextmanager
def handing_over(directory: Path) -> Iterator[tuple[Edge, Edge]]:
    """An old edge that hands its port over for as long as it is left to, and a new one with two workers."""
    (directory / "shared.py").write_text(GATEWAY)
    with socket.socket() as reserved:
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        reserved.bind(("127.0.0.1", 0))
        binds = ("--bind", f"127.0.0.1:{reserved.getsockname()[1]}", "--reuse-port")
        common = ("--gateway", "shared:app", "--no-access-log")
        with (
            running_edge(*common, "--drain-delay-seconds", "600", cwd=directory, binds=binds) as old,
            running_edge(*common, "--workers", "2", cwd=directory, binds=binds) as new,
        ):
            new.log.wait_for(r"worker ready", count=2)
            assert old.process.pid in ask(new.port)
            old.process.send_signal(signal.SIGTERM)
            assert eventually(lambda: old.process.pid not in ask(new.port), WAIT_SECONDS)
            yield old, new
            assert new.stop() == 0


def ask(port: int) -> Counter[int]:
    """Which processes answer on new connections, and how many of them each."""
    answers: Counter[int] = Counter()
    for _ in range(ASKS):
        with socket.create_connection(("127.0.0.1", port), timeout=30) as sock:
            sock.sendall(b"GET / HTTP/1.0\r\nhost: localhost\r\n\r\n")
            answers[int(b"".join(iter(lambda sock=sock: sock.recv(65_536), b"")).split()[-1])] += 1
    return answers


def is_spread_over_workers(edge: Edge) -> bool:
    """Whether an edge's two workers, and nobody else, share new connections."""
    workers = {int(pid) for pid in re.findall(r"worker ready .*pid=(\d+)", edge.log.text)}
    answers = ask(edge.port)
    return answers.keys() == workers and min(answers.values()) >= LEAST


def test_while_the_old_one_hands_over(tmp_path: Path) -> None:
    with handing_over(tmp_path) as (old, new):
        assert is_spread_over_workers(new)
        assert old.end_at_once() == 0


def test_once_a_second_signal_has_ended_the_old_one_meanwhile(tmp_path: Path) -> None:
    with handing_over(tmp_path) as (old, new):
        assert old.end_at_once() == 0
        assert is_spread_over_workers(new)


def test_a_while_after_the_old_one_was_killed_meanwhile(tmp_path: Path) -> None:
    with handing_over(tmp_path) as (old, new):
        old.process.kill()
        assert eventually(lambda: is_spread_over_workers(new), WAIT_SECONDS)
