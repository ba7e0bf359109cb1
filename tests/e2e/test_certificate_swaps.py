"""Certificates that are swapped while an edge is under load: nobody notices but who looks at the certificate."""

from __future__ import annotations

import shutil
import signal
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import httpx2
import pytest
import trustme

from tests.kit.edge import Edge, running_edge
from tests.kit.eventually import eventually
from tests.kit.tls_files import serial_of, write_pair

SWAPS = 50
GATEWAY = r"""
import asyncio, pathlib

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        return
    headers = [(b"content-type", b"text/event-stream")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    count = 0
    while not pathlib.Path("finish").exists():
        await send({"type": "http.response.body", "body": b"data: %d\n\n" % count, "more_body": True})
        count += 1
        await asyncio.sleep(0.02)
    await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})
"""


class Mounted:
    """A directory of certificates as Kubernetes mounts a secret: its files are links into `..data`, itself a link."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.authority = trustme.CA()
        self.versions = 0
        directory.mkdir()
        self.authority.cert_pem.write_to_path(str(directory / "ca.pem"))
        for name in ("cert.pem", "key.pem"):
            (directory / name).symlink_to(Path("..data") / name)

    def put(self, make: Callable[[Path], object]) -> int:
        """Put another version in place of the last, at once; the serial number of a good one's certificate."""
        self.versions += 1
        version = self.directory / f"..version_{self.versions}"
        version.mkdir()
        make(version)
        link = self.directory / "..data_tmp"
        link.symlink_to(version.name)
        link.replace(self.directory / "..data")
        for old in self.directory.glob(f"..version_{self.versions - 1}"):
            shutil.rmtree(old)
        try:
            return serial_of(self.directory / "cert.pem")
        except ValueError:
            return 0

    def put_good(self) -> int:
        """A pair that can be served."""
        return self.put(lambda version: write_pair(version, self.authority, "localhost"))

    def put_bad(self, number: int) -> None:
        """One of a few that cannot."""

        def damage(version: Path) -> None:
            old = {"not_before": datetime(2019, 1, 1), "not_after": datetime(2020, 1, 1)} if number == 0 else {}
            write_pair(version, self.authority, "elsewhere.test" if number == 1 else "localhost", **old)
            if number == 2:
                shutil.copy(self.directory / "key.pem", version / "key.pem")
            elif number == 3:
                (version / "cert.pem").write_bytes((version / "cert.pem").read_bytes()[:300])
            elif number == 4:
                (version / "key.pem").unlink()

        self.put(damage)


class Handshakes:
    """New connections, one after the other on each of a few threads, that verify what they are shown."""

    def __init__(self, edge: Edge, serial: int) -> None:
        self._edge = edge
        self._context = edge.ssl_context("h2", "http/1.1")
        self._is_over = threading.Event()
        self.history = [serial]
        """The serial numbers of what was put there, the latest last."""
        self.confirmed = 0
        """From which on they may be shown: the older ones are no longer in use."""
        self.count = 0
        self.failures: list[str] = []

    def make(self) -> int:
        """One connection; the serial number it was shown."""
        address = ("127.0.0.1", self._edge.port)
        with (
            socket.create_connection(address, timeout=30) as sock,
            self._context.wrap_socket(sock, server_hostname="localhost") as tls,
        ):
            return serial_of(tls.getpeercert(binary_form=True) or b"")

    @contextmanager
    def running(self, threads: int = 3) -> Iterator[None]:
        """The load, until the block ends."""
        running = [threading.Thread(target=self._go_on) for _ in range(threads)]
        for thread in running:
            thread.start()
        try:
            yield
        finally:
            self._is_over.set()
            for thread in running:
                thread.join()

    def _go_on(self) -> None:
        while not self._is_over.is_set():
            first = self.confirmed
            try:
                serial = self.make()
                self.count += 1
                if serial not in self.history[first:]:
                    self.failures.append(f"a certificate that is no longer in use, or not yet: {serial}")
            except (OSError, ssl.SSLError) as error:
                self.failures.append(repr(error))


class Streams:
    """Event streams that are read to their end."""

    def __init__(self, edge: Edge, finish: Path, *, http2: int, http1: int) -> None:
        self._edge = edge
        self._finish = finish
        self.wanted = http2 + http1
        self.bodies: list[str] = []
        self.failures: list[str] = []
        self.begun = threading.Semaphore(0)
        self._clients = [edge.client(http2=True), *(edge.client(http2=False) for _ in range(http1))]
        readers = [self._clients[0]] * http2 + self._clients[1:]
        self._threads = [threading.Thread(target=self._read, args=(client,)) for client in readers]

    def __enter__(self) -> Streams:
        for thread in self._threads:
            thread.start()
        for _ in self._threads:
            assert self.begun.acquire(timeout=30), self.failures
        return self

    def __exit__(self, *_: object) -> None:
        self._finish.touch()
        for thread in self._threads:
            thread.join()
        for client in self._clients:
            client.close()

    def _read(self, client: httpx2.Client) -> None:
        try:
            with client.stream("GET", "/") as response:
                chunks = []
                for chunk in response.iter_text():
                    if not chunks:
                        self.begun.release()
                    chunks.append(chunk)
            self.bodies.append("".join(chunks))
        except httpx2.HTTPError as error:
            self.failures.append(repr(error))


def wait_until_shown(handshakes: Handshakes, serial: int) -> None:
    """Wait until a new client sees a certificate."""
    assert eventually(lambda: handshakes.make() == serial, 30), "the certificate is not loaded"


@pytest.fixture
def mounted(tmp_path: Path) -> Mounted:
    """A mounted secret, and beside it a gateway that streams until `finish` is there."""
    (tmp_path / "streaming.py").write_text(GATEWAY)
    return Mounted(tmp_path / "secret")


def test_fifty_swaps_under_load_cut_nothing_and_fail_nobody(mounted: Mounted, tmp_path: Path) -> None:
    serial = mounted.put_good()
    options = ("--gateway", "streaming:app", "--no-access-log")
    with running_edge(*options, certificates=mounted.directory, cwd=tmp_path) as edge:
        handshakes = Handshakes(edge, serial)
        with Streams(edge, tmp_path / "finish", http2=10, http1=4) as streams, handshakes.running():
            for number in range(SWAPS):
                if is_bad := number % 5 == 4:
                    mounted.put_bad(number // 5 % 5)
                else:
                    serial = mounted.put_good()
                    handshakes.history.append(serial)
                if number % 10 != 3:  # one in ten is found without a signal
                    edge.process.send_signal(signal.SIGHUP)
                if is_bad:
                    edge.log.wait_for("certificates not loaded", count=number // 5 + 1)
                    assert handshakes.make() == serial
                else:
                    wait_until_shown(handshakes, serial)
                    handshakes.confirmed = len(handshakes.history) - 1
        assert handshakes.failures == []
        assert streams.failures == []
        assert len(streams.bodies) == streams.wanted
        for body in streams.bodies:
            *events, done, rest = body.split("\n\n")
            assert (done, rest) == ("data: [DONE]", "")
            assert events == [f"data: {count}" for count in range(len(events))]
        assert handshakes.count > SWAPS
        assert edge.stop() == 0
    assert edge.log.text.count("certificates not loaded") == SWAPS // 5
    assert "Traceback" not in edge.log.text
