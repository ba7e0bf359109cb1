"""Many streams in flight when the edge is told to end: each finishes, and who comes anew is answered or refused."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.kit.edge import WAIT_SECONDS, Edge, running_edge
from tests.kit.eventually import eventually
from tests.kit.raw_http2 import RawHTTP2, raw_http2

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
DELAY_SECONDS = 2
"""How long connections and streams are taken after the end was asked for."""
OPEN_CONNECTIONS = 4
LONG, SHORT = 300, 3
"""Events of the streams that keep those open, and of the new ones."""
REFUSED_STREAM = 7


def events(count: int) -> bytes:
    """What a stream of so many consists of."""
    return b"".join(b"data: %d\n\n" % event for event in range(count))


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


class Newcomers:
    """Streams that are begun one after the other, on open connections and on new ones, until each way is refused.

    Attributes:
        answered: how many got all that they had asked for.
        refused: how many streams and connections were refused, after readiness had told of the end.
        lost: what became of any others.
    """

    def __init__(self, edge: Edge) -> None:
        self._edge = edge
        self._is_drain_told = False
        self.answered = self.refused = 0
        self.lost: list[str] = []

    @contextmanager
    def coming(self) -> Iterator[Newcomers]:
        """They come, and nobody is refused, when the block begins; all have been refused when it ends."""
        with ThreadPoolExecutor(OPEN_CONNECTIONS + 1) as threads:
            jobs = [threads.submit(self._come_to_open_connection) for _ in range(OPEN_CONNECTIONS)]
            jobs.append(threads.submit(self._come_to_new_connections))
            assert eventually(lambda: self.answered > 2 * len(jobs), WAIT_SECONDS)
            assert not self.refused
            yield self
            for job in jobs:
                job.result()

    def _come_to_open_connection(self) -> None:
        with raw_http2(self._edge) as client:
            long = client.request(b"/%d" % LONG)
            while self._is_answered(client):
                pass
            response = client.wait_for(long)
            if (response.is_ended, response.body) != (True, events(LONG)):
                self.lost.append(f"a long stream: {response}")

    def _come_to_new_connections(self) -> None:
        while True:
            with ExitStack() as stack:
                try:
                    client = stack.enter_context(raw_http2(self._edge))
                except ConnectionRefusedError:
                    self._note_refusal("a connection")
                    return
                self._is_answered(client)  # or refused: another connection may be taken still

    def _is_answered(self, client: RawHTTP2) -> bool:
        """Ask for readiness, and for a stream; whether none was refused."""
        for path, body in ((b"/readyz", None), (b"/%d" % SHORT, events(SHORT))):
            stream_id = client.request(path)
            response = client.wait_for(stream_id)
            if response.is_ended and (body is None or (response.status, response.body) == (200, body)):
                self._is_drain_told |= response.status == 503
                self.answered += 1
            else:
                if self._is_refused(client, stream_id):
                    self._note_refusal("a stream")
                else:
                    self.lost.append(f"{path.decode()}: {response}, goaways {client.goaways}")
                return False
        return True

    def _is_refused(self, client: RawHTTP2, stream_id: int) -> bool:
        """Whether a GOAWAY says that a stream was not taken, and all else fits that: it may be tried elsewhere."""
        response = client.responses[stream_id]
        is_behind_end = bool(client.goaways) and client.goaways[-1].last_stream_id < stream_id
        return is_behind_end and not response.headers and response.reset_code in {None, REFUSED_STREAM}

    def _note_refusal(self, what: str) -> None:
        self.refused += 1
        if not self._is_drain_told:
            self.lost.append(f"{what} was refused before readiness had told of the end")


@pytest.mark.parametrize("options", [("asyncio",), ("trio",), ("asyncio", "--workers", "2")], ids=" ".join)
def test_every_stream_finishes_before_the_edge_ends_and_no_new_one_is_lost(
    tmp_path: Path, certificates: Path, options: tuple[str, ...]
) -> None:
    (tmp_path / "many.py").write_text(GATEWAY.format(library=options[0]))
    delay = ("--drain-delay-seconds", str(DELAY_SECONDS))
    arguments = ("--gateway", "many:app", "--gateway-loop", *options, "--no-access-log", *delay)
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
        with Newcomers(edge).coming() as newcomers:
            assert edge.stop(signal.SIGTERM) == 0
        assert newcomers.lost == []
        assert newcomers.refused > OPEN_CONNECTIONS
        for directory, (lengths, curl) in jobs.items():
            with curl:
                assert curl.wait(WAIT_SECONDS) == 0
            for number, length in enumerate(lengths):
                assert (directory / str(number)).read_bytes() == events(length)
        assert "streams cut" not in edge.log.wait_for_end()
