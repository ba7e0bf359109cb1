"""Workers that are killed, have too much memory, or have nothing left: what the others and their clients see."""

from __future__ import annotations

import os
import re
import resource
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import httpx2
import pytest

from tests.e2e.faults.gateway import numbers
from tests.e2e.observe.support import Figures, metrics_url
from tests.kit.edge import WAIT_SECONDS, Edge, running_edge
from tests.kit.eventually import eventually

pytestmark = pytest.mark.usefixtures("unmeasured_workers")

GATEWAY = ("--gateway", "tests.e2e.faults.gateway:app", "--metrics-bind", "127.0.0.1:0")
COUNT = 200
"""Of a stream that lasts some four seconds."""
NOTICED_SECONDS = 2.0
"""Until another is started in the place of a worker that has died: some 0.1 where all is idle, 0.5 where nothing is."""
START_SECONDS = 3.0
"""Twice what a worker with this gateway takes to start, where it need not wait for a processor."""


@contextmanager
def running_workers(*options: str) -> Iterator[Edge]:
    with running_edge(*GATEWAY, "--workers", "2", *options) as edge:
        edge.log.wait_for(r"worker ready", count=2)
        yield edge


def find_pid(edge: Edge, number: int) -> int:
    """Of the worker that was the last to start in a place."""
    return int(re.findall(rf"worker ready .*worker={number} pid=(\d+)", edge.log.text)[-1])


def read_stream(edge: Edge, has_begun: threading.Event, http2: bool) -> tuple[int, bytes, bool]:
    """A stream over a connection of its own: the worker it came from, what was read, and whether it was cut."""
    body, pid = b"", 0
    try:
        with edge.client(http2=http2) as client, client.stream("GET", f"/count/{COUNT}") as response:
            pid = int(response.headers["x-pid"])
            for chunk in response.iter_raw():
                body += chunk
                has_begun.set()
    except httpx2.TransportError:
        return pid, body, True
    return pid, body, False


def logged_at(edge: Edge, what: str, pid: int) -> datetime:
    """When something was said of a worker."""
    return datetime.fromisoformat(edge.log.wait_for(rf"^(\S+) .*worker {what} .*pid={pid}\b")[1])


def seconds_waited_for_processor(pid: int) -> float:
    """How long a process's threads could have run, and others had the processors."""
    return sum(int(path.read_text().split()[1]) for path in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9


def test_a_killed_worker_cuts_its_own_streams_visibly_and_no_other_and_is_replaced_at_once() -> None:
    with running_workers() as edge, ThreadPoolExecutor(12) as threads, edge.client() as unused:
        begun = [threading.Event() for _ in range(12)]
        streams = [threads.submit(read_stream, edge, event, bool(n % 2)) for n, event in enumerate(begun)]
        assert all(event.wait(WAIT_SECONDS) for event in begun)
        victim = find_pid(edge, 1)
        killed_at = datetime.now(UTC)
        os.kill(victim, signal.SIGKILL)
        edge.log.wait_for(rf"worker ended .*worker=1 pid={victim} reason='signal SIGKILL'")
        statuses = []
        while find_pid(edge, 1) == victim:
            with edge.client() as client:  # of its own: the other worker's
                statuses.append(client.get("/readyz").status_code)
        new = find_pid(edge, 1)
        others_seconds = seconds_waited_for_processor(new)  # what a busy machine adds to a start
        started_at, ready_at = logged_at(edge, "started", new), logged_at(edge, "ready", new)
        assert (started_at - killed_at).total_seconds() < NOTICED_SECONDS
        assert (ready_at - started_at).total_seconds() - others_seconds < START_SECONDS
        assert set(statuses) <= {200}
        seen = [stream.result() for stream in streams]
        cut = [(body, is_cut) for pid, body, is_cut in seen if pid == victim]
        whole = [(body, is_cut) for pid, body, is_cut in seen if pid != victim]
        assert len(cut) > 0
        assert len(whole) > 0
        assert all(is_cut and numbers(COUNT).startswith(body) for body, is_cut in cut)
        assert whole == [(numbers(COUNT), False)] * len(whole)
        assert not unused.is_closed
        url = metrics_url(edge)
        assert eventually(lambda: Figures(url).sum("phase", phase="ready") == 2, WAIT_SECONDS)
        assert edge.stop() == 0


def test_a_worker_that_is_recycled_for_its_memory_finishes_its_stream() -> None:
    count = 400  # lasts eight seconds; memory is looked at every five
    with running_edge(*GATEWAY, "--workers", "1", "--max-memory-bytes", "200000000") as edge:
        with edge.client(http2=False) as client, client.stream("GET", f"/count/{count}") as response:
            with edge.client(http2=False) as other:
                assert other.get("/eat").headers["x-pid"] == response.headers["x-pid"]
            body = b"".join(response.iter_raw())
        assert body == numbers(count)
        assert re.search(rf"worker is to be replaced .*pid={response.headers['x-pid']} .*MB of memory", edge.log.text)
        assert edge.stop() == 0


def seconds_of_processor(pid: int) -> float:
    """What a process has used of the processors."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_workers_without_descriptors_neither_spin_nor_end_and_serve_again_when_there_are_some() -> None:
    with running_workers() as edge, ExitStack() as stack:
        pids = [find_pid(edge, number) for number in (1, 2)]
        before = {pid: resource.prlimit(pid, resource.RLIMIT_NOFILE) for pid in pids}
        for pid in pids:
            used = len(list(Path(f"/proc/{pid}/fd").iterdir()))
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (used, before[pid][1]))
        clients = [stack.enter_context(edge.client(http2=False)) for _ in range(8)]
        with ThreadPoolExecutor(8) as threads:
            answers = [threads.submit(client.get, "/count/3") for client in clients]
            edge.log.wait_for(r"cannot accept connections .*reason='Too many open files'")
            started, used_before = time.monotonic(), sum(map(seconds_of_processor, pids))
            time.sleep(1.5)
            used_share = (sum(map(seconds_of_processor, pids)) - used_before) / (time.monotonic() - started)
            assert used_share < 0.5  # of one processor, two workers together
            for pid in pids:
                resource.prlimit(pid, resource.RLIMIT_NOFILE, before[pid])
            assert [answer.result().content for answer in answers] == [numbers(3)] * 8
        assert pids == [find_pid(edge, number) for number in (1, 2)]
        assert edge.stop() == 0


def test_a_supervisor_without_descriptors_goes_on_and_starts_workers_when_there_are_some() -> None:
    with running_workers() as edge:
        supervisor = edge.process.pid
        before = resource.prlimit(supervisor, resource.RLIMIT_NOFILE)
        used = len(list(Path(f"/proc/{supervisor}/fd").iterdir()))
        resource.prlimit(supervisor, resource.RLIMIT_NOFILE, (used, before[1]))
        os.kill(find_pid(edge, 1), signal.SIGKILL)
        edge.log.wait_for(r"worker cannot be started .*[Tt]oo many open files")
        with edge.client() as client:
            assert client.get("/count/3").content == numbers(3)
        resource.prlimit(supervisor, resource.RLIMIT_NOFILE, before)
        edge.log.wait_for(r"worker ready", count=3)
        assert edge.stop() == 0
