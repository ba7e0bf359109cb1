"""Workers that cannot be started: what serves goes on, and only where nothing can does the edge end."""

from __future__ import annotations

import os
import re
import signal
import sys
from datetime import datetime
from pathlib import Path

import httpx2
import pytest

from tests.e2e.test_worker_leaving import ask, rest_of, running_workers, stream
from tests.e2e.test_worker_leaving import gateway as gateway
from tests.e2e.test_workers import find_pids
from tests.kit.edge import WAIT_SECONDS, Edge, clean_environment, run_edge, running_edge, running_process

pytestmark = pytest.mark.usefixtures("unmeasured_workers")

BROKEN = "import pathlib\nif pathlib.Path('broken').exists(): raise RuntimeError('broken on purpose')\n"
KILLED_ONCE = """
import os, pathlib, signal
if not pathlib.Path("died").exists():
    pathlib.Path("died").touch()
    os.kill(os.getpid(), signal.SIGKILL)
"""
KILLED = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)\n"
RETRIED = r"worker did not start and is tried again .*"


def prepend(gateway: Path, code: str) -> None:
    """Have the gateway do something when it is imported."""
    module = gateway / "leaving.py"
    module.write_text(code + module.read_text())


def test_a_worker_that_cannot_be_replaced_does_not_take_those_with_it_that_serve(gateway: Path) -> None:
    prepend(gateway, BROKEN)
    with running_workers(gateway) as edge:
        pids = find_pids(edge)
        (gateway / "broken").touch()
        os.kill(pids[1], signal.SIGKILL)
        edge.log.wait_for(RETRIED + r"worker=1 failed_starts=6 delay_seconds=5\.0")
        assert {ask(edge) for _ in range(8)} == {pids[2]}
        (gateway / "broken").unlink()
        edge.log.wait_for(r"worker ready .*worker=1", count=2)
        assert {ask(edge) for _ in range(32)} == set(find_pids(edge).values())
        assert edge.stop() == 0


def test_where_no_worker_serves_any_more_and_none_starts_the_edge_ends(gateway: Path) -> None:
    prepend(gateway, BROKEN)
    with running_workers(gateway) as edge:
        (gateway / "broken").touch()
        for pid in find_pids(edge).values():
            os.kill(pid, signal.SIGKILL)
        assert edge.process.wait(120) == 3
        assert "fails to start, again and again" in edge.log.wait_for_end()


def test_while_streams_end_in_a_worker_that_leaves_others_are_tried(gateway: Path) -> None:
    prepend(gateway, BROKEN)
    with running_workers(gateway, "--drain-seconds", "300") as edge, stream(edge) as (pid, curl):
        (gateway / "broken").touch()
        for each in find_pids(edge).values():
            os.kill(each, signal.SIGTERM if each == pid else signal.SIGKILL)
        edge.log.wait_for(RETRIED + "failed_starts=5", count=2)
        edge.log.wait_for(RETRIED + "failed_starts=6")
        (gateway / "broken").unlink()
        edge.log.wait_for(r"worker ready", count=4)
        assert pid not in {ask(edge) for _ in range(8)}
        (gateway / "finish").touch()
        assert rest_of(curl) == ("finished", 0)
        assert edge.stop() == 0


def test_a_first_worker_that_the_system_kills_is_started_again(gateway: Path) -> None:
    prepend(gateway, KILLED_ONCE)
    with running_edge("--gateway", "leaving:app", "--workers", "1", cwd=gateway) as edge:
        edge.log.wait_for(r"worker ended .*reason='signal SIGKILL'")
        edge.log.wait_for(RETRIED + "failed_starts=1")
        assert ask(edge)
        assert edge.stop() == 0


def test_a_first_worker_that_is_always_killed_ends_the_edge(gateway: Path) -> None:
    prepend(gateway, KILLED)
    options = ("--gateway", "leaving:app", "--workers", "2", "--port", "0", "--host", "127.0.0.1")
    done = run_edge(*options, "--metrics-bind", "none", "--admin-bind", "none", cwd=gateway)
    assert done.returncode == 3
    assert "sage-edge: error: worker 1 fails to start, again and again" in done.stderr
    assert done.stderr.count("signal SIGKILL") == 5


def times(edge: Edge, what: str) -> list[datetime]:
    """When something was logged."""
    return [datetime.fromisoformat(time) for time in re.findall(rf"^(\S+) .*\] {what} ", edge.log.text, re.MULTILINE)]


def test_workers_that_others_tell_to_end_once_they_are_ready_are_followed_with_growing_delays(gateway: Path) -> None:
    with running_edge("--gateway", "leaving:app", "--workers", "1", cwd=gateway) as edge:
        for count in range(1, 6):
            edge.log.wait_for(r"worker ready", count=count)
            os.kill(find_pids(edge)[1], signal.SIGTERM)
        edge.log.wait_for(r"worker ready", count=6)
        assert ask(edge) == find_pids(edge)[1]
        pauses = [
            (started_at - ready_at).total_seconds()
            for ready_at, started_at in zip(
                times(edge, "worker ready"), times(edge, "worker started")[1:], strict=False
            )
        ]
        assert all(pause > expected for pause, expected in zip(pauses, (0.1, 0.2, 0.4, 0.8, 1.6), strict=True))
        assert edge.stop() == 0
    assert "[error]" not in edge.log.text


SHOWING = """
import sys

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        return
    shown = f"optimize {sys.flags.optimize}, development {sys.flags.dev_mode}, safe path {sys.flags.safe_path}"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": shown.encode()})
"""


def test_a_worker_imports_as_the_command_does_that_has_started_the_edge(tmp_path: Path) -> None:
    gateway, command = tmp_path / "gateway", tmp_path / "sage-edge"
    gateway.mkdir()
    (gateway / "showing.py").write_text(SHOWING)
    (gateway / "queue.py").write_text("raise RuntimeError('not the standard library')")
    command.write_text("from sage_edge.cli import main\nmain()\n")
    options = ("serve", "--gateway", "showing:app", "--workers", "1", "--host", "127.0.0.1", "--port", "0")
    own = ("--metrics-bind", "none", "--admin-bind", "none")
    words = [sys.executable, "-O", "-X", "dev", str(command), *options, *own]
    with running_process(words, cwd=gateway, env=clean_environment()) as (process, output, log):
        log.wait_for(r"worker ready")
        port = output.wait_for(r"listening +http://\S+:(\d+)")[1]
        shown = httpx2.get(f"http://127.0.0.1:{port}/", trust_env=False).text
        assert shown == "optimize 1, development True, safe path True"
        process.terminate()
        assert process.wait(WAIT_SECONDS) == 0
