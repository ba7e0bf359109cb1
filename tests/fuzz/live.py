"""Fuzz a running edge over sockets: `python -m tests.fuzz.live --minutes 20`.

What valid clients send, of HTTP/2, http/1.1 and WebSocket, is changed here and there, cut, and sent in
plaintext on many connections at once, that then read, or not, and leave, or not. Afterwards the edge has
to be as it was. A seed makes a connection's bytes; what the others did meanwhile it does not repeat.
"""

from __future__ import annotations

import argparse
import re
import socket
import struct
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random, SystemRandom

import hpack

from tests.fuzz.http2_cases import Client
from tests.kit.attack import GATEWAY, PATIENCE_SECONDS, count_descriptors, rss_bytes
from tests.kit.edge import Edge, running_edge
from tests.kit.eventually import eventually
from tests.kit.http2_frames import (
    PREFACE,
    SETTINGS_ACK,
    continuation_frame,
    data_frame,
    get_fields,
    headers_frame,
    ping_frame,
    priority_frame,
    reset_frame,
    settings_frame,
    window_frame,
)
from tests.kit.raw_http1 import exchange
from tests.kit.raw_http2 import raw_http2

WORKERS = 8
WARM_UP_SECONDS = 5.0
GROWTH_BYTES = 40 * 1024 * 1024
REPORT_SECONDS = 60.0
ADDRESSES = 100
"""Of the clients: each has its own ports and its own account."""
OPTIONS = ("--log-level", "info", "--no-access-log", "--cancel-grace-seconds", "0.2", "--max-buffered-bytes", "4000000")
WAITS = ("--header-seconds", "1", "--body-seconds", "1", "--idle-seconds", "1", "--stall-seconds", "1")

# It ends in time: that a client has left behind a body nobody reads cannot be seen.
LIVE_GATEWAY = GATEWAY.replace("sleep(3600)", "sleep(1)")

KEY = b"sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
UPGRADE = b"GET /ws HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n" + KEY
DEFLATE = b"sec-websocket-extensions: permessage-deflate; client_max_window_bits\r\n"


def _websocket_frame(first: int, payload: bytes) -> bytes:
    mask = b"\x12\x34\x56\x78"
    masked = bytes(byte ^ mask[position % 4] for position, byte in enumerate(payload))
    size = len(payload)
    length = bytes((0x80 | size,)) if size < 126 else struct.pack(">BH", 0x80 | 126, size)
    return bytes((first,)) + length + mask + masked


WEBSOCKET_FRAMES = [
    _websocket_frame(0x81, b"hello"),
    _websocket_frame(0x82, bytes(300)),
    _websocket_frame(0x01, b"frag"),
    _websocket_frame(0x89, b"ping"),
    _websocket_frame(0x80, b"ment"),
    _websocket_frame(0x82, bytes(range(256)) * 80),
    _websocket_frame(0x88, b"\x03\xe8bye"),
]
DEFLATED_FRAMES = [
    _websocket_frame(0xC1, b"\xf2\x48\xcd\xc9\xc9\x07\x00"),
    _websocket_frame(0xC1, b"\xf2\x00\x11\x00\x00"),
    *WEBSOCKET_FRAMES,
]


def _http2_pieces() -> list[list[bytes]]:
    """Valid connections, each as a list of frames."""

    def begin(*settings: tuple[int, int]) -> tuple[hpack.Encoder, list[bytes]]:
        return hpack.Encoder(), [PREFACE, settings_frame(*settings), SETTINGS_ACK]

    encoder, browsing = begin((4, 1_000_000))
    for stream_id, path in enumerate((b"/ok", b"/download", b"/none", b"/healthz", b"/", b"/events")):
        browsing.append(headers_frame(2 * stream_id + 1, encoder.encode(get_fields(path=path, scheme=b"http"))))
    browsing += [window_frame(0, 2**20), ping_frame(), reset_frame(11), priority_frame(13, 1)]
    encoder, uploading = begin((3, 100), (1, 0))
    fields = get_fields((b"x-filling", b"y" * 300), method=b"POST", path=b"/read", scheme=b"http")
    block = bytes(encoder.encode(fields))
    uploading += [headers_frame(1, block[:40], end=False, is_whole=False), continuation_frame(1, block[40:])]
    uploading += [data_frame(1, bytes(10_000), pad=20) for _ in range(4)]
    uploading.append(headers_frame(1, bytes(encoder.encode([(b"x-sum", b"1")]))))
    ignored = get_fields(method=b"POST", path=b"/ignore", scheme=b"http")
    uploading += [headers_frame(3, bytes(encoder.encode(ignored)), end=False), data_frame(3, bytes(16_384)) * 3]
    encoder, tunnel = begin()
    extra = (b"sec-websocket-version", b"13"), (b"sec-websocket-extensions", b"permessage-deflate")
    connect = get_fields(*extra, method=b"CONNECT", path=b"/ws", scheme=b"http", protocol=b"websocket")
    tunnel.append(headers_frame(1, bytes(encoder.encode(connect)), end=False))
    tunnel += [data_frame(1, one) for one in DEFLATED_FRAMES if len(one) < 16_000]
    return [browsing, uploading, tunnel]


