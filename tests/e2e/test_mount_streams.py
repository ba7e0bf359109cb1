"""Event streams, and what a mounted application does once its client has left (design: cancel-through).

Client and application wait for each other by the application's journal, so the order of things is certain.
"""

from __future__ import annotations

import socket
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.test_mount_lifespan import GRACE_SECONDS, MOUNTINGS, PROTOCOLS, Mounted, new_key, share
from tests.kit.gateways.starlette_app import EVENT_TEXT, POLLED_EVENTS
from tests.kit.raw_http1 import raw_http1
from tests.kit.raw_http2 import RawHTTP2, raw_http2

protocols = pytest.mark.parametrize("protocol", PROTOCOLS)
ways_to_leave = pytest.mark.parametrize("way", ["h2 RST_STREAM", "h2 connection lost", "http/1.1 connection lost"])


@pytest.fixture(scope="module", params=MOUNTINGS, ids=str)
def mounted(request: pytest.FixtureRequest, certificates: Path) -> Mounted:
    return share(request.param, request.config, certificates)


@pytest.fixture(scope="module", params=[mounting for mounting in MOUNTINGS if "quart" not in mounting.name], ids=str)
def starlette(request: pytest.FixtureRequest, certificates: Path) -> Mounted:
    return share(request.param, request.config, certificates)


@pytest.fixture(scope="module", params=[mounting for mounting in MOUNTINGS if mounting.name == "fastapi"], ids=str)
def fastapi(request: pytest.FixtureRequest, certificates: Path) -> Mounted:
    return share(request.param, request.config, certificates)


class Open(ABC):
    """A request that is being answered."""

    @abstractmethod
    def read_until(self, wanted: bytes) -> bytes:
        """All that came so far, once `wanted` is in it."""

    @abstractmethod
    def leave(self) -> None:
        """Go away."""


class OpenHTTP1(Open):
    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._received = b""

    def read_until(self, wanted: bytes) -> bytes:
        while wanted not in self._received:
            data = self._sock.recv(65536)
            assert data, f"the connection was closed after {self._received!r}"
            self._received += data
        return self._received

    def leave(self) -> None:
        self._sock.close()


class OpenHTTP2(Open):
    def __init__(self, connection: RawHTTP2, stream_id: int, way: str) -> None:
        self._connection = connection
        self._stream_id = stream_id
        self._way = way

    def read_until(self, wanted: bytes) -> bytes:
        response = self._connection.responses[self._stream_id]
        self._connection.wait_until(lambda: wanted in response.body or response.is_over)
        assert wanted in response.body, f"the stream ended after {bytes(response.body)!r}"
        return bytes(response.body)

    def leave(self) -> None:
        if "RST_STREAM" in self._way:
            self._connection.reset(self._stream_id)
        else:
            self._connection.sock.close()


@contextmanager
def opened(mounted: Mounted, way: str, path: str, method: str = "GET") -> Iterator[Open]:
    """Send a request, on a connection of its own."""
    target = mounted.path(path)
    if way.startswith("h2"):
        with raw_http2(mounted.edge) as connection:
            yield OpenHTTP2(connection, connection.request(target.encode(), method=method.encode()), way)
    else:
        with raw_http1(mounted.edge) as sock:
            # Otherwise the request waits until the end of the handshake has been acknowledged.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.sendall(f"{method} {target} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())
            yield OpenHTTP1(sock)


@protocols
def test_each_event_arrives_before_the_next_one_is_made(mounted: Mounted, protocol: str) -> None:
    key = new_key()
    with opened(mounted, protocol, f"/events/{key}") as stream:
        for number in range(5):
            received = stream.read_until(f"data: {number}\n\n".encode())
            assert received.count(b"data: ") == number + 1
            mounted.tell(key, f"seen {number}")


@protocols
def test_an_application_that_polls_for_a_disconnect_is_not_cut(starlette: Mounted, protocol: str) -> None:
    # What it asks and gives up again meets credit on its way back from the client, again and again.
    with opened(starlette, protocol, "/polled") as stream:
        last = f"data: {POLLED_EVENTS - 1} {EVENT_TEXT}\n\n".encode()
        assert stream.read_until(last).count(b"data: ") == POLLED_EVENTS


