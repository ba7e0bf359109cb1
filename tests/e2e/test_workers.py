"""Several workers under a supervisor: balance, deaths, restarts, recycling, and the end."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.kit.edge import WAIT_SECONDS, Edge, run_edge, running_edge
from tests.kit.eventually import eventually

GATEWAY = """
import asyncio, os, pathlib, sys, time

while pathlib.Path("held").exists():
    time.sleep(0.01)

if pathlib.Path("broken").exists():
    raise RuntimeError("broken on purpose")

grown = []

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"].endswith("shutdown"):
                return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    if scope["path"] == "/grow":
        grown.append(b"x" * 2**28)
    if scope["path"] == "/stream":
        for number in range(100):
            await send({"type": "http.response.body", "body": b"%d\\n" % number, "more_body": True})
            await asyncio.sleep(0.02)
    await send({"type": "http.response.body", "body": b"%d" % os.getpid()})
"""
STREAM = b"".join(b"%d\n" % number for number in range(100))
RESTARTS = 5


@pytest.fixture
def gateway(tmp_path: Path) -> Path:
    """A directory with a gateway that says which process it is in: slow to start beside `held`, failing by `broken`."""
    (tmp_path / "worked.py").write_text(GATEWAY)
    return tmp_path


@contextmanager
def running_workers(gateway: Path, *options: str, workers: int = 2, certificates: Path | None = None) -> Iterator[Edge]:
    """An edge with workers, once all of them are ready."""
    arguments = ("--gateway", "worked:app", "--workers", str(workers), "--no-access-log", *options)
    with running_edge(*arguments, cwd=gateway, certificates=certificates) as edge:
        edge.log.wait_for(r"worker ready", count=workers)
        yield edge


def find_pids(edge: Edge) -> dict[int, int]:
    """The process of each worker that was the last to start in its place."""
    return {
        int(number): int(pid) for number, pid in re.findall(r"worker ready .*worker=(\d+) pid=(\d+)", edge.log.text)
    }


def ask(edge: Edge, path: str = "/", *, http2: bool = True) -> bytes:
    """An answer over a connection of its own, by curl: it reads on when it is told that the connection will end."""
    versions = ["--http2"] if edge.ca else ["--http2-prior-knowledge"]
    trust = ["--cacert", str(edge.ca)] if edge.ca else []
    command = ["curl", "--silent", "--show-error", "--fail", *trust, *(versions if http2 else ["--http1.1"])]
    return subprocess.run([*command, edge.url + path], check=True, capture_output=True, timeout=60).stdout


class Load:
    """Requests one after the other, on connections of their own, and streams: on threads, until it is ended."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge
        self._is_over = threading.Event()
        self.answers: Counter[bytes] = Counter()
        self.streams: list[bytes] = []
        self.failures: list[str] = []

    @contextmanager
    def running(self) -> Iterator[Load]:
        """The load, until the block ends."""
        jobs = [(self._ask, True), (self._ask, False), (self._stream, True), (self._stream, False)]
        threads = [threading.Thread(target=self._repeat, args=job) for job in jobs]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            self._is_over.set()
            for thread in threads:
                thread.join()

    def _repeat(self, job: object, http2: bool) -> None:
        while not self._is_over.is_set():
            try:
                job(http2)  # type: ignore[operator]
            except Exception as error:
                self.failures.append(f"{error!r} {getattr(error, 'stderr', b'')!r}")

    def _ask(self, http2: bool) -> None:
        self.answers[ask(self._edge, http2=http2)] += 1

    def _stream(self, http2: bool) -> None:
        content = ask(self._edge, "/stream", http2=http2)
        self.streams.append(content[: len(STREAM)])


def test_new_connections_come_to_all_workers(gateway: Path, certificates: Path) -> None:
    with running_workers(gateway, certificates=certificates) as edge:
        answers = Counter(int(ask(edge)) for _ in range(60))
        assert set(answers) == set(find_pids(edge).values())
        assert min(answers.values()) >= 10
        assert "workers    2, under the supervisor" in edge.output.text
        assert edge.output.text.count("listening") == 1
        with edge.client() as client:
            check = client.get("/readyz").json()["checks"]["workers"]
        assert (check["ready"], check["wanted"]) == (2, 2)
        assert edge.stop() == 0