CORPUS: list[list[bytes]] = [
    *_http2_pieces(),
    [
        b"GET /ok HTTP/1.1\r\nhost: localhost\r\naccept: */*\r\n\r\n",
        b"POST /read HTTP/1.1\r\nhost: localhost\r\ncontent-length: 11\r\n\r\n",
        b"hello world",
        b"POST /read HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n",
        b"5;x=y\r\nhello\r\n",
        b"1000\r\n" + bytes(4096) + b"\r\n",
        b"0\r\nx-sum: 1\r\n\r\n",
        b"GET /download HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n",
    ],
    [
        b"POST /ignore HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\ncontent-length: 100000\r\n\r\n",
        bytes(100_000),
        b"HEAD /ok HTTP/1.0\r\n\r\n",
    ],
    [b"GET /events HTTP/1.1\r\nhost: localhost\r\n\r\n", b"GET /none HTTP/1.1\r\nhost: localhost\r\n\r\n"],
    [UPGRADE + b"\r\n", *WEBSOCKET_FRAMES],
    [UPGRADE + DEFLATE + b"\r\n", *DEFLATED_FRAMES],
]


def make_bytes(random: Random) -> bytes:
    """A connection's bytes: a valid client's, mostly harmed."""
    if random.random() < 0.3:
        return Client(random).make_bytes()
    pieces = list(random.choice(CORPUS))
    for _ in range(random.choice((0, 1, 1, 1, 2, 4, 10))):
        _harm(random, pieces)
    data = b"".join(pieces)
    return data[: random.randrange(len(data) + 1)] if random.random() < 0.3 else data


def _harm(random: Random, pieces: list[bytes]) -> None:
    position = random.randrange(len(pieces))
    piece = bytearray(pieces[position])
    at = random.randrange(len(piece) + 1)
    match random.randrange(8):
        case 0:
            piece[at : at + 1] = bytes((random.randrange(256),))
        case 1 if piece:
            piece[at % len(piece)] ^= 1 << random.randrange(8)
        case 2:
            del piece[at : at + random.randrange(1, 20)]
        case 3:
            piece[at:at] = random.randbytes(random.randrange(1, 20))
        case 4:
            pieces.insert(random.randrange(len(pieces) + 1), bytes(piece) * random.choice((1, 1, 2, 50)))
        case 5:
            pieces.insert(position, random.choice(random.choice(CORPUS)))
        case 6:
            random.shuffle(pieces)
            return
        case _:
            other = random.choice(random.choice(CORPUS))
            piece[at:] = other[random.randrange(len(other)) :]
    pieces[position] = bytes(piece)


def run_seed(edge: Edge, seed: int) -> bool:
    """One connection; whether the edge has closed it."""
    random = Random(seed)  # noqa: S311  # to be repeated, not to be secret
    data = make_bytes(random)
    address = f"127.0.1.{1 + seed % ADDRESSES}"
    with socket.create_connection(("127.0.0.1", edge.port), timeout=5, source_address=(address, 0)) as sock:
        sock.settimeout(0.3)
        if random.random() < 0.2:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        with suppress(OSError):
            return _converse(random, sock, data)
    return True


def _converse(random: Random, sock: socket.socket, data: bytes) -> bool:
    cuts = sorted(random.randrange(len(data) + 1) for _ in range(random.choice((0, 0, 1, 3, 20))))
    for begin, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
        sock.sendall(data[begin:end])
        if random.random() < 0.3:
            time.sleep(random.choice((0, 0.001, 0.01)))
    match random.randrange(6):
        case 0:  # leave with a reset
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return False
        case 1:
            sock.shutdown(socket.SHUT_WR)
        case 2:
            return False
        case 3 if random.random() < 0.1:  # longer than the edge waits
            sock.settimeout(2)
    deadline = time.monotonic() + 2.5
    for _ in range(random.choice((1, 1, 5, 100))):
        if not sock.recv(65536):
            return True
        if time.monotonic() > deadline:
            break
    return False


