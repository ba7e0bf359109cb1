"""Workers that end, hang or cannot be started, in ways that their supervisor has to expect: it goes on serving."""

from __future__ import annotations

import os
import resource
import signal
import socket
import time
from contextlib import ExitStack
from pathlib import Path

import httpx2
import pytest

from sage_edge.server import worker_process
from tests.e2e.observe.support import Figures, metrics_url, status_url, wait_for_figure
from tests.e2e.test_workers import ask, find_pids, gateway, running_workers
from tests.kit.edge import WAIT_SECONDS, Edge, running_edge
from tests.kit.eventually import eventually

pytestmark = pytest.mark.usefixtures("unmeasured_workers")

__all__ = ["gateway"]

FORKING = """
import multiprocessing, time
child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,), daemon=True)
child.start()
"""
SLOW_START = "import time; time.sleep(2)\n"


def prepend(gateway: Path, code: str) -> None:
    """Have the gateway do something when it is imported."""
    module = gateway / "worked.py"
    module.write_text(code + module.read_text())


def test_a_worker_is_replaced_though_a_child_of_its_gateway_lives_on(gateway: Path) -> None:
    prepend(gateway, FORKING)
    with running_workers(gateway) as edge:
        os.kill(find_pids(edge)[2], signal.SIGKILL)
        edge.log.wait_for(r"worker ready", count=3)
        assert edge.stop() == 0


def test_a_worker_that_hangs_does_not_count_and_others_accept_in_its_place(gateway: Path) -> None:
    def is_told(edge: Edge, text: str) -> bool:
        with edge.client() as client:
            return text in client.get("/readyz").text

    with running_workers(gateway, "--metrics-bind", "127.0.0.1:0") as edge:
        hung, url = find_pids(edge)[1], metrics_url(edge)
        os.kill(hung, signal.SIGSTOP)
        edge.log.wait_for(r"worker is silent.* worker=1")
        assert all(int(ask(edge)) != hung for _ in range(10))
        figures = Figures(url)
        assert (figures.sum("workers_ready"), figures.sum("phase", phase="ready")) == (1, 1)
        assert eventually(lambda: is_told(edge, "1 of 2 workers are ready"))
        os.kill(hung, signal.SIGCONT)
        edge.log.wait_for(r"worker answers again .*worker=1")
        wait_for_figure(url, lambda figures: figures.sum("workers_ready") == 2)
        wait_for_figure(url, lambda figures: figures.sum("phase", phase="ready") == 2)
        assert eventually(lambda: int(ask(edge)) == hung)
        assert edge.stop() == 0


def test_where_all_workers_hang_the_supervisor_says_that_none_is_ready(gateway: Path) -> None:
    with running_workers(gateway, "--metrics-bind", "127.0.0.1:0") as edge:
        url, workers = metrics_url(edge), find_pids(edge).values()
        for pid in workers:
            os.kill(pid, signal.SIGSTOP)
        figures = wait_for_figure(url, lambda figures: figures.sum("workers_ready") == 0)
        assert figures.sum("workers_wanted") == len(workers)
        assert figures.sum("phase") == figures.sum("readiness_check") == 0, "nobody tells"
        for pid in workers:
            os.kill(pid, signal.SIGCONT)
        wait_for_figure(url, lambda figures: figures.sum("workers_ready") == len(workers))
        assert edge.stop() == 0


def test_a_drain_is_told_from_its_beginning_though_no_worker_can(gateway: Path) -> None:
    with running_workers(gateway, "--metrics-bind", "127.0.0.1:0", "--admin-bind", "127.0.0.1:0") as edge:
        url, workers = metrics_url(edge), find_pids(edge).values()
        for pid in workers:
            os.kill(pid, signal.SIGSTOP)
        edge.process.send_signal(signal.SIGTERM)
        wait_for_figure(url, lambda figures: figures.sum("phase", phase="draining") == 1)
        assert ">draining<" in httpx2.get(status_url(edge), trust_env=False).text
        for pid in workers:
            os.kill(pid, signal.SIGCONT)
        assert edge.process.wait(WAIT_SECONDS) == 0


