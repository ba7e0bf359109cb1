"""Traps 4, 21, 25, 26 and 27: what ends a stream, and what must not."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import pytest

from tests.e2e.traps.conftest import Launch
from tests.kit.frame_client import frame_client, headers, request
from tests.kit.http2_frames import GOAWAY, INTERNAL_ERROR, MAX_CONCURRENT_STREAMS, NO_ERROR, REFUSED_STREAM, frame
from tests.kit.others import others_go_on
from tests.kit.raw_http1 import exchange, raw_http1
from tests.kit.stock import Server

REQUESTS = 2500
AT_ONCE = 50


def test_a_stream_in_flight_outlives_thousands_of_requests(launch: Launch, directory: Path) -> None:
    with launch() as server, frame_client(server) as client:
        long = client.open(request(b"/stream"))
        client.wait_until(lambda: client.streams[long].body == b"all")
        opened: list[int] = []
        while len(opened) < REQUESTS and not client.goaways:
            batch = [client.next_id() for _ in range(AT_ONCE)]
            client.send(*(headers(stream_id, request()) for stream_id in batch))
            client.wait_until(
                lambda batch=batch: all(client.streams[each].is_over for each in batch) or client.is_closed
            )
            opened += batch
        # It may ask for a new connection, but what it has taken it finishes.
        last = min((stream_id for stream_id, _ in client.goaways), default=2**31 - 1)
        assert {client.streams[each].status for each in opened if each <= last} == {200}
        (directory / "finish").touch()
        assert client.wait_for(long).is_ended
        assert client.streams[long].body == b"all"


@pytest.mark.parametrize("path", [b"/raise", b"/return"])
def test_an_application_that_fails_within_its_answer_resets_the_stream(server: Server, path: bytes) -> None:
    with others_go_on(server), frame_client(server) as client:
        stream = client.get(path)
        assert not stream.is_ended
        assert stream.reset_code == INTERNAL_ERROR
        assert client.get(b"/ok").status == 200


@pytest.mark.parametrize("path", [b"/raise", b"/return"])
def test_an_application_that_fails_within_its_answer_leaves_the_last_chunk_out(
    plaintext_server: Server, path: bytes
) -> None:
    with others_go_on(plaintext_server), raw_http1(plaintext_server) as sock:
        sock.settimeout(20)
        sock.sendall(b"GET %s HTTP/1.1\r\nhost: localhost\r\n\r\n" % path)
        received = b""
        while piece := sock.recv(65536):
            received += piece
        assert b"part" in received
        assert not received.endswith(b"0\r\n\r\n")


def test_a_client_that_says_goaway_gets_its_streams_finished(launch: Launch, directory: Path) -> None:
    with launch() as server, frame_client(server) as client:
        opened = [client.open(request(path)) for path in [b"/stream", b"/stream", b"/hold"]]
        client.wait_until(lambda: all(client.streams[each].body == b"all" for each in opened[:2]))
        client.send(frame(GOAWAY, 0, 0, struct.pack(">II", 0, NO_ERROR)))
        client.ping()
        (directory / "finish").touch()
        assert [client.wait_for(each).is_ended for each in opened] == [True] * 3
        assert client.streams[opened[-1]].body == b"held"


def test_a_stream_over_the_limit_is_refused_alone(launch: Launch, directory: Path) -> None:
    with launch() as server, frame_client(server) as client:
        client.ping()  # by then the server knows that its settings have come
        limit = client.settings[MAX_CONCURRENT_STREAMS]
        assert limit >= 100
        opened = [client.open(request(b"/stream")) for _ in range(limit)]
        client.wait_until(lambda: all(client.streams[each].body == b"all" for each in opened))
        extra = [client.open(request(b"/stream")) for _ in range(3)]
        assert [client.wait_for(each).reset_code for each in extra] == [REFUSED_STREAM] * 3
        client.ping()
        (directory / "finish").touch()
        assert [client.wait_for(each).is_ended for each in opened] == [True] * limit
        assert client.get(b"/ok").status == 200
        assert not client.goaways


FIELDS = [b"x-a=b%0d%0ax-injected:%201", b"x-a=b%0ax-injected:%201", b"x-a=b%00", b"x%0d%0a-a=b", b"x%20a=b", b"=b"]


@pytest.mark.parametrize("query", FIELDS)
def test_a_response_field_that_is_none_is_refused_over_http2(server: Server, query: bytes) -> None:
    written = len(server.log.text)
    with others_go_on(server), frame_client(server) as client:
        stream = client.get(b"/header?" + query)
        assert stream.status == 500
        fields = [field for field in stream.fields if field[0] != b"x-request-id"]
        assert not any(b"\n" in name + value or name.startswith(b"x") for name, value in fields)
    assert re.search(r"\[(error|warning)\]", server.log.text[written:])


@pytest.mark.parametrize("query", FIELDS)
def test_a_response_field_that_is_none_is_refused_over_http1(plaintext_server: Server, query: bytes) -> None:
    written = len(plaintext_server.log.text)
    with others_go_on(plaintext_server):
        sent = b"GET /header?%s HTTP/1.1\r\nhost: localhost\r\n\r\n" % query
        status, fields, _ = exchange(plaintext_server, sent)
        assert status == 500
        assert "x-injected" not in fields
    assert re.search(r"\[(error|warning)\]", plaintext_server.log.text[written:])
