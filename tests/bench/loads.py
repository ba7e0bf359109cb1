"""The loads that every server is put under."""

from __future__ import annotations

from tests.bench.http2 import Request
from tests.bench.kinds import Beside, Idle, Load, Paced, Steady
from tests.bench.payloads import (
    CHAT_ANSWER,
    CHAT_QUESTION,
    DOWNLOAD_CHUNK,
    DOWNLOAD_CHUNKS,
    SMALL,
    UPLOAD,
    UPLOAD_ANSWER,
    events,
)

_JSON = Request("/json", SMALL)
_CHAT = Request("/chat", CHAT_ANSWER, CHAT_QUESTION)
_UPLOAD = Request("/upload", UPLOAD_ANSWER, UPLOAD)
_DOWNLOAD = Request("/download", DOWNLOAD_CHUNK * DOWNLOAD_CHUNKS)


def _json(connections: int, streams: int) -> Steady:
    what = f"A small JSON answer; connections x requests at once on each: {connections} x {streams}."
    return Steady(f"json-{connections}x{streams}", what, request=_JSON, connections=connections, streams=streams)


def _flood(connections: int, streams: int, count: int = 150) -> Steady:
    return Steady(
        f"events-{connections}x{streams}",
        f"Streams of {count} events, as fast as possible; {connections} x {streams} at once. The application lets "
        "others run after each event.",
        "events",
        request=Request(f"/events?count={count}&pause=0", events(count)),
        connections=connections,
        streams=streams,
        events_each=count,
    )


def _paced(connections: int, streams: int, count: int) -> Paced:
    total = connections * streams
    return Paced(
        f"paced-{total}",
        f"{total:,} streams asked for at once ({connections} x {streams}), an event every 20 ms on each, "
        f"{count} events: {total * 50:,} events a second.",
        "events",
        connections=connections,
        streams=streams,
        count=count,
        pause=0.02,
    )


LOADS: tuple[Load, ...] = (
    _json(1, 1),
    _json(10, 10),
    _json(50, 20),
    Steady(
        "chat",
        "A POST of 500 bytes of JSON, answered in small JSON; 10 x 10.",
        request=_CHAT,
        connections=10,
        streams=10,
    ),
    _flood(1, 100),
    _flood(10, 10),
    _paced(1, 10, 100),
    _paced(1, 100, 100),
    _paced(10, 100, 50),
    Paced(
        "open-5000",
        "5,000 streams asked for at once (50 x 100), an event a second on each, 4 events.",
        "events",
        figures=("first_p99", "first_p50", "late_p99", "jitter_p50", "jitter_p99", "cpu", "memory"),
        connections=50,
        streams=100,
        count=4,
        pause=1.0,
    ),
    Paced(
        "arrive-5000",
        "5,000 streams that come within 5 s (50 x 100), an event a second on each, 8 events.",
        "events",
        figures=("first_p99", "first_p50", "late_p99", "jitter_p50", "jitter_p99", "cpu", "memory"),
        connections=50,
        streams=100,
        count=8,
        pause=1.0,
        arrival_seconds=5.0,
    ),
    Steady("upload", "A POST of 1 MiB, answered with 100 kB; 4 x 2.", request=_UPLOAD, connections=4, streams=2),
    Steady("download", "An answer of 4 MiB in pieces of 64 KiB; 4 x 2.", request=_DOWNLOAD, connections=4, streams=2),
    Steady(
        "connections",
        "New TLS connections with one small request on each, 8 at a time.",
        "connections",
        request=_JSON,
        connections=8,
        streams=1,
        requests_each=1,
    ),
    Beside(
        "beside",
        "Small requests, one after the other, alone and beside endless downloads of 4 MiB on the same connection.",
        small=_JSON,
        large=_DOWNLOAD,
    ),
    Idle(
        "idle",
        "1,000 open and silent event streams (10 x 100): what each of them costs.",
        "streams",
        connections=10,
        streams=100,
    ),
)
QUICK = ("json-10x10", "chat", "events-1x100", "events-10x10", "paced-100", "connections")