def test_a_supervisor_that_was_stopped_takes_nobody_for_silent(gateway: Path) -> None:
    with running_workers(gateway) as edge:
        edge.process.send_signal(signal.SIGSTOP)
        time.sleep(worker_process.QUIET_SECONDS + 1)  # as it is held up for
        edge.process.send_signal(signal.SIGCONT)
        edge.process.send_signal(signal.SIGUSR2)
        edge.log.wait_for(r"restarted workers")
        assert "silent" not in edge.log.text
        assert edge.stop() == 0


def test_a_worker_that_ends_by_a_signal_without_a_name_is_replaced(gateway: Path) -> None:
    with running_workers(gateway) as edge:
        os.kill(find_pids(edge)[1], 40)
        edge.log.wait_for(r"worker ended .*reason='signal 40'")
        edge.log.wait_for(r"worker ready", count=3)
        assert edge.stop() == 0


def test_new_connections_are_refused_while_workers_finish_their_streams(gateway: Path) -> None:
    with running_workers(gateway) as edge, edge.client(http2=False) as client:
        with client.stream("GET", "/stream") as stream:
            edge.process.send_signal(signal.SIGTERM)
            edge.log.wait_for(r"draining", count=3)
            assert is_refused(edge, 1.0)  # the stream takes two seconds
            assert b"99\n" in stream.read()
        assert edge.process.wait(WAIT_SECONDS) == 0