def test_many_streams_of_one_http2_connection_advance_independently(mounted: Mounted) -> None:
    keys = [new_key() for _ in range(10)]
    with raw_http2(mounted.edge) as connection:
        responses = {
            key: connection.responses[connection.request(mounted.path(f"/events/{key}").encode())] for key in keys
        }
        connection.wait_until(lambda: all(b"data: 0" in response.body for response in responses.values()))
        for key in reversed(keys):
            mounted.tell(key, "seen 0")
            connection.wait_until(lambda key=key: b"data: 1" in responses[key].body)

        assert {response.body.count(b"data: ") for response in responses.values()} == {2}


@ways_to_leave
def test_a_client_that_leaves_in_mid_stream_ends_the_generator(mounted: Mounted, way: str) -> None:
    key = new_key()
    with opened(mounted, way, f"/events/{key}") as stream:
        stream.read_until(b"data: 0\n\n")
        mounted.tell(key, "seen 0")
        stream.read_until(b"data: 1\n\n")
        stream.leave()

        assert "seen 1" not in mounted.wait_for(key, "ended")


@ways_to_leave
def test_a_client_that_leaves_ends_the_generator_below_a_middleware(fastapi: Mounted, way: str) -> None:
    key = new_key()
    with opened(fastapi, way, f"/sub/events/{key}") as stream:
        stream.read_until(b"data: 0\n\n")
        stream.leave()

        fastapi.wait_for(key, "ended")


@ways_to_leave
def test_is_disconnected_turns_true_and_after_the_grace_the_handler_is_cancelled(starlette: Mounted, way: str) -> None:
    key = new_key()
    with opened(starlette, way, f"/watch/{key}") as slow:
        starlette.wait_for(key, "started")
        slow.leave()

        notes = starlette.wait_for(key, "ended")

    assert list(notes)[:3] == ["started", "disconnected", "ended"]
    # The handler polls, so it learns of the disconnect up to some milliseconds after the grace has begun.
    assert notes["ended"] - notes["disconnected"] >= GRACE_SECONDS / 2


@ways_to_leave
def test_a_slow_handler_ends_after_its_client_has_left(mounted: Mounted, way: str) -> None:
    key = new_key()
    with opened(mounted, way, f"/watch/{key}") as slow:
        mounted.wait_for(key, "started")
        slow.leave()

        mounted.wait_for(key, "ended")


@ways_to_leave
def test_the_resources_of_a_cancelled_handler_are_closed(fastapi: Mounted, way: str) -> None:
    key = new_key()
    with opened(fastapi, way, f"/watch/{key}") as slow:
        fastapi.wait_for(key, "started")
        slow.leave()

        fastapi.wait_for(key, "resource closed")


@ways_to_leave
def test_a_slow_handler_below_a_middleware_ends_after_its_client_has_left(fastapi: Mounted, way: str) -> None:
    key = new_key()
    with opened(fastapi, way, f"/sub/wait/{key}") as slow:
        fastapi.wait_for(key, "started")
        slow.leave()

        fastapi.wait_for(key, "ended")


def test_a_reset_stream_costs_its_http2_connection_nothing(mounted: Mounted) -> None:
    keys = [new_key() for _ in range(3)]
    with raw_http2(mounted.edge) as connection:
        for key in keys:
            stream_id = connection.request(mounted.path(f"/watch/{key}").encode())
            mounted.wait_for(key, "started")
            connection.reset(stream_id)
        for key in keys:
            mounted.wait_for(key, "ended")

        assert connection.wait_for(connection.request(mounted.path("/describe").encode())).status == 200


@protocols
def test_background_work_is_finished_although_the_client_has_left(mounted: Mounted, protocol: str) -> None:
    key = new_key()
    with opened(mounted, protocol, f"/background/{key}?seconds={GRACE_SECONDS * 2}", "POST") as request:
        request.read_until(b"accepted")
        request.leave()
    mounted.wait_for(key, "begun")
    mounted.tell(key, "client has left")

    assert "finished" in mounted.wait_for(key, "finished")
