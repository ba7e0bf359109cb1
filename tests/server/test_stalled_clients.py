"""Clients that stop reading or send what nobody reads, against the edge's limits and the other streams."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.edge import Edge, running_edge
from tests.kit.raw_http1 import raw_http1
from tests.kit.raw_http2 import raw_http2

GATEWAY = """
import asyncio, os

sent = 0

async def app(scope, receive, send):
    global sent
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": []}) if scope["path"] != "/hold" else None
    if scope["path"] == "/hold":
        await asyncio.Event().wait()
    if scope["path"] == "/flood":
        for _ in range(1000):
            await send({"type": "http.response.body", "body": bytes(65536), "more_body": True})
            sent += 65536
    body = str(sent).encode()
    if scope["path"] == "/length":
        size, more = 0, True
        while more:
            message = await receive()
            size, more = size + len(message["body"]), message["more_body"]
        body = str(size).encode()
    await send({"type": "http.response.body", "body": body})
"""


@pytest.fixture
def gateway(tmp_path: Path) -> Path:
    (tmp_path / "stalled.py").write_text(GATEWAY)
    return tmp_path


@pytest.fixture(params=[True, False], ids=["tls", "plaintext"])
def edge(request: pytest.FixtureRequest, gateway: Path, certificates: Path) -> Iterator[Edge]:
    tls = certificates if request.param else None
    with running_edge("--gateway", "stalled:app", "--drain-seconds", "1", certificates=tls, cwd=gateway) as edge:
        yield edge


def test_a_client_that_does_not_read_is_cut_at_the_drain_limit(edge: Edge) -> None:
    with raw_http1(edge) as sock:
        sock.sendall(b"GET /flood HTTP/1.1\r\nhost: localhost\r\n\r\n")
        assert sock.recv(1)
        edge.process.send_signal(signal.SIGTERM)
        assert edge.process.wait(15) == 0


def test_a_second_signal_ends_at_once_whoever_does_not_read(gateway: Path) -> None:
    with (
        running_edge("--gateway", "stalled:app", "--drain-seconds", "600", cwd=gateway) as edge,
        raw_http1(edge) as sock,
    ):
        sock.sendall(b"GET /flood HTTP/1.1\r\nhost: localhost\r\n\r\n")
        assert sock.recv(1)
        edge.process.send_signal(signal.SIGTERM)
        edge.log.wait_for(r"\[info\] draining .*a second signal ends at once")
        assert edge.end_at_once() == 0


def test_an_application_is_held_back_behind_a_closed_window(edge: Edge) -> None:
    with raw_http2(edge) as connection, edge.client() as client:
        connection.request(b"/flood")
        counts = [int(client.get("/sent").text)]
        while len(counts) < 20 or counts[-1] != counts[-10]:
            counts.append(int(client.get("/sent").text))
        assert counts[-1] < 2_000_000


def test_an_unread_upload_holds_up_no_other_upload_of_its_connection(edge: Edge) -> None:
    with raw_http2(edge) as connection:
        fields = [(b":method", b"POST"), (b":scheme", b"https"), (b":authority", b"localhost"), (b":path", b"/hold")]
        held = connection.send_headers(fields, end_stream=False)
        window = connection.connection.local_flow_control_window
        for _ in range(40):
            connection.send_data(held, bytes(min(window(held), 16384)))
            length = connection.request(b"/length", method=b"POST", body=bytes(1000))
            assert connection.wait_for(length).body == b"1000"


def test_priority_frames_are_ignored(edge: Edge) -> None:
    with raw_http2(edge) as connection:
        for number in range(1, 3001, 2):
            connection.connection.prioritize(number, weight=16, depends_on=0)
        connection.flush()
        assert connection.wait_for(connection.request(b"/sent")).status == 200
