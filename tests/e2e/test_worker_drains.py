"""The end of an edge with workers: one account of what is left for all of them, and the time that was promised."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.e2e.test_service_manager import Manager
from tests.e2e.test_worker_leaving import gateway as gateway
from tests.e2e.test_worker_leaving import rest_of, running_workers, stream
from tests.kit.edge import WAIT_SECONDS, Edge, Output, clean_environment, edge_command, running_edge

SLOW_END = """
import asyncio, pathlib

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await asyncio.sleep(8)
        pathlib.Path("cleaned").touch()
        await send({"type": "lifespan.shutdown.complete"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"%d\\n", "more_body": True})
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            pass  # what the edge gives up after five seconds
"""
STREAMS = 5


def open_streams(edge: Edge, stack: ExitStack) -> list[subprocess.Popen[str]]:
    """Streams that both workers have some of."""
    streams = [stack.enter_context(stream(edge)) for _ in range(STREAMS)]
    for _ in range(40):
        if len({pid for pid, _ in streams}) == 2:
            break
        streams.append(stack.enter_context(stream(edge)))
    return [curl for _, curl in streams]


def test_the_streams_of_all_workers_are_told_together(gateway: Path, tmp_path: Path) -> None:
    manager = Manager(tmp_path / "notify")
    with manager.sock, ExitStack() as stack:
        arguments = ("--gateway", "leaving:app", "--workers", "2", "--drain-seconds", "50")
        env = {"NOTIFY_SOCKET": str(manager.path)}
        edge = stack.enter_context(running_edge(*arguments, cwd=gateway, env=env))
        edge.log.wait_for(r"worker ready", count=2)
        curls = open_streams(edge, stack)
        edge.process.send_signal(signal.SIGTERM)
        edge.log.wait_for(rf"streams in flight .*streams={len(curls)} seconds_left=[34]\d")
        manager.wait_for(rf"^STATUS=draining: {len(curls)} streams in flight, [34]\d s left")
        (gateway / "finish").touch()
        assert [rest_of(curl) for curl in curls] == [("finished", 0)] * len(curls)
        assert edge.process.wait(WAIT_SECONDS) == 0
    log = edge.log.wait_for_end()
    assert not re.search(r"streams in flight .*worker=", log)
    assert "streams cut" not in log


@pytest.mark.parametrize("is_at_once", [False, True])
def test_at_the_end_it_is_told_how_many_streams_were_cut_in_all(gateway: Path, is_at_once: bool) -> None:
    seconds = "60" if is_at_once else "0.5"
    with running_workers(gateway, "--drain-seconds", seconds) as edge, ExitStack() as stack:
        count = len(open_streams(edge, stack))
        edge.process.send_signal(signal.SIGTERM)
        edge.log.wait_for(r"draining .*order=drain", count=2)
        if is_at_once:
            edge.end_at_once(signal.SIGINT)
        assert edge.process.wait(WAIT_SECONDS) == 0
        assert re.search(rf"streams cut in all .*streams={count}\b(?!.*worker=)", edge.log.wait_for_end())


def test_a_terminal_has_one_line_for_all_workers(gateway: Path) -> None:
    master, terminal = os.openpty()
    options = ("--gateway", "leaving:app", "--workers", "2", "--host", "127.0.0.1", "--port", "0")
    command = edge_command("serve", *options, "--metrics-bind", "none", "--admin-bind", "none")
    with ExitStack() as stack:
        process = stack.enter_context(
            subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=terminal, cwd=gateway, env=clean_environment(), text=True
            )
        )
        os.close(terminal)
        assert process.stdout is not None
        output = Output(process.stdout)
        edge = Edge(process, output, output, None, int(output.wait_for(r"listening +http://\S+:(\d+)")[1]))
        seen = b""
        while seen.count(b"worker ready") < 2:
            seen += os.read(master, 4096)
        curls = open_streams(edge, stack)
        process.send_signal(signal.SIGTERM)
        while not re.search(rb"(?:draining: \d+ streams? in flight.*){3}", seen, re.DOTALL):
            seen += os.read(master, 4096)
        assert {int(count) for count in re.findall(rb"draining: (\d+) stream", seen)} == {len(curls)}
        (gateway / "finish").touch()
        assert [rest_of(curl) for curl in curls] == [("finished", 0)] * len(curls)
        process.stdout.close()
        while process.poll() is None:
            try:
                os.read(master, 4096)
            except OSError:  # the last that had it open has ended
                break
        assert process.wait(WAIT_SECONDS) == 0
        os.close(master)


def test_a_gateway_has_the_time_to_end_that_it_has_without_a_supervisor(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(SLOW_END)
    with running_edge("--gateway", "slow:app", "--workers", "1", "--drain-seconds", "0.5", cwd=tmp_path) as edge:
        command = ["curl", "--silent", "--no-buffer", edge.url]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as curl:
            assert curl.stdout is not None
            assert curl.stdout.readline()
            assert edge.stop() == 0
    assert "the gateway ignored its cancellation" in edge.log.text
    assert "is killed" not in edge.log.text
    assert (tmp_path / "cleaned").exists()