def test_a_worker_that_is_killed_is_replaced_and_nobody_waits_for_it(gateway: Path) -> None:
    with running_workers(gateway) as edge:
        victim = find_pids(edge)[1]
        os.kill(victim, signal.SIGKILL)
        edge.log.wait_for(r"worker ended .*reason='signal SIGKILL'")
        assert all(int(ask(edge)) != victim for _ in range(30))
        edge.log.wait_for(r"worker ready", count=3)
        assert victim not in find_pids(edge).values()
        assert {int(ask(edge)) for _ in range(60)} == set(find_pids(edge).values())


def test_rolling_restarts_under_load_fail_no_request_and_cut_no_stream(gateway: Path, certificates: Path) -> None:
    with running_workers(gateway, certificates=certificates) as edge, Load(edge).running() as load:
        for number in range(1, RESTARTS + 1):
            before = set(find_pids(edge).values())
            edge.process.send_signal(signal.SIGUSR2)
            edge.log.wait_for(r"restarted workers", count=number)
            assert before.isdisjoint(find_pids(edge).values())
    assert load.failures == []
    assert len(load.answers) > 2 * RESTARTS  # of how many processes
    assert load.streams
    assert set(load.streams) == {STREAM}


def test_a_restart_that_fails_leaves_the_old_workers_serving(gateway: Path) -> None:
    with running_workers(gateway) as edge:
        before = find_pids(edge)
        (gateway / "broken").touch()
        edge.process.send_signal(signal.SIGUSR2)
        edge.log.wait_for(r"the restart has ended early")
        assert {int(ask(edge)) for _ in range(40)} == set(before.values())
        (gateway / "broken").unlink()
        edge.process.send_signal(signal.SIGUSR2)
        edge.log.wait_for(r"restarted workers")
        assert set(before.values()).isdisjoint(find_pids(edge).values())


def test_a_worker_that_has_served_its_number_of_requests_is_replaced(gateway: Path) -> None:
    with running_workers(gateway, "--max-requests", "20", workers=1) as edge:
        first = find_pids(edge)[1]
        for _ in range(30):
            ask(edge, "/healthz")
        assert "worker is to be replaced" not in edge.log.text
        answers = [int(ask(edge)) for _ in range(30)]
        assert answers[0] == first
        edge.log.wait_for(r"worker ready", count=2)
        # Until it is told to drain, which is just after, the old one takes connections.
        assert eventually(lambda: not Path(f"/proc/{first}").exists())
        assert {int(ask(edge)) for _ in range(5)} == {find_pids(edge)[1]}


def test_a_restart_replaces_a_worker_that_was_being_started_when_it_was_asked_for(gateway: Path) -> None:
    with running_workers(gateway, "--max-requests", "5", workers=1) as edge:
        (gateway / "held").touch()
        for _ in range(10):
            ask(edge)
        edge.log.wait_for(r"worker started", count=2)
        edge.process.send_signal(signal.SIGUSR2)
        edge.log.wait_for(r"restarting workers")
        recycled = int(re.findall(r"worker started .*pid=(\d+)", edge.log.text)[1])
        (gateway / "held").unlink()
        edge.log.wait_for(r"restarted workers")
        assert find_pids(edge)[1] != recycled


def test_an_end_in_the_middle_of_a_restart_is_no_error(gateway: Path) -> None:
    with running_workers(gateway) as edge:
        (gateway / "held").touch()
        edge.process.send_signal(signal.SIGUSR2)
        edge.log.wait_for(r"worker started", count=3)
        edge.process.terminate()
        assert edge.process.wait(WAIT_SECONDS) == 0
    assert "[error]" not in edge.log.text
    assert not re.search(r"\[warning\](?!.*event loop was held up)", edge.log.text)


def test_a_worker_with_too_much_memory_is_replaced(gateway: Path) -> None:
    with running_workers(gateway, "--max-memory-bytes", str(2**28), workers=1) as edge:
        first = find_pids(edge)[1]
        assert int(ask(edge, "/grow")) == first
        edge.log.wait_for(rf"worker is to be replaced .*pid={first} reason='it has \d+ MB of memory'")
        edge.log.wait_for(rf"worker is replaced .*pid={first}")
        ask(edge)
    assert "the memory limit is below" not in edge.log.text


