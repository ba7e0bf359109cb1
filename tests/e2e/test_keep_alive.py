"""Clients over http/1.1 that keep their connections, think between requests, and may send none of them twice."""

from __future__ import annotations

import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import pytest

from sage_edge.server.http1.connection import FAREWELL_SECONDS
from sage_edge.server.opening import LAST_OPENING_SECONDS
from tests.kit.edge import WAIT_SECONDS, Edge, running_edge
from tests.kit.eventually import eventually

pytestmark = pytest.mark.usefixtures("unmeasured_workers")

GATEWAY = """
import os

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        return
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"%d" % os.getpid()})
"""
CLIENTS = 6
THINKING_SECONDS = 1.5 * FAREWELL_SECONDS


@pytest.fixture
def gateway(tmp_path: Path) -> Path:
    """A directory with a gateway that says which process it is in."""
    (tmp_path / "kept.py").write_text(GATEWAY)
    return tmp_path


@contextmanager
def running_workers(gateway: Path, *options: str) -> Iterator[Edge]:
    with running_edge("--gateway", "kept:app", "--workers", "2", *options, cwd=gateway) as edge:
        edge.log.wait_for(r"worker ready", count=2)
        yield edge


class Client:
    """Asks, thinks and asks again, on its connection for as long as it may, until the end; on a thread."""

    def __init__(self, edge: Edge, is_over: threading.Event) -> None:
        self._edge = edge
        self._is_over = is_over
        self.answers = 0
        self.failures: list[str] = []
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        # Opened again where an answer has said that it ends, and nowhere else.
        connection = HTTPConnection("127.0.0.1", self._edge.port, timeout=WAIT_SECONDS)
        while not self._is_over.wait(THINKING_SECONDS):
            try:
                connection.request("POST", "/", body=b"body")
                if not connection.getresponse().read().isdigit():
                    self.failures.append("no answer of the gateway's")
            except (OSError, HTTPException) as error:
                self.failures.append(repr(error))
                connection.close()
            self.answers += 1
        connection.close()


def test_a_rolling_restart_fails_no_client_that_thinks(gateway: Path) -> None:
    is_over = threading.Event()
    with running_workers(gateway) as edge:
        clients = [Client(edge, is_over) for _ in range(CLIENTS)]
        try:
            assert eventually(lambda: all(client.answers for client in clients), WAIT_SECONDS)
            edge.process.send_signal(signal.SIGUSR2)
            edge.log.wait_for(r"\bstopped\b.*worker=", count=2)
            answers = [client.answers for client in clients]
            assert eventually(lambda: all(c.answers > n for c, n in zip(clients, answers, strict=True)), WAIT_SECONDS)
        finally:
            is_over.set()
            for client in clients:
                client.thread.join()
        assert [client.failures for client in clients] == [[]] * CLIENTS
        assert edge.stop() == 0
    assert "streams cut" not in edge.log.text


def test_a_rolling_restart_waits_for_slow_handshakes(gateway: Path, certificates: Path) -> None:
    options = ("--gateway", "kept:app", "--workers", "2", "--handshake-seconds", "60")
    with ExitStack() as stack:
        edge = stack.enter_context(running_edge(*options, certificates=certificates, cwd=gateway))
        edge.log.wait_for("worker ready", count=2)
        opened = [socket.create_connection(("127.0.0.1", edge.port), WAIT_SECONDS) for _ in range(CLIENTS)]
        edge.process.send_signal(signal.SIGUSR2)
        edge.log.wait_for("restarted workers")
        time.sleep(LAST_OPENING_SECONDS + 0.5)  # what a worker gives them that ends for good
        for sock in opened:
            slow = stack.enter_context(edge.ssl_context("http/1.1").wrap_socket(sock, server_hostname="localhost"))
            slow.sendall(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
            assert slow.recv(12) == b"HTTP/1.1 200"
        assert edge.stop() == 0


def test_a_worker_that_waits_for_a_client_that_thinks_does_not_hold_up_the_end_of_the_edge(gateway: Path) -> None:
    with running_workers(gateway, "--drain-seconds", "600", "--idle-seconds", "600") as edge:
        connections = [HTTPConnection("127.0.0.1", edge.port, timeout=WAIT_SECONDS) for _ in range(20)]
        for connection in connections:
            connection.request("POST", "/", body=b"body")
            connection.getresponse().read()
        edge.process.send_signal(signal.SIGUSR2)
        edge.log.wait_for(r"restarted workers")
        assert edge.stop() == 0
        for connection in connections:
            connection.close()


def test_answers_tell_of_the_drain_while_there_is_time_to_go_elsewhere(gateway: Path) -> None:
    with running_edge("--gateway", "kept:app", "--drain-delay-seconds", "600", cwd=gateway) as edge:
        told = HTTPConnection("127.0.0.1", edge.port, timeout=WAIT_SECONDS)
        for is_draining in (False, True, True):
            if is_draining and "draining" not in edge.log.text:
                edge.process.send_signal(signal.SIGTERM)
                edge.log.wait_for(r"\[info\] draining")
            told.request("POST", "/", body=b"body")
            answer = told.getresponse()
            assert answer.read()
            assert answer.getheader("connection") == ("close" if is_draining else None)
        told.close()
        assert edge.end_at_once() == 0
