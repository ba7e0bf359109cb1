"""Workers that leave, or are not there yet: nobody waits for them, and none answers before it can."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.e2e.test_workers import find_pids
from tests.kit.edge import WAIT_SECONDS, Edge, running_edge
from tests.kit.eventually import eventually

pytestmark = pytest.mark.usefixtures("unmeasured_workers")

GATEWAY = r"""
import asyncio, os, pathlib

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        pathlib.Path(f"starting-{os.getpid()}").touch()
        while pathlib.Path("slow").exists():
            await asyncio.sleep(0.01)
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"%d\n" % os.getpid(), "more_body": True})
    while scope["path"] == "/stream" and not pathlib.Path("finish").exists():
        await asyncio.sleep(0.01)
    await send({"type": "http.response.body", "body": b"finished"})
"""
ASKS = 16


@pytest.fixture
def gateway(tmp_path: Path) -> Path:
    """A directory with a gateway whose streams end once `finish` is beside it, and which starts once `slow` is not."""
    (tmp_path / "leaving.py").write_text(GATEWAY)
    return tmp_path


@contextmanager
def running_workers(gateway: Path, *options: str) -> Iterator[Edge]:
    """An edge with two workers, once both are ready."""
    arguments = ("--gateway", "leaving:app", "--workers", "2", "--no-access-log", *options)
    with running_edge(*arguments, cwd=gateway) as edge:
        edge.log.wait_for(r"worker ready", count=2)
        yield edge


@contextmanager
def stream(edge: Edge) -> Iterator[tuple[int, subprocess.Popen[str]]]:
    """A stream in flight, and which process it comes from."""
    command = ["curl", "--silent", "--show-error", "--no-buffer", edge.url + "/stream"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as curl:
        assert curl.stdout is not None
        yield int(curl.stdout.readline()), curl


def rest_of(curl: subprocess.Popen[str]) -> tuple[str, int]:
    """What still comes, and how it ends."""
    assert curl.stdout is not None
    return curl.stdout.read(), curl.wait(WAIT_SECONDS)


def ask(edge: Edge) -> int:
    """Which process answers on a new connection."""
    command = ["curl", "--silent", "--show-error", "--fail", "--max-time", "20", edge.url]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[0])


def test_nobody_waits_for_a_worker_that_somebody_else_has_told_to_end(gateway: Path) -> None:
    with running_workers(gateway) as edge:
        with stream(edge) as (pid, curl):
            os.kill(pid, signal.SIGTERM)
            edge.log.wait_for(rf"worker is to be replaced .*pid={pid} reason='it was told to end'")
            assert pid not in {ask(edge) for _ in range(ASKS)}
            edge.log.wait_for(r"worker ready", count=3)
            assert {ask(edge) for _ in range(2 * ASKS)} == set(find_pids(edge).values())
            (gateway / "finish").touch()
            assert rest_of(curl) == ("finished", 0)
        assert eventually(lambda: not Path(f"/proc/{pid}").exists())
        assert edge.stop() == 0
    assert "[error]" not in edge.log.text


def test_a_signal_to_the_whole_group_is_no_second_one(gateway: Path) -> None:
    with running_workers(gateway) as edge, stream(edge) as (pid, curl):
        edge.process.send_signal(signal.SIGTERM)
        edge.log.wait_for(r"draining .*order=drain", count=2)
        os.kill(pid, signal.SIGTERM)
        edge.log.wait_for(r"draining .*signal=SIGTERM", count=2)
        (gateway / "finish").touch()
        assert rest_of(curl) == ("finished", 0)
        assert edge.process.wait(WAIT_SECONDS) == 0


def test_workers_that_start_do_not_answer_for_one_another(gateway: Path) -> None:
    with running_workers(gateway) as edge:
        (gateway / "slow").touch()
        # One after the other: the first one's successor is told of the second's end.
        for count, pid in enumerate(find_pids(edge).values(), 3):
            os.kill(pid, signal.SIGKILL)
            assert eventually(lambda count=count: len(list(gateway.glob("starting-*"))) == count, 30)
        clients = [socket.create_connection(("127.0.0.1", edge.port), timeout=0.2) for _ in range(8)]
        for client in clients:
            client.sendall(b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        for client in clients:
            with pytest.raises(TimeoutError):
                client.recv(1)
        (gateway / "slow").unlink()
        for client in clients:
            with client:
                client.settimeout(WAIT_SECONDS)
                assert re.match(rb"HTTP/1.1 200 ", client.recv(100))
        assert edge.stop() == 0


def ask_readiness(client: http.client.HTTPConnection) -> tuple[int, str, int, str | None]:
    """Status code and status, which worker says so, and what is to become of the connection."""
    client.request("GET", "/readyz")
    response = client.getresponse()
    body = json.load(response)
    return response.status, body["status"], body["checks"]["workers"]["worker"], response.headers.get("connection")


def test_a_balancer_that_keeps_its_connection_sees_a_ready_edge_over_a_restart(gateway: Path) -> None:
    with running_workers(gateway) as edge, ExitStack() as stack:
        kept: dict[int, http.client.HTTPConnection] = {}
        while len(kept) < 2:
            client = http.client.HTTPConnection("127.0.0.1", edge.port, timeout=WAIT_SECONDS)
            stack.callback(client.close)
            kept[ask_readiness(client)[2]] = client
        edge.process.send_signal(signal.SIGUSR2)
        edge.log.wait_for("draining .*order='leave to another'", count=2)
        for worker, client in kept.items():
            assert ask_readiness(client) == (200, "ready", worker, "close")
        assert edge.stop() == 0


def count_descriptors(edge: Edge) -> int:
    """Of the supervisor, which has one for each worker."""
    return len(list(Path(f"/proc/{edge.process.pid}/fd").iterdir()))


def test_one_that_hangs_when_its_time_to_be_replaced_comes_is_replaced_when_it_answers_again(gateway: Path) -> None:
    options = ("--gateway", "leaving:app", "--workers", "1", "--max-requests", "10", "--drain-seconds", "300")
    with running_edge(*options, cwd=gateway) as edge:
        with stream(edge) as (leaving, curl):
            served = {ask(edge) for _ in range(12)}
            edge.log.wait_for(rf"worker is replaced .*pid={leaving} ")
            (hung,) = {*served, *(ask(edge) for _ in range(12))} - {leaving}
            with_both = count_descriptors(edge)
            os.kill(hung, signal.SIGSTOP)
            edge.log.wait_for(rf"worker is silent.* pid={hung}")
            (gateway / "finish").touch()
            assert rest_of(curl) == ("finished", 0)
        assert eventually(lambda: count_descriptors(edge) < with_both, WAIT_SECONDS)
        os.kill(hung, signal.SIGCONT)
        edge.log.wait_for(rf"worker is to be replaced .*pid={hung} reason='it has served its number of requests'")
        edge.log.wait_for(r"worker ready", count=3)
        assert edge.stop() == 0