def test_what_waits_for_a_worker_that_does_not_come_to_it_is_answered_by_the_last_to_end(gateway: Path) -> None:
    with running_workers(gateway) as edge, ExitStack() as opened:
        pids = find_pids(edge)
        os.kill(pids[2], signal.SIGSTOP)
        clients = []
        for _ in range(20):
            client = socket.create_connection(("127.0.0.1", edge.port), timeout=WAIT_SECONDS)
            clients.append(opened.enter_context(client))
            client.sendall(b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        edge.process.send_signal(signal.SIGTERM)
        for client in clients:
            with client.makefile("rb") as answer:
                assert b"\r\n%d\r\n" % pids[1] in answer.read()
        os.kill(pids[2], signal.SIGCONT)
        assert edge.process.wait(WAIT_SECONDS) == 0


def is_refused(edge: Edge, seconds: float) -> bool:
    """Whether a new connection is, before so long."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("localhost", edge.port), timeout=seconds / 10).close()
        except ConnectionRefusedError:
            return True
        except (ConnectionResetError, TimeoutError):  # in the moment of the close, in which the system drops what comes
            continue
    return False


def test_where_no_process_can_be_started_the_others_serve_on(gateway: Path) -> None:
    with running_workers(gateway) as edge:
        supervisor = edge.process.pid
        used = len(list(Path(f"/proc/{supervisor}/fd").iterdir()))
        _, hard = resource.prlimit(supervisor, resource.RLIMIT_NOFILE)
        resource.prlimit(supervisor, resource.RLIMIT_NOFILE, (used - 2, hard))
        edge.process.send_signal(signal.SIGUSR2)
        edge.log.wait_for(r"the restart has ended early")
        assert int(ask(edge)) in find_pids(edge).values()
        os.kill(find_pids(edge)[1], signal.SIGKILL)
        edge.log.wait_for(r"worker cannot be started .*worker=1", count=2)
        assert int(ask(edge)) == find_pids(edge)[2]
        resource.prlimit(supervisor, resource.RLIMIT_NOFILE, (hard, hard))
        edge.log.wait_for(r"worker ready .*worker=1", count=2)
        assert edge.stop() == 0


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1])
@pytest.mark.parametrize("after", ["worker started", "loading"])
def test_workers_that_start_do_not_end_by_a_signal_for_all(gateway: Path, number: signal.Signals, after: str) -> None:
    prepend(gateway, "import sys; print('loading', file=sys.stderr, flush=True)\n" + SLOW_START)
    arguments = ("--gateway", "worked:app", "--workers", "1", "--no-access-log", "--log-level", "info")
    with running_edge(*arguments, cwd=gateway) as edge:
        edge.log.wait_for(r"worker ready")
        edge.process.send_signal(signal.SIGUSR2)
        edge.log.wait_for(after, count=2)
        edge.process.send_signal(number)
        edge.log.wait_for(r"restarted workers")
        assert edge.stop() == 0


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2])
def test_an_edge_that_starts_does_not_end_by_a_signal_to_reload(gateway: Path, number: signal.Signals) -> None:
    (gateway / "worked.py").write_text(
        f"import os, signal; os.kill(os.getpid(), {int(number)})\n" + (gateway / "worked.py").read_text()
    )
    with running_edge("--gateway", "worked:app", cwd=gateway) as edge, edge.client() as client:
        assert client.get("/healthz").status_code == 200


def test_a_worker_that_hangs_while_it_starts_does_not_keep_its_place(gateway: Path) -> None:
    module = gateway / "worked.py"
    good = module.read_text()
    hang = "import signal, time\nsignal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})\ntime.sleep(600)\n"
    with running_workers(gateway, "--startup-seconds", "1", workers=1) as edge:
        before = find_pids(edge)[1]
        module.write_text(hang + good)
        edge.process.send_signal(signal.SIGUSR2)
        edge.log.wait_for(r"worker is killed .*reason='it does not become ready'")
        edge.log.wait_for(r"the old one stays")
        assert int(ask(edge)) == before
        module.write_text(good)
        edge.process.send_signal(signal.SIGUSR2)
        edge.log.wait_for(r"restarted workers")
        assert int(ask(edge)) != before
        assert edge.stop() == 0


def test_a_worker_that_is_replaced_does_not_wait_for_balancers(gateway: Path) -> None:
    with running_workers(gateway, "--drain-delay-seconds", "600", workers=1) as edge:
        edge.process.send_signal(signal.SIGUSR2)
        edge.log.wait_for(r"restarted workers")
        edge.log.wait_for(r"\bstopped\b.*worker=1")
        edge.process.send_signal(signal.SIGTERM)
        edge.log.wait_for(r"draining", count=3)  # the supervisor, and both workers
        assert edge.end_at_once() == 0


def test_a_worker_whose_replacement_failed_is_replaced_the_next_time(gateway: Path) -> None:
    with running_workers(gateway, "--max-requests", "10", workers=1) as edge:
        (gateway / "broken").touch()
        ask_often(edge, 15)
        edge.log.wait_for(r"the old one stays")
        (gateway / "broken").unlink()
        ask_often(edge, 15)
        edge.log.wait_for(r"worker ready", count=2)
        assert edge.stop() == 0


def test_a_worker_that_dies_while_another_starts_in_its_place_is_told_of(gateway: Path) -> None:
    with running_workers(gateway, workers=1) as edge:
        old = find_pids(edge)[1]
        prepend(gateway, SLOW_START)
        edge.process.send_signal(signal.SIGUSR2)
        edge.log.wait_for(r"worker started", count=2)
        os.kill(old, signal.SIGKILL)
        edge.log.wait_for(rf"worker ended .*pid={old} reason='signal SIGKILL'")
        edge.log.wait_for(r"worker ready", count=2)
        assert ask(edge)
        assert edge.stop() == 0
    assert edge.log.text.count("worker ended") == 1


def ask_often(edge: Edge, count: int) -> None:
    with edge.client() as client:
        for _ in range(count):
            try:
                client.get("/")
            except httpx2.HTTPError:  # the connection ends with the worker
                return


def test_a_line_on_the_link_that_is_no_message_is_left_out(gateway: Path) -> None:
    prepend(
        gateway,
        "import os, socket, stat\n"
        "for number in range(3, 20):\n"
        "    if os.path.exists(f'/dev/fd/{number}') and stat.S_ISSOCK(os.fstat(number).st_mode):\n"
        "        with socket.socket(fileno=os.dup(number)) as sock:\n"
        "            if sock.family == socket.AF_UNIX:\n"
        "                sock.send(b'no message\\n[]\\n')\n",
    )
    with running_workers(gateway, workers=1) as edge:
        edge.log.wait_for(r"a line between supervisor and worker is no message", count=2)
        assert ask(edge)
        assert edge.stop() == 0


def test_a_second_signal_ends_a_worker_that_hangs(gateway: Path) -> None:
    with running_workers(gateway, workers=1) as edge:
        (worker,) = find_pids(edge).values()
        os.kill(worker, signal.SIGSTOP)
        edge.process.send_signal(signal.SIGTERM)
        edge.log.wait_for(r"draining .*signal=SIGTERM")
        began_at = time.monotonic()
        assert edge.end_at_once() == 0
        assert time.monotonic() - began_at < 20
