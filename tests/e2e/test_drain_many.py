"""Many streams in flight when the edge is told to end: each finishes, byte for byte."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.kit.edge import WAIT_SECONDS, Edge, running_edge
from tests.kit.eventually import eventually

GATEWAY = """
import {library}

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while (message := await receive())["type"] != "lifespan.shutdown":
            await send({{"type": message["type"] + ".complete"}})
        await send({{"type": "lifespan.shutdown.complete"}})
        return
    headers = [(b"content-type", b"text/event-stream")]
    await send({{"type": "http.response.start", "status": 200, "headers": headers}})
    for number in range(int(scope["path"][1:])):
        await send({{"type": "http.response.body", "body": b"data: %d\\n\\n" % number, "more_body": True}})
        await {library}.sleep(0.02)
    await send({{"type": "http.response.body"}})
"""
LENGTHS = range(40, 140, 5)
"""Events of the 20 streams of each curl: it takes from 1 to 3 seconds."""
HTTP2_CONNECTIONS = 10
HTTP1_CONNECTIONS = 50


def start_curl(edge: Edge, directory: Path, lengths: Sequence[int], *options: str) -> subprocess.Popen[bytes]:
    """Ask for streams of so many events, all at once; each is written to a file of its own."""
    directory.mkdir()
    lines = [
        f'url = "{edge.url}/{length}"\noutput = "{directory / str(number)}"' for number, length in enumerate(lengths)
    ]
    (directory / "curl.txt").write_text("\n".join(lines))
    command = ["curl", "--silent", "--show-error", "--fail", "--cacert", str(edge.ca), "--no-buffer", *options]
    parallel = ["--parallel", "--parallel-max", str(len(lengths)), "--config", str(directory / "curl.txt")]
    return subprocess.Popen([*command, *parallel], stderr=subprocess.DEVNULL)  # it shows its progress


@pytest.mark.parametrize("options", [("asyncio",), ("trio",), ("asyncio", "--workers", "2")], ids=" ".join)
def test_every_stream_finishes_before_the_edge_ends(
    tmp_path: Path, certificates: Path, options: tuple[str, ...]
) -> None:
    (tmp_path / "many.py").write_text(GATEWAY.format(library=options[0]))
    arguments = ("--gateway", "many:app", "--gateway-loop", *options, "--no-access-log")
    with running_edge(*arguments, cwd=tmp_path, certificates=certificates) as edge:
        if "--workers" in options:
            edge.log.wait_for(r"worker ready", count=2)
        http2 = [tmp_path / f"http2-{number}" for number in range(HTTP2_CONNECTIONS)]
        jobs = {each: (list(LENGTHS), start_curl(edge, each, LENGTHS, "--http2")) for each in http2}
        lengths = [LENGTHS[number % len(LENGTHS)] for number in range(HTTP1_CONNECTIONS)]
        http1 = tmp_path / "http1"
        jobs[http1] = (lengths, start_curl(edge, http1, lengths, "--http1.1", "--parallel-immediate"))
        files = [directory / str(number) for directory, (lengths, _) in jobs.items() for number in range(len(lengths))]
        assert eventually(lambda: all(file.exists() and file.stat().st_size for file in files), WAIT_SECONDS)
        assert edge.stop(signal.SIGTERM) == 0
        for directory, (lengths, curl) in jobs.items():
            with curl:
                assert curl.wait(WAIT_SECONDS) == 0
            for number, length in enumerate(lengths):
                expected = b"".join(b"data: %d\n\n" % event for event in range(length))
                assert (directory / str(number)).read_bytes() == expected
        assert "streams cut" not in edge.log.wait_for_end()
