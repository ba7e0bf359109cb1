"""Signals at any time: SIGTERM and SIGINT end the edge with its documented exit code, and no other ends or changes it.

That is as it is prepared, and at its very end.
"""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from sage_edge.server.early_signals import ENDING, NOT_ENDING
from sage_edge.server.worker_link import VARIABLE, Inheritance
from tests.kit.edge import WAIT_SECONDS, Output, clean_environment, edge_command, run_edge, running_edge

IMPORTING = """
import os, signal, sys

class Interrupted:
    def find_spec(self, name, path=None, target=None):
        if name == "trio":
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.{name})

import sage_edge.cli

sys.meta_path.insert(0, Interrupted())
sage_edge.cli.main()
"""
LOADING = """
import sys, time
print("loading", flush=True)
time.sleep(60)
"""
LOADING_IN_STEPS = """
import os, signal, time
os.kill(os.getpid(), signal.SIGINT)
os.kill(os.getpid(), signal.SIGTERM)
while True:
    time.sleep(0.01)
"""
SWALLOWING = """
import sys, time
print("loading", flush=True)
try:
    time.sleep(60)
except Exception:
    pass
time.sleep(60)
"""
SWALLOWING_ALL = """
import os, signal
try:
    os.kill(os.getpid(), signal.SIGTERM)
    signal.sigtimedwait([], 1)  # somewhere, for the handler to run
except:
    pass

async def app(scope, receive, send):
    assert scope["type"] == "http"
"""
STREAMING = """
import asyncio, pathlib

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"begun ", "more_body": True})
    while not pathlib.Path("finish").exists():
        await asyncio.sleep(0.01)
    await send({"type": "http.response.body", "body": b"finished"})
"""
LINGERING = """
import asyncio, atexit, time

def linger():
    print("lingering", flush=True)
    time.sleep(0.5)

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        atexit.register(linger)
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        print("shutting down", flush=True)
        await asyncio.sleep(0.3)
        await send({"type": "lifespan.shutdown.complete"})
"""


def test_a_signal_that_a_module_swallows_ends_the_edge_as_soon_as_it_can(tmp_path: Path) -> None:
    (tmp_path / "swallows.py").write_text(SWALLOWING_ALL)
    result = run_edge("serve", "--host", "127.0.0.1", "--port", "0", "--gateway", "swallows:app", cwd=tmp_path)
    assert result.returncode == 0
    assert "[info] stopped" in result.stderr


@pytest.mark.parametrize("workers", [(), ("--workers", "1")], ids=["one process", "workers"])
@pytest.mark.parametrize("number", ENDING)
def test_a_signal_while_the_edge_is_imported_ends_it_cleanly(number: signal.Signals, workers: tuple[str, ...]) -> None:
    own = ["--host", "127.0.0.1", "--port", "0", "--metrics-bind", "none", "--admin-bind", "none"]
    command = [sys.executable, "-c", IMPORTING.format(name=number.name), "serve", *own, *workers]
    result = subprocess.run(command, env=clean_environment(), capture_output=True, text=True, timeout=WAIT_SECONDS)
    assert result.returncode == 0
    assert f"[info] ending at once [sage_edge] signal={number.name}" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_worker_that_a_signal_ends_as_it_is_imported_says_which_it_is() -> None:
    supervisors, workers = socket.socketpair()
    with supervisors, workers:
        inheritance = Inheritance(2, workers.fileno(), [[], []], [])
        result = subprocess.run(
            [sys.executable, "-c", IMPORTING.format(name="SIGTERM"), "serve", "--workers", "2"],
            env=clean_environment({VARIABLE: inheritance.to_text()}),
            pass_fds=[workers.fileno()],
            capture_output=True,
            text=True,
            timeout=WAIT_SECONDS,
        )
    assert result.returncode == 0
    assert "[info] ending at once [sage_edge] signal=SIGTERM worker=2" in result.stderr


@pytest.mark.parametrize("number", ENDING)
@pytest.mark.parametrize("source", [LOADING, SWALLOWING], ids=["loading", "swallowing"])
def test_a_signal_while_the_gateway_is_loaded_ends_the_edge_cleanly(
    tmp_path: Path, source: str, number: signal.Signals
) -> None:
    (tmp_path / "slow.py").write_text(source)
    command = edge_command(
        "serve", "--host", "127.0.0.1", "--port", "0", "--metrics-bind", "none", "--admin-bind", "none"
    )
    with subprocess.Popen(
        [*command, "--gateway", "slow:app"],
        env=clean_environment(),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        Output(process.stdout).wait_for("loading")
        log = Output(process.stderr)
        process.send_signal(number)
        assert process.wait(10) == 0
        assert "ending at once" in log.wait_for_end()
        assert "Traceback" not in log.text


def test_a_signal_that_comes_twice_while_the_gateway_is_loaded_ends_the_edge_cleanly(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(LOADING_IN_STEPS)
    result = run_edge("serve", "--host", "127.0.0.1", "--port", "0", "--gateway", "slow:app", cwd=tmp_path)
    assert result.returncode == 0
    assert result.stderr.count("ending at once") == 1
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("workers", [(), ("--workers", "1")], ids=["one process", "workers"])
def test_a_signal_that_comes_twice_is_no_second_one(tmp_path: Path, workers: tuple[str, ...]) -> None:
    (tmp_path / "streaming.py").write_text(STREAMING)
    options = ("--gateway", "streaming:app", *workers, "--drain-seconds", "600")
    with (
        running_edge(*options, cwd=tmp_path) as edge,
        edge.client(http2=False) as client,
        client.stream("GET", "/") as stream,
    ):
        body = stream.iter_bytes()
        received = next(body)
        edge.process.send_signal(signal.SIGTERM)
        edge.process.send_signal(signal.SIGINT)
        edge.log.wait_for(r"streams in flight .*streams=1")
        (tmp_path / "finish").touch()
        assert received + b"".join(body) == b"begun finished"
        assert edge.process.wait(WAIT_SECONDS) == 0
    assert "ending at once" not in edge.log.text


@pytest.mark.parametrize("workers", [(), ("--workers", "2")], ids=["one process", "workers"])
@pytest.mark.parametrize("number", [*ENDING, *NOT_ENDING])
def test_signals_in_any_number_do_not_change_the_exit_code(
    tmp_path: Path, workers: tuple[str, ...], number: signal.Signals
) -> None:
    (tmp_path / "lingering.py").write_text(LINGERING)
    with running_edge("--gateway", "lingering:app", *workers, cwd=tmp_path) as edge:
        edge.process.send_signal(number if number in ENDING else signal.SIGTERM)
        edge.output.wait_for("shutting down")
        while edge.process.poll() is None:
            edge.process.send_signal(number)
            try:
                edge.process.wait(0.005)
            except subprocess.TimeoutExpired:
                continue
        assert edge.process.wait(WAIT_SECONDS) == 0
    assert "Traceback" not in edge.log.text
