"""Traps 3, 16 and 18: a body that its application does not read is in nobody's way."""

from __future__ import annotations

import json

import pytest

from tests.kit.eventually import eventually
from tests.kit.frame_client import FrameClient, frame_client, request
from tests.kit.http2_frames import CANCEL, FRAME_BYTES, INITIAL_WINDOW_SIZE, WINDOW_BYTES, data_frame, reset_frame
from tests.kit.others import others_go_on
from tests.kit.stock import Server

MEGABYTE = 2**20


def send_what_nobody_reads(client: FrameClient) -> int:
    """As many pieces to an application that reads none as its windows take, 40 at most; the stream's number."""
    stream_id = client.open(request(b"/leave", b"POST"), end_stream=False)
    client.wait_until(lambda: client.streams[stream_id].body == b"here")
    held = client.open(request(b"/hold", b"POST"), end_stream=False)
    client.send(*[data_frame(held, b"x" * 1000)] * 40)
    return stream_id


def test_ping_is_answered_while_a_body_is_not_read(server: Server) -> None:
    with others_go_on(server), frame_client(server) as client:
        send_what_nobody_reads(client)
        client.ping()


def test_other_streams_go_on_while_a_body_is_not_read(server: Server) -> None:
    with others_go_on(server), frame_client(server) as client:
        send_what_nobody_reads(client)
        length = client.open(request(b"/length", b"POST"), end_stream=False)
        client.send_body(length, bytes(5000))
        assert client.wait_for(length).body == b"5000"


def test_a_reset_is_heard_while_a_body_is_not_read(server: Server) -> None:
    with others_go_on(server), frame_client(server) as client, frame_client(server) as asking:
        before = json.loads(asking.get(b"/counts").body)["seen"]
        client.send(reset_frame(send_what_nobody_reads(client)))
        assert eventually(lambda: len(json.loads(asking.get(b"/counts").body)["seen"]) > len(before))


def test_no_credit_is_given_for_what_is_not_read(server: Server) -> None:
    with frame_client(server) as client:
        held = client.open(request(b"/hold", b"POST"), end_stream=False)
        window = client.windows[held]
        sent = 0
        while client.windows[held] >= FRAME_BYTES and sent < 64 * MEGABYTE:
            client.send_body(held, bytes(FRAME_BYTES), end_stream=False)
            sent += FRAME_BYTES
            while client.receive(0):
                pass
        client.ping()
        # A piece or two may be on its way to the application.
        assert sent <= window + 2 * MEGABYTE


@pytest.mark.parametrize("status", [404, 413])
def test_an_upload_that_is_refused_unread_is_no_harm(server: Server, status: int) -> None:
    with others_go_on(server), frame_client(server) as client:
        stream_id = client.open(request(b"/status/%d" % status, b"POST"), end_stream=False)
        client.send_body(stream_id, bytes(MEGABYTE))
        assert client.wait_for(stream_id).status == status
        assert client.get(b"/ok").status == 200


def test_uploads_that_are_refused_unread_cost_no_window(server: Server) -> None:
    """DATA for a stream that is gone is counted, credited and dropped: the connection's window does not leak."""
    with others_go_on(server), frame_client(server) as client:
        for _ in range(40):
            stream_id = client.open(request(b"/status/404", b"POST"), end_stream=False)
            client.send_body(stream_id, bytes(MEGABYTE))
            assert client.wait_for(stream_id).status == 404
        length = client.open(request(b"/length", b"POST"), end_stream=False)
        client.send_body(length, bytes(MEGABYTE))
        assert client.wait_for(length).body == b"%d" % MEGABYTE


def test_data_on_a_stream_that_the_client_reset_costs_no_window(server: Server) -> None:
    with others_go_on(server), frame_client(server) as client:
        for _ in range(100):
            stream_id = client.open(request(b"/hold", b"POST"), end_stream=False)
            client.send_body(stream_id, bytes(FRAME_BYTES), end_stream=False)
            client.send(reset_frame(stream_id, CANCEL))
        client.ping()
        length = client.open(request(b"/length", b"POST"), end_stream=False)
        client.send_body(length, bytes(2 * MEGABYTE))
        assert client.wait_for(length).body == b"%d" % (2 * MEGABYTE)


def test_windows_are_large_from_the_start(server: Server) -> None:
    with frame_client(server) as client:
        client.ping()
        assert client.settings.get(INITIAL_WINDOW_SIZE, WINDOW_BYTES) >= MEGABYTE
        assert client.windows[0] >= 16 * MEGABYTE
