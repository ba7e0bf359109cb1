"""What a gateway leaves running does not hold up the end: the process exits in time, with its own code, and says what.

Each edge's pipes are read to their end, which is that of whatever the gateway has started.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.kit.edge import run_edge, running_edge

WORKING = """
import atexit, multiprocessing, threading, time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

fork = multiprocessing.get_context("fork")

def work():
    while True:
        time.sleep(1)

async def app(scope, receive, send):
    assert scope["type"] == "http"

"""
THREAD = "threading.Thread(target=work, name='engine').start()\n"
JOB = "pool = ThreadPoolExecutor(1, 'tokenizer')\npool.submit(work)\n"
PROCESS = "fork.Process(target=work, name='model').start()\n"
PROCESS_JOB = "pool = ProcessPoolExecutor(1, fork)\npool.submit(work)\n"
HANDLER = "atexit.register(work)\n"
PROGRAM = """
import subprocess

script = "trap 'echo told to end; exit' TERM; echo going on; for _ in $(seq 300); do sleep 0.1; done"
print("program", subprocess.Popen(["sh", "-c", script]{options}).pid, flush=True)
"""
FAULT = "raise RuntimeError('no model file')\n"

LEFT = r"\[error\] what the gateway has left running does not end and is left behind "
OWN = ("--host", "127.0.0.1", "--port", "0", "--metrics-bind", "none", "--admin-bind", "none")


@pytest.mark.parametrize(
    ("code", "left", "options"),
    [
        (THREAD, r".*threads=engine ", ("--gateway-loop", "trio")),
        (THREAD, r".*threads=engine ", ("--workers", "1")),
        (JOB, r".*threads=tokenizer_0 ", ()),
        (PROCESS, r".*processes=model", ()),
        (PROCESS_JOB, r".*processes=ForkProcess-1", ("--workers", "1")),
        (HANDLER, r"", ()),
    ],
    ids=["thread", "a worker's thread", "job", "process", "a worker's process", "handler"],
)
def test_a_drain_ends_though_something_goes_on(tmp_path: Path, code: str, left: str, options: tuple[str, ...]) -> None:
    (tmp_path / "working.py").write_text(WORKING + code)
    with running_edge("--gateway", "working:app", *options, cwd=tmp_path) as edge:
        assert edge.stop() == 0
        edge.log.wait_for_end()
        edge.log.wait_for(LEFT + left)
    assert "is killed" not in edge.log.text


@pytest.mark.parametrize("workers", [(), ("--workers", "1")], ids=["one process", "workers"])
@pytest.mark.parametrize("code", [THREAD, PROCESS], ids=["thread", "process"])
def test_a_start_that_fails_ends_the_edge_though_something_goes_on(
    tmp_path: Path, code: str, workers: tuple[str, ...]
) -> None:
    (tmp_path / "failing.py").write_text(WORKING + code + FAULT)
    done = run_edge("serve", *OWN, *workers, "--gateway", "failing:app", cwd=tmp_path)
    assert done.returncode == 3
    assert "no model file" in done.stderr
    assert "is left behind" in done.stderr
    assert "is killed" not in done.stderr


def test_a_check_ends_though_something_goes_on(tmp_path: Path) -> None:
    (tmp_path / "working.py").write_text(WORKING + THREAD + PROCESS)
    done = run_edge("check", "--gateway", "working:app", cwd=tmp_path)
    assert done.returncode == 0
    assert "everything is in order" in done.stdout
    assert "is left behind" in done.stderr


def test_a_worker_whose_supervisor_was_killed_ends_though_something_goes_on(tmp_path: Path) -> None:
    (tmp_path / "working.py").write_text(WORKING + THREAD)
    with running_edge("--gateway", "working:app", "--workers", "1", cwd=tmp_path) as edge:
        edge.process.kill()
        edge.log.wait_for_end()
        edge.log.wait_for(LEFT + r".*threads=engine ")


def test_what_ends_in_time_is_waited_for(tmp_path: Path) -> None:
    finishing = "threading.Thread(target=lambda: (threading.main_thread().join(), print('finished'))).start()\n"
    last = "atexit.register(print, 'flushed')\n"
    (tmp_path / "working.py").write_text(WORKING + finishing + last)
    with running_edge("--gateway", "working:app", cwd=tmp_path) as edge:
        assert edge.stop() == 0
        assert edge.output.wait_for_end().endswith("finished\nflushed\n")
    assert "is left behind" not in edge.log.text


@pytest.mark.parametrize(
    ("options", "workers"),
    [("", ()), (", start_new_session=True", ("--workers", "1"))],
    ids=["one process", "a worker, in a session of its own"],
)
def test_another_program_goes_on(tmp_path: Path, options: str, workers: tuple[str, ...]) -> None:
    (tmp_path / "working.py").write_text(WORKING + PROGRAM.format(options=options))
    with running_edge("--gateway", "working:app", *workers, cwd=tmp_path) as edge:
        pid = int(edge.output.wait_for(r"program (\d+)")[1])
        edge.output.wait_for("going on")
        assert edge.stop() == 0
        os.kill(pid, signal.SIGTERM)
        edge.output.wait_for("told to end")


def test_another_program_in_a_workers_process_group_is_killed_with_it(tmp_path: Path) -> None:
    (tmp_path / "working.py").write_text(WORKING + PROGRAM.format(options=""))
    with running_edge("--gateway", "working:app", "--workers", "1", cwd=tmp_path) as edge:
        edge.output.wait_for("going on")
        assert edge.stop() == 0
        assert "told to end" not in edge.output.wait_for_end()
