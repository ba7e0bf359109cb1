"""Traps 2 and 17: an application waits while its client takes nothing, and nothing is left of clients that left."""

from __future__ import annotations

import json
import socket
from contextlib import ExitStack

import pytest

from tests.e2e.traps.conftest import Launch
from tests.kit.eventually import eventually
from tests.kit.frame_client import FrameClient, frame_client, request
from tests.kit.http2_frames import INITIAL_WINDOW_SIZE
from tests.kit.raw_http1 import raw_http1
from tests.kit.stock import Server

BOUND_BYTES = 4 * 2**20
"""More than any one stream's buffers, and the system's for its connection, hold; far less than /flood has to send."""
STILL_POLLS = 25
STALLED = 20


def counts(client: FrameClient) -> dict[str, int]:
    return json.loads(client.get(b"/counts").body)


def assert_held_back(asking: FrameClient) -> None:
    """The number of bytes that applications have sent comes to rest below the bound."""
    latest = [-1]
    while latest[-STILL_POLLS:] != [latest[-1]] * STILL_POLLS:
        latest.append(counts(asking)["sent"])
        assert latest[-1] < BOUND_BYTES
    assert latest[-1] > 0


@pytest.mark.parametrize("window", [65_535, 1, 0], ids=["default window", "window of a byte", "no window"])
def test_an_application_is_held_back_behind_a_window(launch: Launch, window: int) -> None:
    sent = {INITIAL_WINDOW_SIZE: window}
    with (
        launch() as server,
        frame_client(server) as asking,
        frame_client(server, sent, is_crediting=False) as stalled,
    ):
        stalled.open(request(b"/flood"))
        assert_held_back(asking)
        # What counts as credit for nobody must not let go of the application either.
        stalled.ping()
        assert_held_back(asking)


def test_an_application_is_held_back_behind_the_connections_window(launch: Launch) -> None:
    sent = {INITIAL_WINDOW_SIZE: 2**31 - 1}
    with (
        launch() as server,
        frame_client(server) as asking,
        frame_client(server, sent, is_crediting=False) as stalled,
    ):
        for _ in range(3):
            stalled.open(request(b"/flood"))
        assert_held_back(asking)


@pytest.mark.parametrize("is_tls", [True, False], ids=["tls", "plaintext"])
def test_an_application_is_held_back_by_a_client_that_does_not_read(launch: Launch, *, is_tls: bool) -> None:
    with launch(is_tls=is_tls) as server, frame_client(server) as asking, raw_http1(server) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        sock.sendall(b"GET /flood HTTP/1.1\r\nhost: localhost\r\n\r\n")
        assert sock.recv(1)
        latest = [-1]
        while latest[-STILL_POLLS:] != [latest[-1]] * STILL_POLLS:
            latest.append(counts(asking)["sent"])
            assert latest[-1] < 16 * 2**20  # the system grows its own buffers up to 6 MB on each side


def stall(server: Server, stack: ExitStack) -> None:
    sent = {INITIAL_WINDOW_SIZE: 0}
    client = stack.enter_context(frame_client(server, sent, is_crediting=False))
    client.open(request(b"/flood"))


def test_stalled_clients_cost_little_memory(launch: Launch) -> None:
    with launch() as server, frame_client(server) as asking, ExitStack() as stack:
        asking.get()
        before = server.resident_bytes
        for _ in range(STALLED):
            stall(server, stack)
        assert eventually(lambda: counts(asking)["running"] == STALLED)
        latest = [-1]
        while latest[-STILL_POLLS:] != [latest[-1]] * STILL_POLLS:
            latest.append(counts(asking)["sent"])
        assert server.resident_bytes - before < 40 * 2**20


def test_nothing_is_left_of_stalled_clients_that_left(launch: Launch) -> None:
    with launch() as server, frame_client(server) as asking:
        asking.get()
        before = server.descriptors
        with ExitStack() as stack:
            for _ in range(STALLED):
                stall(server, stack)
            assert eventually(lambda: counts(asking)["running"] == STALLED)
            assert server.descriptors >= before + STALLED
        assert eventually(lambda: counts(asking)["running"] == 0)
        assert eventually(lambda: server.descriptors <= before)
