"""Streams that come, end, are reset and are left, for as long as asked: `python -m tests.fuzz.soak --minutes 10`.

Afterwards the edge has to be as it was: its tasks, descriptors and, but for a little, its memory. What finishes
has to be whole. With `--workers 2` they are restarted one by one meanwhile, again and again, and with `--certificates`
those are swapped: nothing may fail by it.
"""

from __future__ import annotations

import argparse
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import trustme

from tests.fuzz.live import count_descriptors, rss_bytes
from tests.kit.edge import Edge, running_edge
from tests.kit.eventually import eventually
from tests.kit.frame_client import frame_client, request
from tests.kit.http2_frames import reset_frame
from tests.kit.tls_files import CA, COMBINED

GATEWAY = """
import asyncio

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while (message := await receive())["type"] != "lifespan.shutdown":
            await send({"type": message["type"] + ".complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    if scope["path"] == "/tasks":
        await send({"type": "http.response.body", "body": b"%d" % len(asyncio.all_tasks())})
        return
    for number in range(int(scope["path"][1:])):
        await send({"type": "http.response.body", "body": b"%d\\n" % number, "more_body": True})
        await asyncio.sleep(0.02)
    await send({"type": "http.response.body"})
"""
HTTP2_CONNECTIONS = 10
STREAMS = 45
"""Of each of them."""
HTTP1_CONNECTIONS = 50
MOST_EVENTS = 250
WARM_UP_SECONDS = 10.0
GROWTH_BYTES = 24 * 2**20
RESETS_A_SECOND = 10
"""Of a connection: its budget lets no more through."""
PAUSE_SECONDS = 3.0
"""Between restarts, and between swaps."""


@dataclass
class Figures:
    """What came of it."""

    finished: int = 0
    left: int = 0
    restarts: int = 0
    swaps: int = 0
    warm_bytes: int = 0
    end_bytes: int = 0
    faults: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        grown = (self.end_bytes - self.warm_bytes) / 2**20
        changes = f"{self.restarts} restarts, {self.swaps} swaps of certificates"
        return f"{self.finished} streams finished, {self.left} were left, {changes}, memory {grown:+.1f} MB"


@dataclass
class SoakedEdge:
    """An edge to be used hard.

    Attributes:
        edge: it.
        workers: how many it has; None for a single process.
        authority: of its certificate; None for plaintext.
    """

    edge: Edge
    workers: int | None
    authority: trustme.CA | None


@contextmanager
def soaked_edge(directory: Path, *, workers: int | None = None, has_certificates: bool = False) -> Iterator[SoakedEdge]:
    """One in a directory, which holds its certificate, too."""
    (directory / "soaked.py").write_text(GATEWAY)
    authority = trustme.CA() if has_certificates else None
    if authority is not None:
        authority.cert_pem.write_to_path(str(directory / CA))
        _put_certificate(directory, authority)
    options = ["--gateway", "soaked:app", "--no-access-log"]
    if authority is not None:
        options += ["--certfile", str(COMBINED)]
    if workers is not None:
        options += ["--workers", str(workers)]
    with running_edge(*options, cwd=directory) as edge:
        edge.ca = directory / CA if authority is not None else None
        edge.log.wait_for("worker ready" if workers else r"\[info\] ready", count=workers or 1)
        yield SoakedEdge(edge, workers, authority)


def soak(soaked: SoakedEdge, seed: int, seconds: float) -> Figures:
    """Use it for so long, and look at what is left then."""
    figures = Figures()
    edge = soaked.edge
    # Of the supervisor, where there is one: the workers of the end are others.
    tasks, descriptors = 0 if soaked.workers else count_tasks(edge), count_descriptors(edge)
    deadline = time.monotonic() + seconds
    jobs: list[Callable[[Edge, Random, float, Figures], None]] = [_use_http2] * HTTP2_CONNECTIONS + [_use_http1]
    if soaked.workers is not None:
        jobs.append(_restart)
    if soaked.authority is not None:
        authority = soaked.authority
        jobs.append(lambda edge, _, deadline, figures: _swap(edge, authority, deadline, figures))
    failures: list[str] = []

    def work(number: int) -> None:
        try:
            while time.monotonic() < deadline:
                jobs[number](edge, Random(seed + number), deadline, figures)  # noqa: S311
        except Exception as error:
            failures.append(f"client {number}: {error!r}")

    threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(len(jobs))]
    for thread in threads:
        thread.start()
    time.sleep(min(WARM_UP_SECONDS, seconds / 2))
    figures.warm_bytes = rss_bytes(edge)
    for thread in threads:
        thread.join(seconds + 60)
    figures.faults += failures
    if not eventually(lambda: count_descriptors(edge) <= descriptors + 1, 10):
        figures.faults.append(f"{count_descriptors(edge) - descriptors} descriptors are left")
    if soaked.workers is not None:
        if not eventually(lambda: _count_children(edge) == soaked.workers, 60):
            figures.faults.append(f"{_count_children(edge)} workers are left")
        figures.faults += [line for line in edge.log.text.splitlines() if "[error]" in line]
    elif not eventually(lambda: count_tasks(edge) <= tasks, 10):
        figures.faults.append(f"{count_tasks(edge) - tasks} tasks are left")
    figures.end_bytes = rss_bytes(edge)
    if figures.end_bytes - figures.warm_bytes > GROWTH_BYTES:
        figures.faults.append("too much memory")
    if "Traceback" in edge.log.text:
        figures.faults.append(edge.log.text[-4000:])
    return figures


