"""A worker as its supervisor sees it: when it is silent, and how long it may take to drain."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from sage_edge.server import worker_process
from sage_edge.server.shared_listeners import SharedListeners
from sage_edge.server.worker_link import TimeLimits
from sage_edge.server.worker_process import WorkerProcess

SAYING = """
import json, os, signal, socket, sys, time
link = json.loads(os.environ["_SAGE_EDGE_WORKER"])["link"]
link = socket.socket(fileno=link)
def say(**values):
    link.send(json.dumps(values).encode() + b"\\n")
"""
ALIVE = """
say(event="ready")
while True:
    say(event="alive")
    time.sleep(0.05)
"""
DRAINING_FOR_A_SECOND = """
say(event="alive")
say(event="ready")
link.recv(1000)
time.sleep(1)
"""
SHORT = TimeLimits(startup_seconds=60, last_call_seconds=0, drain_seconds=0.1)


OnEvent = Callable[[WorkerProcess, str, Mapping[str, Any]], None]


@asynccontextmanager
async def running(script: str, on_event: OnEvent = lambda *_: None) -> AsyncIterator[WorkerProcess]:
    """A worker that is ready."""
    listeners = SharedListeners([], [], count=1, is_port_shared=False)
    worker = WorkerProcess(1, [sys.executable, "-c", SAYING + script], listeners, SHORT, on_event)
    await worker.start()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(worker.run)
        with trio.fail_after(60):
            await worker.ready.wait()
            yield worker
        nursery.cancel_scope.cancel()


async def test_what_its_supervisor_is_held_up_for_is_no_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_process, "SILENCE_SECONDS", 2.0)
    monkeypatch.setattr(worker_process, "QUIET_SECONDS", 1.9)
    async with running(ALIVE) as worker:
        for _ in range(2):
            time.sleep(3)  # noqa: ASYNC251  # as a supervisor that is stopped
            await trio.sleep(0.3)
            assert not worker.ended.is_set()
            assert worker.is_ready


async def test_one_that_is_silent_is_not_ready_until_it_speaks_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_process, "QUIET_SECONDS", 1.0)
    events = {"silent": trio.Event(), "answering": trio.Event()}

    def note(_: WorkerProcess, event: str, __: Mapping[str, Any]) -> None:
        if event in events:
            events[event].set()

    async with running(ALIVE, note) as worker:
        assert worker.is_ready
        os.kill(worker.pid, signal.SIGSTOP)
        await events["silent"].wait()
        assert not worker.is_ready
        os.kill(worker.pid, signal.SIGCONT)
        await events["answering"].wait()
        assert worker.is_ready


async def test_one_that_is_silent_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_process, "SILENCE_SECONDS", 2.0)
    async with running(ALIVE) as worker:
        os.kill(worker.pid, signal.SIGSTOP)
        await worker.ended.wait()
        assert worker.exit_code == -signal.SIGKILL


async def test_one_that_does_not_drain_in_time_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_process, "END_SECONDS", 0.1)
    async with running(DRAINING_FOR_A_SECOND) as worker:
        worker.drain(is_replaced=False)
        await worker.wait_for_drain()
        assert worker.exit_code == -signal.SIGKILL


async def test_one_that_has_read_another_configuration_has_the_time_that_it_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(worker_process, "END_SECONDS", 0.1)
    limits = TimeLimits(startup_seconds=60, last_call_seconds=0, drain_seconds=30)
    async with running(f"say(event='started', limits={vars(limits)!r})\n" + DRAINING_FOR_A_SECOND) as worker:
        worker.drain(is_replaced=False)
        await worker.wait_for_drain()
        assert worker.exit_code == 0
