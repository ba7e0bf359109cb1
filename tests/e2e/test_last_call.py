"""When the edge ends while a worker hangs: who comes later is refused, and waits for nobody who accepts nothing."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx2
import pytest

from tests.e2e.test_worker_faults import is_refused
from tests.e2e.test_worker_leaving import gateway as gateway
from tests.e2e.test_worker_leaving import rest_of, running_workers, stream
from tests.e2e.test_workers import find_pids
from tests.kit.edge import WAIT_SECONDS, running_edge
from tests.kit.eventually import eventually

pytestmark = pytest.mark.usefixtures("unmeasured_workers")

REFUSED_SECONDS = 20.0
"""Less than what a worker that hangs lives for; far more than the others are waited for."""


def is_stopped(pid: int) -> bool:
    return "\nState:\tT" in Path(f"/proc/{pid}/status").read_text()


@contextmanager
def hanging(pid: int) -> Iterator[None]:
    """Have a worker hang until the block ends; nobody has killed it by then."""
    os.kill(pid, signal.SIGSTOP)
    try:
        assert eventually(lambda: is_stopped(pid))
        yield
        assert is_stopped(pid)
    finally:
        os.kill(pid, signal.SIGCONT)


def other_than(pid: int, pids: dict[int, int]) -> int:
    """The other one of two workers."""
    (other,) = set(pids.values()) - {pid}
    return other


def test_new_connections_are_refused_though_a_worker_hangs(gateway: Path) -> None:
    with running_workers(gateway, "--drain-seconds", "60") as edge, stream(edge) as (pid, curl):
        with hanging(other_than(pid, find_pids(edge))):
            edge.process.send_signal(signal.SIGTERM)
            edge.log.wait_for(r"draining .*order=drain")
            assert is_refused(edge, REFUSED_SECONDS)
            (gateway / "finish").touch()
            assert rest_of(curl) == ("finished", 0)
        assert edge.process.wait(WAIT_SECONDS) == 0
    assert "is killed" not in edge.log.text


def test_they_are_refused_though_all_workers_hang(gateway: Path) -> None:
    with running_edge("--gateway", "leaving:app", "--workers", "1", cwd=gateway) as edge:
        edge.log.wait_for(r"worker ready")
        with hanging(find_pids(edge)[1]):
            edge.process.send_signal(signal.SIGTERM)
            edge.log.wait_for(r"draining .*signal=SIGTERM")
            assert is_refused(edge, REFUSED_SECONDS)
        assert edge.process.wait(WAIT_SECONDS) == 0


def test_a_socket_that_others_go_on_with_is_theirs(gateway: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as passed:
        options = ("--gateway", "leaving:app", "--workers", "2", "--drain-seconds", "60")
        binds = ("--bind", f"fd://{passed.fileno()}", "--bind", "127.0.0.1:0")
        with running_edge(*options, cwd=gateway, binds=binds, pass_fds=[passed.fileno()]) as edge:
            edge.log.wait_for(r"worker ready", count=2)
            edge.port = int(edge.output.wait_for(r"listening +http://\S+:(\d+)", count=2)[1])
            with stream(edge) as (pid, curl), hanging(other_than(pid, find_pids(edge))):
                edge.process.send_signal(signal.SIGTERM)
                assert is_refused(edge, REFUSED_SECONDS)
                with socket.create_connection(passed.getsockname(), timeout=WAIT_SECONDS) as client:
                    sock, address = passed.accept()
                    sock.close()
                    assert address == client.getsockname()
                (gateway / "finish").touch()
                assert rest_of(curl) == ("finished", 0)
            assert edge.process.wait(WAIT_SECONDS) == 0


def test_the_plaintext_port_tells_of_health_until_the_last_worker_ends_that_does_not_hang(
    gateway: Path, certificates: Path
) -> None:
    options = ("--gateway", "leaving:app", "--workers", "2", "--drain-seconds", "60", "--redirect-http", "0")
    with ExitStack() as stack:
        edge = stack.enter_context(running_edge(*options, cwd=gateway, certificates=certificates))
        edge.log.wait_for(r"worker ready", count=2)
        port = int(edge.output.wait_for(r"^  redirect +http://127\.0\.0\.1:(\d+) ")[1])
        client = stack.enter_context(edge.client(http2=False))
        response = stack.enter_context(client.stream("GET", "/stream"))
        lines = response.iter_lines()
        with hanging(other_than(int(next(lines)), find_pids(edge))):
            edge.process.send_signal(signal.SIGTERM)
            assert is_refused(edge, REFUSED_SECONDS)
            for _ in range(3):
                health = httpx2.get(f"http://127.0.0.1:{port}/readyz", trust_env=False, timeout=WAIT_SECONDS)
                assert health.json()["status"] == "draining"
            (gateway / "finish").touch()
            assert list(lines) == ["finished"]
            edge.port = port
            assert is_refused(edge, REFUSED_SECONDS)
        assert edge.process.wait(WAIT_SECONDS) == 0