def test_a_limit_of_memory_that_is_too_low_is_said_to_be(gateway: Path) -> None:
    with running_workers(gateway, "--max-memory-bytes", str(2**21), workers=1) as edge:
        edge.log.wait_for(
            r"the memory limit is below what the gateway needs .*max_memory_bytes=2097152 needed_bytes=\d"
        )
        assert int(ask(edge)) == find_pids(edge)[1]
        assert edge.stop() == 0


def test_where_the_first_worker_cannot_start_the_edge_says_so_and_ends(gateway: Path) -> None:
    (gateway / "broken").touch()
    done = run_edge("--gateway", "worked:app", "--workers", "4", "--port", "0", "--host", "127.0.0.1", cwd=gateway)
    assert done.returncode == 3
    assert done.stderr.count("broken on purpose") == 1
    assert "sage-edge: error: worker 1 ended before it was ready: exit code 3" in done.stderr
    assert "Traceback" not in done.stderr


def test_what_keeps_a_worker_from_starting_is_a_line_of_the_log(gateway: Path) -> None:
    (gateway / "broken").touch()
    options = ("--gateway", "worked:app", "--workers", "1", "--port", "0", "--host", "127.0.0.1")
    done = run_edge(*options, "--log-format", "json", cwd=gateway)
    logged = [json.loads(line) for line in done.stderr.splitlines() if not line.startswith("sage-edge: ")]
    (told,) = [line for line in logged if line["event"] == "worker cannot start"]
    assert (told["level"], told["worker"]) == ("error", 1)
    assert "broken on purpose" in told["reason"]
    assert told["hint"]


def test_workers_that_can_start_no_more_end_the_edge(gateway: Path) -> None:
    with running_workers(gateway, workers=1) as edge:
        (gateway / "broken").touch()
        os.kill(find_pids(edge)[1], signal.SIGKILL)
        assert edge.process.wait(60) == 3
        assert "sage-edge: error: worker 1 fails to start, again and again" in edge.log.wait_for_end()


def test_without_their_supervisor_workers_finish_and_end(gateway: Path) -> None:
    with running_workers(gateway, "--drain-delay-seconds", "600") as edge:
        pids = find_pids(edge)
        edge.process.kill()
        for pid in pids.values():
            assert eventually(lambda pid=pid: not Path(f"/proc/{pid}").exists())
        assert edge.log.wait_for_end().count("the supervisor is gone: draining") == 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_streams_finish_before_the_workers_end(gateway: Path, number: signal.Signals) -> None:
    with running_workers(gateway) as edge:
        answers: list[bytes] = []
        threads = [threading.Thread(target=lambda: answers.append(ask(edge, "/stream"))) for _ in range(6)]
        for thread in threads:
            thread.start()
        time.sleep(0.5)  # amid the streams
        assert edge.stop(number) == 0
        for thread in threads:
            thread.join()
        assert [answer[: len(STREAM)] for answer in answers] == [STREAM] * 6


def test_a_second_signal_ends_all_workers_at_once(gateway: Path) -> None:
    with running_workers(gateway, "--drain-seconds", "60") as edge:
        thread = threading.Thread(target=lambda: _ignore_errors(edge))
        thread.start()
        time.sleep(0.3)
        edge.process.send_signal(signal.SIGTERM)
        edge.log.wait_for(r"draining .*worker=")
        assert edge.end_at_once() == 0
        thread.join()


def _ignore_errors(edge: Edge) -> None:
    try:
        ask(edge, "/stream")
    except subprocess.CalledProcessError:
        return  # it was cut, as it should be


def test_an_edge_without_a_supervisor_does_not_die_of_the_signal_to_restart(gateway: Path) -> None:
    with running_edge("--gateway", "worked:app", cwd=gateway) as edge:
        edge.process.send_signal(signal.SIGUSR2)
        edge.log.wait_for(r"only the supervisor of --workers restarts")
        assert ask(edge)
        assert edge.stop() == 0


def test_recycling_needs_a_supervisor() -> None:
    done = run_edge("--no-llm", "--max-requests", "5", "--max-memory-bytes", "99999999")
    assert done.returncode == 2
    assert done.stderr.count("there is no supervisor that could replace the process") == 2
