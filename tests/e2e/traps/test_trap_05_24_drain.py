"""Traps 5, 6 and 24: a drain loses nothing that a client could know to be under way, and always ends."""

from __future__ import annotations

import signal
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.e2e.traps.conftest import Launch
from tests.kit.eventually import eventually
from tests.kit.frame_client import FrameClient, frame_client, request
from tests.kit.http2_frames import ACK, INITIAL_WINDOW_SIZE, NO_ERROR, PING, REFUSED_STREAM, frame
from tests.kit.others import others_go_on, wait_for_drain
from tests.kit.raw_http1 import raw_http1

LARGEST_STREAM_ID = 2**31 - 1
DRAIN_SECONDS = 20


def open_stream(client: FrameClient) -> int:
    """A stream whose answer has begun."""
    stream_id = client.open(request(b"/stream"))
    client.wait_until(lambda: client.streams[stream_id].body == b"all")
    return stream_id


def test_the_drain_is_announced_before_the_last_stream_is_named(launch: Launch, directory: Path) -> None:
    with launch({"--drain-seconds": DRAIN_SECONDS}) as server, frame_client(server) as client:
        in_flight = open_stream(client)
        server.process.send_signal(signal.SIGTERM)
        client.wait_until(lambda: len(client.goaways) == 2)
        assert client.goaways == [(LARGEST_STREAM_ID, NO_ERROR), (in_flight, NO_ERROR)]
        assert not client.streams[in_flight].is_over
        (directory / "finish").touch()
        assert client.wait_for(in_flight).is_ended
        client.wait_until(lambda: client.is_closed)
        assert server.process.wait(20) == 0


def test_a_stream_that_crosses_the_announcement_is_served(launch: Launch, directory: Path) -> None:
    with (
        launch({"--drain-seconds": DRAIN_SECONDS}) as server,
        frame_client(server, is_polite=False) as client,
    ):
        in_flight = open_stream(client)
        server.process.send_signal(signal.SIGTERM)
        client.wait_until(lambda: bool(client.goaways))
        crossing = client.open(request(b"/ok"))
        client.wait_until(lambda: bool(client.pings))
        client.send(frame(PING, ACK, 0, client.pings[0]))
        assert client.wait_for(crossing).status == 200
        client.wait_until(lambda: len(client.goaways) == 2)
        assert client.goaways[1][0] == crossing
        (directory / "finish").touch()
        assert client.wait_for(in_flight).is_ended
        assert server.process.wait(20) == 0


def test_later_streams_are_refused_so_that_they_can_be_sent_again(launch: Launch, directory: Path) -> None:
    with launch({"--drain-seconds": DRAIN_SECONDS}) as server, frame_client(server) as client:
        in_flight = open_stream(client)
        server.process.send_signal(signal.SIGTERM)
        client.wait_until(lambda: len(client.goaways) == 2)
        later = [client.open(request(b"/ok")) for _ in range(3)]
        assert [client.wait_for(each).reset_code for each in later] == [REFUSED_STREAM] * 3
        assert client.goaways[-1][0] < later[0]
        (directory / "finish").touch()
        assert client.wait_for(in_flight).is_ended
        assert server.process.wait(20) == 0


def test_a_client_that_answers_no_ping_is_drained_too(launch: Launch) -> None:
    with (
        launch({"--drain-seconds": DRAIN_SECONDS}) as server,
        frame_client(server, is_polite=False) as client,
    ):
        client.get()
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(DRAIN_SECONDS) == 0


@pytest.mark.parametrize("path", [b"/stream", b"/hold"], ids=["begun", "not begun"])
def test_every_stream_in_flight_gets_its_end(launch: Launch, directory: Path, path: bytes) -> None:
    with launch({"--drain-seconds": DRAIN_SECONDS}) as server, ExitStack() as stack:
        clients = [stack.enter_context(frame_client(server)) for _ in range(4)]
        opened = [(client, client.open(request(path))) for client in clients for _ in range(10)]
        for client in clients:
            client.ping()
        if path == b"/stream":
            for client, stream_id in opened:
                client.wait_until(lambda client=client, each=stream_id: client.streams[each].body == b"all")
        server.process.send_signal(signal.SIGTERM)
        for client in clients:
            wait_for_drain(client)
        (directory / "finish").touch()
        assert [client.wait_for(stream_id).is_ended for client, stream_id in opened] == [True] * 40
        assert server.process.wait(20) == 0


@pytest.mark.parametrize("is_tls", [True, False], ids=["tls", "plaintext"])
def test_a_client_that_stops_reading_is_cut_at_the_drain_deadline(launch: Launch, *, is_tls: bool) -> None:
    with launch({"--drain-seconds": 1}, is_tls=is_tls) as server, raw_http1(server) as sock:
        sock.sendall(b"GET /flood HTTP/1.1\r\nhost: localhost\r\n\r\n")
        assert sock.recv(1)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(10) == 0


@pytest.mark.parametrize("window", [65_535, 2**31 - 1], ids=["stream", "connection"])
def test_a_client_that_gives_no_credit_is_cut_at_the_drain_deadline(launch: Launch, window: int) -> None:
    sent = {INITIAL_WINDOW_SIZE: window}
    with launch({"--drain-seconds": 1}) as server, frame_client(server, sent, is_crediting=False) as client:
        stream_id = client.open(request(b"/flood"))
        client.wait_until(lambda: len(client.streams[stream_id].body) > 60_000)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(10) == 0


@pytest.mark.parametrize("is_tls", [True, False], ids=["tls", "plaintext"])
def test_a_stalled_write_is_aborted_after_a_limit(launch: Launch, *, is_tls: bool) -> None:
    with launch({"--stall-seconds": 1}, is_tls=is_tls) as server, others_go_on(server):
        before = server.descriptors
        with raw_http1(server) as sock:
            sock.sendall(b"GET /flood HTTP/1.1\r\nhost: localhost\r\n\r\n")
            assert sock.recv(1)
            assert server.descriptors == before + 1
            assert eventually(lambda: server.descriptors == before)


def test_a_stalled_stream_is_reset_after_a_limit_and_the_others_go_on(launch: Launch) -> None:
    with (
        launch({"--stall-seconds": 1}) as server,
        others_go_on(server),
        frame_client(server, is_crediting=False) as client,
    ):
        stalled = client.open(request(b"/flood"))
        client.wait_until(lambda: client.streams[stalled].is_over or client.is_closed)
        assert client.streams[stalled].reset_code is not None or client.goaways
