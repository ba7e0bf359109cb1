"""A new edge takes the address over from an old one: no connection is refused, none is reset, none sees a 503."""

from __future__ import annotations

import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import httpx2
import pytest

from tests.kit.edge import WAIT_SECONDS, Edge, run_edge, running_edge
from tests.kit.eventually import eventually
from tests.kit.lifespan_source import WAITING_LIFESPAN
from tests.server.test_run import wait_until_closed

pytestmark = pytest.mark.usefixtures("unmeasured_workers")

GATEWAY = r"""
import asyncio, os, pathlib

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await asyncio.sleep(0.5)
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    process = os.getppid() if "HAS_WORKERS" in os.environ else os.getpid()
    body = f"{process}\n".encode()
    await send({"type": "http.response.body", "body": body, "more_body": True})
    while scope["path"] == "/stream" and not pathlib.Path("finish").exists():
        await asyncio.sleep(0.01)
    await send({"type": "http.response.body", "body": b"finished"})
"""
Version = Callable[[], AbstractContextManager[Edge]]
REQUEST = b"GET /%b HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"


@pytest.fixture
def gateway(tmp_path: Path) -> Path:
    """A directory with a gateway that takes a while to start and says which process it is in."""
    (tmp_path / "handed.py").write_text(GATEWAY)
    return tmp_path


class Load:
    """New connections, one after the other on each of a few threads, with one request each."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._is_over = threading.Event()
        self._lock = threading.Lock()
        self.failures: list[str] = []
        self.answers: dict[int, int] = {}

    @contextmanager
    def running(self, threads: int = 4) -> Iterator[Load]:
        """The load, until the block ends."""
        workers = [threading.Thread(target=self._ask_on) for _ in range(threads)]
        for worker in workers:
            worker.start()
        try:
            yield self
        finally:
            self._is_over.set()
            for worker in workers:
                worker.join()

    def wait_for(self, process: int, count: int = 200) -> None:
        """Wait until a process has given so many answers from now on."""
        target = self.answers.get(process, 0) + count
        has_come = eventually(lambda: self.answers.get(process, 0) >= target, 30)
        assert has_come, f"{self.answers} {self.failures[:3]}"

    def _ask_on(self) -> None:
        while not self._is_over.is_set():
            try:
                answer = ask(self._port)
                process = int(answer.split(b"\r\n\r\n", 1)[1].split(b"\n")[1])
            except (OSError, ValueError, IndexError) as error:
                self.failures.append(repr(error))
                continue
            with self._lock:
                self.answers[process] = self.answers.get(process, 0) + 1


def ask(port: int) -> bytes:
    """One request on a connection of its own; the whole answer."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as sock:
        sock.sendall(REQUEST % b"")
        answer = b"".join(iter(lambda: sock.recv(65_536), b""))
    if not answer.startswith(b"HTTP/1.1 200 ") or not answer.rstrip().endswith((b"finished", b"finished\r\n0")):
        raise ValueError(f"cut: {answer!r}")
    return answer


def test_passed_sockets_refuse_nothing_over_three_versions(gateway: Path) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as passed:
        number = passed.fileno()

        @contextmanager
        def version() -> Iterator[Edge]:
            options = ("--gateway", "handed:app")
            with running_edge(*options, cwd=gateway, binds=("--bind", f"fd://{number}"), pass_fds=[number]) as edge:
                yield edge

        hand_over_twice(version)


@pytest.mark.parametrize("workers", [(), ("--workers", "2")], ids=["one process", "two workers"])
def test_a_shared_port_refuses_nothing_over_three_versions(gateway: Path, workers: tuple[str, ...]) -> None:
    with shared_port(gateway, workers) as version:
        hand_over_twice(version)


@contextmanager
def shared_port(gateway: Path, workers: tuple[str, ...]) -> Iterator[Version]:
    """A port, and what runs an edge that shares it."""
    with socket.socket() as reserved:
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        reserved.bind(("127.0.0.1", 0))
        binds = ("--bind", f"127.0.0.1:{reserved.getsockname()[1]}", "--reuse-port")
        env = {"HAS_WORKERS": ""} if workers else {}
        yield lambda: running_edge("--gateway", "handed:app", *workers, cwd=gateway, binds=binds, env=env)


