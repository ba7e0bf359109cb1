"""Traps 22 and 23: nothing outlives its connection, and no connection outlives its idle limit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.traps.conftest import Launch
from tests.kit.eventually import eventually
from tests.kit.frame_client import frame_client, request
from tests.kit.raw_http1 import raw_http1

CLIENTS = 20


@pytest.mark.parametrize("path", [b"/hold", b"/stream", b"/leave"])
def test_nothing_is_left_of_clients_that_leave_before_their_answer(
    launch: Launch, directory: Path, path: bytes
) -> None:
    with launch() as server, frame_client(server) as asking:
        asking.get()
        before = server.descriptors
        for _ in range(CLIENTS):
            with frame_client(server) as client:
                client.open(request(path))
                client.ping()
        (directory / "finish").touch()
        assert eventually(lambda: server.descriptors <= before)
        assert eventually(lambda: json.loads(asking.get(b"/counts").body)["running"] == 0)


@pytest.mark.parametrize("path", [b"/ok", b"/watch", b"/raise"])
def test_an_idle_connection_is_closed_after_an_answer_over_http2(launch: Launch, path: bytes) -> None:
    with launch({"--idle-seconds": 1}) as server, frame_client(server) as client:
        for _ in range(3):
            assert client.get(path).status == 200
        client.wait_until(lambda: client.is_closed)


@pytest.mark.parametrize("path", [b"/ok", b"/watch"])
def test_an_idle_connection_is_closed_after_an_answer_over_http1(launch: Launch, path: bytes) -> None:
    with launch({"--idle-seconds": 1}, is_tls=False) as server, raw_http1(server) as sock:
        sock.settimeout(20)
        for _ in range(3):
            sock.sendall(b"GET %s HTTP/1.1\r\nhost: localhost\r\n\r\n" % path)
            received = b""
            while not received.endswith((b"ok", b"0\r\n\r\n")):
                piece = sock.recv(65536)
                assert piece, received
                received += piece
        assert sock.recv(65536) == b""


def test_a_stream_in_flight_keeps_its_connection(launch: Launch, directory: Path) -> None:
    """The limit is on idleness: a generation may be silent for longer."""
    with launch({"--idle-seconds": 1}) as server, frame_client(server) as idle, frame_client(server) as client:
        assert client.get(b"/watch").status == 200
        stream_id = client.open(request(b"/stream"))
        assert idle.get(b"/watch").status == 200
        idle.wait_until(lambda: idle.is_closed)
        (directory / "finish").touch()
        assert client.wait_for(stream_id).is_ended
