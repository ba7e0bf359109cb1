"""A terminal that takes nothing (Ctrl-S, a hung ssh) holds up no part of an edge."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import termios
from pathlib import Path

import httpx2

from tests.kit.edge import WAIT_SECONDS, Output, clean_environment, edge_command
from tests.kit.eventually import eventually

GATEWAY = """
import asyncio

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"begun", "more_body": True})
    await asyncio.Event().wait()
"""
OWN = ("--host", "127.0.0.1", "--port", "0", "--metrics-bind", "none", "--admin-bind", "none")


def test_a_drain_is_over_at_its_limit_where_the_terminal_is_stopped(tmp_path: Path) -> None:
    (tmp_path / "endless.py").write_text(GATEWAY)
    master, terminal = pty.openpty()
    command = edge_command("serve", *OWN, "--gateway", "endless:app", "--drain-seconds", "2")
    try:
        with subprocess.Popen(
            command, env=clean_environment(), cwd=tmp_path, stdout=subprocess.PIPE, stderr=terminal, text=True
        ) as process:
            try:
                assert process.stdout is not None
                port = int(Output(process.stdout).wait_for(r"listening +http://\S+:(\d+)")[1])
                assert eventually(lambda: httpx2.get(f"http://127.0.0.1:{port}/readyz").is_success, WAIT_SECONDS)
                with httpx2.stream("GET", f"http://127.0.0.1:{port}/", timeout=None) as stream:
                    assert next(stream.iter_bytes()) == b"begun"
                    termios.tcflow(terminal, termios.TCOOFF)
                    process.send_signal(signal.SIGTERM)
                    assert process.wait(WAIT_SECONDS) == 0
            finally:
                process.kill()
    finally:
        os.close(master)
        os.close(terminal)