@pytest.mark.parametrize("workers", [(), ("--workers", "1")], ids=["one process", "a worker"])
def test_metrics_and_status_page_go_to_the_new_version_once_the_old_one_has_ended(
    gateway: Path, workers: tuple[str, ...]
) -> None:
    with ExitStack() as stack:
        ports = []
        for _ in range(3):
            reserved = stack.enter_context(socket.socket())
            reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            reserved.bind(("127.0.0.1", 0))
            ports.append(reserved.getsockname()[1])
            if len(ports) > 1:
                reserved.close()  # nobody shares these
        metrics, admin = (f"127.0.0.1:{port}" for port in ports[1:])
        own = ("--metrics-bind", metrics, "--admin-bind", admin)
        binds = ("--bind", f"127.0.0.1:{ports[0]}", "--reuse-port")
        with running_edge("--gateway", "handed:app", *own, *workers, cwd=gateway, binds=binds) as old:
            old.output.wait_for(rf"metrics +http://{metrics}")
            with running_edge("--gateway", "handed:app", *own, *workers, cwd=gateway, binds=binds) as new:
                new.log.wait_for(r"\[warning\] metrics are not served before their address is free .*in use")
                new.log.wait_for(r"\[warning\] the status page is not shown before its address is free .*in use")
                assert old.stop() == 0
                new.log.wait_for(rf"\[info\] metrics are served .*{metrics}")
                new.log.wait_for(rf"\[info\] the status page is shown .*{admin}")
                assert "sage_edge_phase" in httpx2.get(f"http://{metrics}/metrics", trust_env=False).text
                assert "<title>" in httpx2.get(f"http://{admin}/", trust_env=False).text
                assert new.stop() == 0


@pytest.mark.parametrize("workers", [(), ("--workers", "1")], ids=["one process", "a worker"])
def test_an_edge_that_ends_leaves_the_metrics_address_to_one_that_stays(
    gateway: Path, workers: tuple[str, ...]
) -> None:
    with ExitStack() as stack:
        reserved = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        metrics = f"127.0.0.1:{reserved.getsockname()[1]}"
        with shared_port(gateway, ("--metrics-bind", metrics, "--drain-seconds", "300", *workers)) as version:
            leaving = stack.enter_context(version())
            leaving.log.wait_for(r"metrics are not served before their address is free")
            stream = stack.enter_context(socket.create_connection(("127.0.0.1", leaving.port), timeout=60))
            stream.sendall(REQUEST % b"stream")
            received = stream.recv(65_536)
            leaving.process.send_signal(signal.SIGTERM)
            leaving.log.wait_for(r"streams in flight .*streams=1")
            reserved.close()
            leaving.log.wait_for(r"streams in flight .*streams=1", count=4)  # once a second
            with version() as staying:
                staying.output.wait_for(rf"metrics +http://{metrics}")
                (gateway / "finish").touch()
                received += b"".join(iter(lambda: stream.recv(65_536), b""))
                assert b"finished" in received
                assert leaving.process.wait(20) == 0
                assert staying.stop() == 0


def hand_over_twice(version: Version) -> None:
    """Two hand-overs under a load of new connections."""
    with ExitStack() as stack:
        edges = [stack.enter_context(version())]
        load = Load(edges[0].port)
        with load.running():
            load.wait_for(edges[0].process.pid)
            for old in range(2):
                edges.append(stack.enter_context(version()))
                load.wait_for(edges[-1].process.pid)
                assert edges[old].stop() == 0
                load.wait_for(edges[-1].process.pid)
    assert load.failures == [], (load.answers, [e.log.text[-3000:] for e in edges])
    assert set(load.answers) == {edge.process.pid for edge in edges}


@pytest.mark.parametrize("workers", [(), ("--workers", "2")], ids=["one process", "two workers"])
def test_a_shared_port_refuses_nothing_when_the_newer_edge_leaves(gateway: Path, workers: tuple[str, ...]) -> None:
    with shared_port(gateway, workers) as version, ExitStack() as stack:
        old = stack.enter_context(version())
        load = Load(old.port)
        with load.running():
            for _ in range(2):
                new = stack.enter_context(version())
                load.wait_for(new.process.pid)
                assert new.stop() == 0
                load.wait_for(old.process.pid)
    assert load.failures == [], load.answers


