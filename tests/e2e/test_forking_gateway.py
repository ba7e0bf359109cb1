"""A gateway that forks, as multiprocessing does: its children have nothing of the edge, however long they live."""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.kit.edge import WAIT_SECONDS, Edge, running_edge
from tests.kit.eventually import eventually

GATEWAY = r"""
import asyncio, multiprocessing, os, pathlib, signal, time

def sleep(begun):
    begun.set()
    time.sleep(60)

def end_child():
    fork = multiprocessing.get_context("fork")
    begun = fork.Event()
    child = fork.Process(target=sleep, args=[begun])
    child.start()
    begun.wait()
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        os.kill(child.pid, number)
    child.terminate()
    child.join()
    return child.exitcode

def leave_child():
    child = os.fork()
    if child == 0:
        time.sleep(60)
        os._exit(0)
    return child

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        while not pathlib.Path("finish").exists():
            await asyncio.sleep(0.01)
        await send({"type": "lifespan.shutdown.complete"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    if scope["path"] == "/end":
        await send({"type": "http.response.body", "body": b"%d" % end_child()})
        return
    await send({"type": "http.response.body", "body": b"child %d\n" % leave_child(), "more_body": True})
    await asyncio.sleep(60)
"""


@contextmanager
def running_forking(directory: Path, *options: str, **popen: Any) -> Iterator[tuple[Edge, list[int]]]:
    """An edge, and the pids of children that end with the block."""
    (directory / "forking.py").write_text(GATEWAY)
    children: list[int] = []
    with running_edge("--gateway", "forking:app", *options, cwd=directory, **popen) as edge:
        try:
            yield edge, children
        finally:
            (directory / "finish").touch()
            for pid in children:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def adopt_orphans() -> None:
    """Have orphaned descendants become this process's children, as a container's first process does."""
    set_child_subreaper = 36
    assert ctypes.CDLL(None).prctl(set_child_subreaper, 1) == 0


def is_refused(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == errno.ECONNREFUSED


@pytest.mark.parametrize("workers", [(), ("--workers", "1")])
def test_the_edges_end_is_its_sockets_end_while_a_child_lives_on(tmp_path: Path, workers: tuple[str, ...]) -> None:
    with (
        running_forking(tmp_path, "--drain-seconds", "1", *workers) as (edge, children),
        socket.create_connection(("127.0.0.1", edge.port), timeout=30) as client,
        client.makefile("rb") as answer,
    ):
        client.sendall(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
        child = next(int(line.split()[1]) for line in answer if line.startswith(b"child"))
        children.append(child)
        edge.process.send_signal(signal.SIGTERM)
        edge.log.wait_for(r"streams cut")
        answer.read()  # to its end, while the gateway still has its own
        assert eventually(lambda: is_refused(edge.port))
        os.kill(child, 0)
        (tmp_path / "finish").touch()
        assert edge.process.wait(WAIT_SECONDS) == 0


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_a_child_ends_when_it_is_told_to_and_not_by_what_the_edge_is_told(tmp_path: Path, loop: str) -> None:
    with running_forking(tmp_path, "--gateway-loop", loop) as (edge, _), edge.client() as client:
        assert client.get("/end").text == str(-signal.SIGTERM)
        assert client.get("/healthz").status_code == 200


def test_a_supervisor_that_is_the_first_process_leaves_no_defunct_children_of_a_worker(tmp_path: Path) -> None:
    with running_forking(tmp_path, "--workers", "1", preexec_fn=adopt_orphans) as (edge, children):
        with edge.client() as client, client.stream("GET", "/") as response:
            children.append(int(next(response.iter_text()).split()[1]))
            worker = edge.log.wait_for(r"worker ready.* pid=(\d+)")[1]
            os.kill(int(worker), signal.SIGKILL)
            assert eventually(lambda: not Path(f"/proc/{children[0]}").exists())
        edge.log.wait_for("worker ready", count=2)
        assert edge.stop() == 0


def hold(pid: int) -> None:
    """Trace a process: once it is killed, it stays until this process has waited for it."""
    seize = 0x4206
    pointer = ctypes.c_void_p
    ptrace = ctypes.CDLL(None, use_errno=True).ptrace
    ptrace.argtypes, ptrace.restype = [ctypes.c_long, ctypes.c_long, pointer, pointer], ctypes.c_long
    if ptrace(seize, pid, None, None) != 0:
        pytest.skip(f"no process may be traced here: {os.strerror(ctypes.get_errno())}")


def test_a_killed_child_of_a_worker_that_does_not_end_holds_nothing_up(tmp_path: Path) -> None:
    with running_forking(tmp_path, "--workers", "1", preexec_fn=adopt_orphans) as (edge, children):
        with edge.client() as client, client.stream("GET", "/") as response:
            children.append(int(next(response.iter_text()).split()[1]))
            hold(children[0])
            worker = edge.log.wait_for(r"worker ready.* pid=(\d+)")[1]
            os.kill(int(worker), signal.SIGKILL)
        edge.log.wait_for("worker ended")
        edge.log.wait_for("worker ready", count=2)
        (tmp_path / "finish").touch()
        assert edge.stop() == 0
        assert os.waitpid(children[0], 0)[1] == signal.SIGKILL
