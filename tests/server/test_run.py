"""The life of an edge as a process: signals, drain, and how it ends."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2
import pytest

from sage_edge.core.errors import ExitCode
from sage_edge.server.certificates import CertificateInfo
from sage_edge.server.drain import REPORT_SECONDS
from sage_edge.server.readiness_checks import LAG_LIMIT_SECONDS, check_certificate, check_lag, check_workers
from sage_edge.server.run import _explain
from tests.kit.edge import WAIT_SECONDS, Edge, Output, clean_environment, edge_command, running_edge

GATEWAY = r"""
import asyncio, pathlib, sys

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        print("shut down", file=sys.stderr, flush=True)
        await send({"type": "lifespan.shutdown.complete"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"begun\n", "more_body": True})
    while not pathlib.Path("finish").exists():
        await asyncio.sleep(0.01)
    await send({"type": "http.response.body", "body": b"finished"})
"""


@pytest.fixture
def gateway(tmp_path: Path) -> Path:
    """A directory with a gateway whose answers begin at once, and end once a file `finish` is beside it."""
    (tmp_path / "patient.py").write_text(GATEWAY)
    return tmp_path


@contextmanager
def stream_in_flight(edge: Edge, *, http2: bool) -> Iterator[Iterator[bytes]]:
    """A request whose answer has begun; the rest of it."""
    with edge.client(http2=http2) as client, client.stream("GET", "/") as response:
        chunks = response.iter_raw()
        assert next(chunks) == b"begun\n"
        yield chunks


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_an_idle_edge_at_once_and_cleanly(number: signal.Signals, certificates: Path) -> None:
    with running_edge("--no-llm", certificates=certificates) as edge, edge.client() as client:
        assert client.get("/healthz").status_code == 200  # its connection stays open
        started = time.monotonic()
        assert edge.stop(number) == 0
        assert time.monotonic() - started < 10
    assert f"signal={number.name}" in edge.log.text
    assert "[info] stopped" in edge.log.text
    assert "error" not in edge.log.text


@pytest.mark.parametrize("version", ["--http2-prior-knowledge", "--http1.1"])
def test_requests_in_flight_finish_while_draining(gateway: Path, version: str) -> None:
    # curl, since httpx gives its requests up at a GOAWAY, whichever streams that lets finish.
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("curl is not installed")
    with running_edge("--gateway", "patient:app", cwd=gateway) as edge:
        command = [curl, "--silent", "--show-error", "--no-buffer", version, edge.url]
        with ExitStack() as stack:
            # Several connections: whether the end of an answer overtakes the connection's is a matter of luck.
            clients = [
                stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True)) for _ in range(6)
            ]
            answers = [client.stdout for client in clients if client.stdout is not None]
            assert [answer.readline() for answer in answers] == ["begun\n"] * 6
            edge.process.send_signal(signal.SIGTERM)
            edge.log.wait_for(r"\[info\] draining")
            wait_until_closed(edge)
            (gateway / "finish").touch()
            assert [answer.read() for answer in answers] == ["finished"] * 6
        assert [client.returncode for client in clients] == [0] * 6
        assert edge.process.wait(10) == 0
    assert "shut down" in edge.log.text


def wait_until_closed(edge: Edge) -> None:
    """Wait for the listeners to be closed; a new connection is refused then."""
    for _ in range(500):
        with socket.socket() as sock:
            if sock.connect_ex(("127.0.0.1", edge.port)):
                return
        time.sleep(0.01)
    raise AssertionError("connections are still accepted")


def test_a_terminal_that_is_closed_cuts_no_stream(gateway: Path) -> None:
    master, terminal = os.openpty()
    options = ("--gateway", "patient:app", "--host", "127.0.0.1", "--port", "0")
    none = ("--metrics-bind", "none", "--admin-bind", "none")
    command = edge_command("serve", *options, *none)
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=terminal, cwd=gateway, env=clean_environment(), text=True
    ) as process:
        os.close(terminal)
        assert process.stdout is not None
        output = Output(process.stdout)
        edge = Edge(process, output, output, None, int(output.wait_for(r"listening +http://\S+:(\d+)")[1]))
        seen = b""
        while b"ready" not in seen:
            seen += os.read(master, 4096)
        with stream_in_flight(edge, http2=False) as rest:
            process.send_signal(signal.SIGTERM)
            while b"1 stream in flight" not in seen:
                seen += os.read(master, 4096)
            os.close(master)
            time.sleep(2 * REPORT_SECONDS)  # for the line to be written again, into nothing
            (gateway / "finish").touch()
            assert b"".join(rest) == b"finished"
        assert process.wait(WAIT_SECONDS) == 0


@pytest.mark.parametrize("http2", [True, False])
def test_requests_are_cut_at_the_drain_limit(gateway: Path, http2: bool) -> None:
    with running_edge("--gateway", "patient:app", "--drain-seconds", "0.3", cwd=gateway) as edge:
        with stream_in_flight(edge, http2=http2) as rest:
            edge.process.send_signal(signal.SIGTERM)
            # Cut, not ended: the client must not take half an answer for a whole one.
            with pytest.raises(httpx2.TransportError):
                b"".join(rest)
        assert edge.process.wait(10) == 0
    assert "shut down" in edge.log.text
    assert "Traceback" not in edge.log.text


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_at_once(gateway: Path, second: signal.Signals) -> None:
    with (
        running_edge("--gateway", "patient:app", cwd=gateway) as edge,
        stream_in_flight(edge, http2=True),
    ):
        edge.process.send_signal(signal.SIGTERM)
        edge.log.wait_for(r"\[info\] draining")
        started = time.monotonic()
        assert edge.end_at_once(second) == 0
        assert time.monotonic() - started < 5
        assert "Traceback" not in edge.log.text


def test_a_second_signal_ends_at_once_while_the_gateway_blocks() -> None:
    with (
        running_edge("--gateway", "tests.kit.gateways.plain:app") as edge,
        ThreadPoolExecutor() as pool,
        edge.client() as client,
    ):
        pool.submit(client.get, "/block")
        edge.log.wait_for(r"\[info\] ready")
        with edge.client() as other:
            while other.get("/readyz").json()["status"] != "degraded":
                time.sleep(0.02)
        edge.process.send_signal(signal.SIGTERM)
        edge.log.wait_for(r"\[info\] draining")
        assert edge.end_at_once() == 0
    assert "Traceback" not in edge.log.text


@pytest.mark.parametrize("gateway_name", ["waiting", "blocking"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_start_up_that_hangs(gateway_name: str, number: signal.Signals) -> None:
    reference = f"tests.kit.gateways.faulty.lifespans:{gateway_name}"
    with running_edge("--gateway", reference, wait_for_ready=False) as edge:
        started = time.monotonic()
        assert edge.stop(number) == 0
        assert time.monotonic() - started < 10
    assert "Traceback" not in edge.log.text
    assert "ready" not in edge.log.text


def test_a_failed_start_up_names_the_gateway_and_what_to_do() -> None:
    fault = _explain("mine:app", "RuntimeError: no database")
    assert fault.what == "gateway mine:app failed to start: RuntimeError: no database"
    assert fault.code == ExitCode.STARTUP
    assert "--log-level debug" in fault.hint

    slow = _explain("mine:app", "start-up was not complete within 60 seconds")
    assert slow.hint.startswith("raise --startup-seconds")


def test_a_gateway_is_unresponsive_beyond_the_limit() -> None:
    assert check_lag(LAG_LIMIT_SECONDS).is_ok
    late = check_lag(LAG_LIMIT_SECONDS + 0.001)
    assert not late.is_ok
    assert late.detail == "the gateway's event loop does not answer"


def test_an_expired_certificate_is_not_ready() -> None:
    now = datetime(2026, 1, 31, tzinfo=UTC)
    certificate = CertificateInfo(("localhost",), now - timedelta(days=90), now, "CN=ca")
    good = check_certificate(certificate, now - timedelta(hours=12))
    assert (good.is_ok, good.detail) == (True, "expires 2026-01-31")
    bad = check_certificate(certificate, now + timedelta(seconds=1))
    assert (bad.is_ok, bad.detail) == (False, "expired 2026-01-31")


@pytest.mark.parametrize(("ready", "is_replaced", "is_ok"), [(0, False, True), (0, True, False), (1, True, True)])
def test_a_worker_goes_by_the_others_where_one_has_its_place(ready: int, is_replaced: bool, is_ok: bool) -> None:
    link: Any = SimpleNamespace(number=1, ready=ready, wanted=2, is_replaced=is_replaced)
    check = check_workers(link)
    assert (check.is_ok, check.decides) == (is_ok, is_replaced)
    assert check.detail == f"{ready} of 2 workers are ready"