def count_tasks(edge: Edge) -> int:
    """How many the gateway has, that of the question among them."""
    with edge.client(http2=False) as client:
        return int(client.get("/tasks").content)


def _use_http2(edge: Edge, random: Random, deadline: float, figures: Figures) -> None:
    """One connection, always with as many streams, until it is dropped amid them."""
    expected: dict[int, bytes] = {}
    dropped_at = min(deadline, time.monotonic() + random.uniform(2, 30))
    reset_at = 0.0
    with frame_client(edge) as client:
        while time.monotonic() < dropped_at and (expected or not client.goaways):
            while len(expected) < STREAMS and not client.goaways:
                count = random.randrange(MOST_EVENTS)
                expected[client.open(request(b"/%d" % count))] = _events(count)
            client.receive(0.5)
            for last, code in client.goaways:  # of a worker that leaves; it finishes what it has begun
                assert code == 0, "the edge ended a connection"
                expected = {number: body for number, body in expected.items() if number <= last}
            assert not client.is_closed or not expected, "the edge cut a connection"
            for stream_id in [number for number in expected if client.streams[number].is_ended]:
                assert client.streams.pop(stream_id).body == expected.pop(stream_id), "a stream was not whole"
                figures.finished += 1
            if time.monotonic() > reset_at and expected and not client.goaways:
                reset_at = time.monotonic() + 1 / RESETS_A_SECOND
                stream_id = random.choice(list(expected))
                del expected[stream_id]
                client.streams.pop(stream_id)
                client.send(reset_frame(stream_id))
                figures.left += 1
    figures.left += len(expected)


def _use_http1(edge: Edge, random: Random, deadline: float, figures: Figures) -> None:
    """Connections with a stream each, of which many are dropped."""
    sockets: list[socket.socket] = []
    for _ in range(HTTP1_CONNECTIONS):
        sock = socket.create_connection(("127.0.0.1", edge.port))
        if edge.ca is not None:
            sock = edge.ssl_context("http/1.1").wrap_socket(sock, server_hostname="localhost")
        sock.sendall(
            b"GET /%d HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n" % random.randrange(MOST_EVENTS)
        )
        sockets.append(sock)
    time.sleep(random.uniform(0, min(3, max(0, deadline - time.monotonic()))))
    for sock in sockets:
        with sock, suppress(TimeoutError):
            if random.random() < 0.5:
                figures.left += 1
                continue
            sock.settimeout(30)
            with sock.makefile("rb") as answered:
                answer = answered.read()
            assert answer.endswith(b"0\r\n\r\n"), "an answer was not whole"
            figures.finished += 1


def _restart(edge: Edge, random: Random, deadline: float, figures: Figures) -> None:
    """Have all workers replaced."""
    edge.process.send_signal(signal.SIGUSR2)
    edge.log.wait_for("restarted workers", count=figures.restarts + 1)
    figures.restarts += 1
    time.sleep(random.uniform(0, min(PAUSE_SECONDS, max(0, deadline - time.monotonic()))))


def _swap(edge: Edge, authority: trustme.CA, deadline: float, figures: Figures) -> None:
    """Put another certificate in place of the one in use."""
    assert edge.ca is not None
    _put_certificate(edge.ca.parent, authority)
    edge.process.send_signal(signal.SIGHUP)
    figures.swaps += 1
    time.sleep(min(PAUSE_SECONDS, max(0, deadline - time.monotonic())))


def _put_certificate(directory: Path, authority: trustme.CA) -> None:
    """Put one with its key there, at once: a worker may be starting."""
    new = directory / "new.pem"
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(new))
    new.replace(directory / COMBINED)


def _count_children(edge: Edge) -> int:
    process = Path(f"/proc/{edge.process.pid}/task/{edge.process.pid}/children")
    return len(process.read_text().split())


def _events(count: int) -> bytes:
    return b"".join(b"%d\n" % number for number in range(count))


def main() -> int:
    """Run; 1 where something was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int)
    parser.add_argument("--certificates", action="store_true")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as directory,
        soaked_edge(Path(directory), workers=options.workers, has_certificates=options.certificates) as soaked,
    ):
        figures = soak(soaked, options.seed, 60 * options.minutes)
    sys.stdout.write(f"{figures}\n" + "".join(f"WRONG: {fault}\n" for fault in figures.faults))
    return bool(figures.faults)


if __name__ == "__main__":
    sys.exit(main())