@dataclass
class Figures:
    """Of a run.

    Attributes:
        first: seed.
        connections: how many there were; `closed` those that the edge ended.
        warm_bytes: of memory, after some seconds.
        most_bytes: of memory, after that.
        faults: what was wrong in the end.
    """

    first: int
    connections: int = 0
    closed: int = 0
    warm_bytes: int = 0
    most_bytes: int = 0
    faults: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        grown = (self.most_bytes - self.warm_bytes) / 2**20
        of_edge = f"{self.closed} closed by the edge, grown {grown:.1f} MB"
        return f"{self.connections} connections from seed {self.first}, {of_edge}"


@contextmanager
def live_edge(directory: Path) -> Iterator[Edge]:
    """An edge to be fuzzed, in plaintext."""
    (directory / "fuzzed.py").write_text(LIVE_GATEWAY)
    with running_edge("--gateway", "fuzzed:app", *OPTIONS, *WAITS, cwd=directory) as edge:
        _require_answers(edge)
        yield edge


def fuzz(edge: Edge, first: int, seconds: float, report: Callable[[str], object]) -> Figures:
    """Run seeds for so long, and look at what is left then."""
    figures = Figures(first)
    descriptors = count_descriptors(edge)
    begin = reported = time.monotonic()
    lock = threading.Lock()
    failures: list[str] = []

    def work() -> None:
        while time.monotonic() - begin < seconds and edge.process.poll() is None:
            with lock:
                seed = first + figures.connections
                figures.connections += 1
            try:
                is_closed = run_seed(edge, seed)
            except OSError as error:
                failures.append(f"seed {seed}: {error!r}")
                continue
            with lock:
                figures.closed += is_closed

    workers = [threading.Thread(target=work, daemon=True) for _ in range(WORKERS)]
    for worker in workers:
        worker.start()
    while any(worker.is_alive() for worker in workers) and time.monotonic() - begin < seconds + 2 * PATIENCE_SECONDS:
        time.sleep(0.2)
        if edge.process.poll() is not None:
            break
        if time.monotonic() - begin > min(WARM_UP_SECONDS, seconds / 4):
            figures.warm_bytes = figures.warm_bytes or rss_bytes(edge)
            figures.most_bytes = max(figures.most_bytes, rss_bytes(edge))
        if time.monotonic() - reported > REPORT_SECONDS:
            reported = time.monotonic()
            report(f"{figures}\n")
    figures.faults += failures[:10] + find_faults(edge, descriptors)
    if figures.most_bytes - figures.warm_bytes > GROWTH_BYTES:
        figures.faults.append("too much memory")
    return figures


def find_faults(edge: Edge, descriptors: int) -> list[str]:
    """What is wrong with an edge that nobody uses any more."""
    if edge.process.poll() is not None:
        return [f"it ended with {edge.process.returncode}: {edge.log.text[-4000:]}"]
    faults = []
    if not eventually(lambda: count_descriptors(edge) <= descriptors, 5):
        faults.append(f"{count_descriptors(edge) - descriptors} descriptors are left")
    log = edge.log.text
    if "Traceback" in log:
        faults.append(log[max(0, log.index("Traceback") - 300) :][:4000])
    # That its loop was late is the machine's doing, too: a hang is found otherwise.
    lines = [line for line in log.splitlines() if "event loop was held up" not in line]
    faults += [line for line in lines if re.search(r"\[(warning|error)\s*\]|connection failed", line)][:10]
    try:
        _require_answers(edge)
    except (OSError, AssertionError) as error:
        faults.append(f"it does not answer: {error!r}")
    return faults


def _require_answers(edge: Edge) -> None:
    assert exchange(edge, b"GET /ok HTTP/1.1\r\nhost: localhost\r\n\r\n")[0] == 200
    with raw_http2(edge) as connection:
        assert connection.wait_for(connection.request(b"/healthz")).status == 200


def main() -> int:
    """Run; 1 where something was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--first", type=int, help="begin with this seed, not with a random one")
    options = parser.parse_args()
    first = SystemRandom().randrange(2**62) if options.first is None else options.first

    def say(text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()

    say(f"first seed {first}\n")
    with tempfile.TemporaryDirectory() as directory, live_edge(Path(directory)) as edge:
        figures = fuzz(edge, first, 60 * options.minutes, say)
    verdict = "".join(f"WRONG: {fault}\n" for fault in figures.faults) or "nothing was wrong\n"
    say(f"{figures}\n{verdict}")
    return bool(figures.faults)


if __name__ == "__main__":
    sys.exit(main())