def test_what_the_system_has_accepted_is_served_before_the_listener_closes(gateway: Path) -> None:
    with running_edge("--gateway", "handed:app", cwd=gateway) as edge:
        # Connections that wait in the queue: a stopped process accepts none.
        edge.process.send_signal(signal.SIGSTOP)
        clients = [socket.create_connection(("127.0.0.1", edge.port), timeout=30) for _ in range(50)]
        for client in clients[::2]:
            client.sendall(REQUEST % b"")
        edge.process.send_signal(signal.SIGTERM)
        edge.process.send_signal(signal.SIGCONT)
        edge.log.wait_for(r"\[info\] draining")
        for client in clients[1::2]:  # the other half ask within the round trip that they are given
            client.sendall(REQUEST % b"")
        for client in clients:
            with client:
                assert b"finished" in b"".join(iter(lambda client=client: client.recv(65_536), b""))
        assert edge.process.wait(20) == 0


def test_streams_of_the_old_version_finish_while_the_new_one_serves(gateway: Path) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as passed:
        number, port = passed.fileno(), passed.getsockname()[1]
        common = {"cwd": gateway, "binds": ("--bind", f"fd://{number}"), "pass_fds": [number]}
        with (
            running_edge("--gateway", "handed:app", **common) as old,
            socket.create_connection(("127.0.0.1", port), timeout=30) as stream,
        ):
            stream.sendall(REQUEST % b"stream")
            received = stream.recv(65_536)
            with running_edge("--gateway", "handed:app", **common) as new:
                old.process.send_signal(signal.SIGTERM)
                old.log.wait_for(r"streams in flight .*streams=1")
                assert f"{new.process.pid}\n".encode() in ask(port)
                (gateway / "finish").touch()
                received += b"".join(iter(lambda: stream.recv(65_536), b""))
                assert old.process.wait(20) == 0
            assert f"{old.process.pid}\n".encode() in received
            assert b"finished" in received


def test_listeners_stay_open_for_the_drain_delay_and_say_that_they_drain(gateway: Path) -> None:
    options = ("--gateway", "handed:app", "--drain-delay-seconds", "3")
    with running_edge(*options, cwd=gateway) as edge:
        edge.process.send_signal(signal.SIGTERM)
        started = time.monotonic()
        edge.log.wait_for(r"\[info\] draining")
        with edge.client(http2=False) as client:
            readiness = client.get("/readyz")
            assert (readiness.status_code, readiness.json()["status"]) == (503, "draining")
            assert client.get("/healthz").status_code == 200
        assert f"{edge.process.pid}\n".encode() in ask(edge.port), "new requests are still served"
        assert time.monotonic() - started < 3
        wait_until_closed(edge)
        assert time.monotonic() - started > 2.9
        assert edge.process.wait(20) == 0


def test_a_second_signal_ends_the_delay_too(gateway: Path) -> None:
    options = ("--gateway", "handed:app", "--drain-delay-seconds", "600")
    with running_edge(*options, cwd=gateway) as edge, socket.create_connection(("127.0.0.1", edge.port)) as stream:
        stream.sendall(REQUEST % b"stream")
        assert stream.recv(65_536)
        edge.process.send_signal(signal.SIGTERM)
        edge.log.wait_for(r"\[info\] draining .*streams=1")
        assert edge.end_at_once(signal.SIGINT) == 0
        edge.log.wait_for(r"streams cut .*streams=1 reason=.*second signal")


@pytest.mark.parametrize("workers", [(), ("--workers", "2")], ids=["one process", "two workers"])
def test_a_shared_port_that_another_program_takes_while_the_gateway_starts_is_an_error(
    tmp_path: Path, workers: tuple[str, ...]
) -> None:
    (tmp_path / "waiting.py").write_text(
        WAITING_LIFESPAN + "async def app(scope, *rest): await serve_lifespan(*rest)\n"
    )
    (tmp_path / "wait").touch()
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{other.getsockname()[1]}"
        binds = ("--bind", address, "--reuse-port")
        options = ("--gateway", "waiting:app", *workers)
        with running_edge(*options, cwd=tmp_path, binds=binds, wait_for_ready=False) as edge:
            other.listen()
            (tmp_path / "wait").unlink()
            assert edge.process.wait(WAIT_SECONDS) == 3
            log = edge.log.wait_for_end()
    assert log.count(f"cannot listen on {address}: the address is in use") == 1
    assert "Traceback" not in log
    assert "] ready" not in log


def test_ports_are_not_taken_from_an_edge_that_does_not_share_them(gateway: Path) -> None:
    with running_edge("--gateway", "handed:app", cwd=gateway) as edge:
        result = run_edge("--no-llm", "--bind", f"127.0.0.1:{edge.port}", "--reuse-port")
    assert result.returncode == 3
    assert "the address is in use" in result.stderr
