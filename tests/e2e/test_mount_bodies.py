"""Bodies through a mount, both ways and large, unread ones, and trailers."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from http.client import HTTPResponse
from pathlib import Path

import pytest

from tests.e2e.test_mount_lifespan import MOUNTINGS, PROTOCOLS, Mounted, new_key, share
from tests.kit.gateways.starlette_app import CHUNK
from tests.kit.raw_http1 import raw_http1
from tests.kit.raw_http2 import raw_http2

CHUNKS = 10 * 1024 * 1024 // len(CHUNK)
SIZE = CHUNKS * len(CHUNK)
LARGE = 2_600_000
DIGEST = hashlib.sha256(CHUNK * CHUNKS).hexdigest()

protocols = pytest.mark.parametrize("protocol", PROTOCOLS)


@pytest.fixture(scope="module", params=MOUNTINGS, ids=str)
def mounted(request: pytest.FixtureRequest, certificates: Path) -> Mounted:
    return share(request.param, request.config, certificates)


def produce() -> Iterator[bytes]:
    for _ in range(CHUNKS):
        yield CHUNK


@protocols
def test_ten_megabytes_of_known_length_reach_the_application_whole(mounted: Mounted, protocol: str) -> None:
    answer = mounted.ask(protocol, "/digest", "POST", content=CHUNK * CHUNKS)

    assert answer.request.headers["content-length"] == str(SIZE)
    assert answer.json() == {"size": SIZE, "sha256": DIGEST}


@protocols
def test_ten_megabytes_of_unknown_length_reach_the_application_whole(mounted: Mounted, protocol: str) -> None:
    answer = mounted.ask(protocol, "/digest", "POST", content=produce())

    assert "content-length" not in answer.request.headers
    assert answer.json() == {"size": SIZE, "sha256": DIGEST}


@protocols
def test_an_empty_body_reaches_the_application_as_one(mounted: Mounted, protocol: str) -> None:
    assert mounted.ask(protocol, "/digest", "POST").json() == {"size": 0, "sha256": hashlib.sha256().hexdigest()}


@protocols
def test_ten_megabytes_of_known_length_reach_the_client_whole(mounted: Mounted, protocol: str) -> None:
    answer = mounted.ask(protocol, f"/download/{CHUNKS}?length")

    assert answer.headers["content-length"] == str(SIZE)
    assert hashlib.sha256(answer.content).hexdigest() == DIGEST


@protocols
def test_ten_megabytes_of_unknown_length_reach_the_client_whole(mounted: Mounted, protocol: str) -> None:
    answer = mounted.ask(protocol, f"/download/{CHUNKS}")

    assert "content-length" not in answer.headers
    assert hashlib.sha256(answer.content).hexdigest() == DIGEST


@pytest.mark.parametrize("size", [27_000, 1_000_000])
def test_an_http2_connection_goes_on_after_an_answer_that_left_the_body_unread(mounted: Mounted, size: int) -> None:
    with raw_http2(mounted.edge) as connection:
        connection.sock.settimeout(5)
        for _ in range(3):
            stream_id = connection.request(mounted.path("/refuse").encode(), method=b"POST", body=b"x" * size)
            assert connection.wait_for(stream_id).status == 401

        response = connection.wait_for(connection.request(mounted.path("/describe").encode()))
        assert response.status == 200
        assert not connection.is_closed


def test_an_unread_body_holds_up_no_other_stream_of_its_connection(mounted: Mounted) -> None:
    key = new_key()
    with raw_http2(mounted.edge) as connection:
        connection.sock.settimeout(5)
        fields = [
            (b":method", b"POST"),
            (b":scheme", b"https"),
            (b":authority", b"localhost"),
            (b":path", mounted.path(f"/hold/{key}").encode()),
        ]
        stream_id = connection.send_headers(fields, end_stream=False)
        mounted.wait_for(key, "started")
        describe = mounted.path("/describe").encode()
        sent = 0
        # Each round uses up the credit there is; the answer to another request shows what credit followed.
        while sent < LARGE and (credit := connection.connection.local_flow_control_window(stream_id)):
            connection.send_data(stream_id, bytes(min(credit, LARGE - sent)))
            sent += min(credit, LARGE - sent)
            assert connection.wait_for(connection.request(describe)).status == 200

        mounted.tell(key, "answer")
        connection.wait_until(lambda: connection.responses[stream_id].is_over)
        assert connection.responses[stream_id].status == 401
        assert connection.wait_for(connection.request(describe)).status == 200


@pytest.mark.parametrize("size", [27_000, 1_000_000])
def test_an_http1_client_gets_the_answer_that_left_the_body_unread(mounted: Mounted, size: int) -> None:
    with mounted.edge.client(http2=False) as client:
        answer = client.post(mounted.path("/refuse"), content=bytes(size))

    assert answer.status_code == 401
    assert "no key" in answer.text


def test_an_http1_connection_that_an_unread_body_ends_is_announced_to_end(mounted: Mounted) -> None:
    with raw_http1(mounted.edge) as sock:
        head = f"POST {mounted.path('/refuse')} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n\r\n"
        sock.sendall(head.encode())
        response = HTTPResponse(sock)
        response.begin()
        assert response.status == 401
        response.read()
        if response.headers.get("connection", "").lower() == "close":
            return
        # Without that (RFC 9112 section 9.6) the client goes on, and its next request must not be lost.
        sock.sendall(b"the body." + f"GET {mounted.path('/describe')} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())
        assert sock.recv(65536).startswith(b"HTTP/1.1 200 ")


def test_an_http1_request_is_over_once_its_answer_has_left_the_body_unread(mounted: Mounted) -> None:
    key = new_key()
    head = f"POST {mounted.path(f'/hold/{key}')} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {LARGE}\r\n\r\n"
    with raw_http1(mounted.edge) as sock:
        sock.settimeout(5)
        # More than the edge takes in for the application, and no more than the system buffers besides.
        sock.sendall(head.encode() + bytes(LARGE // 2))
        mounted.wait_for(key, "started")
        mounted.tell(key, "answer")
        assert sock.recv(65536).startswith(b"HTTP/1.1 401 ")

    ended = mounted.edge.log.wait_for(rf"path=\S*/hold/{key} status=401 .*ending=(\w+)", seconds=5)
    assert ended[1] == "complete"


def test_trailers_reach_an_http2_client_that_asks_for_them(mounted: Mounted) -> None:
    with raw_http2(mounted.edge) as connection:
        headers = [(b"te", b"trailers")]
        response = connection.wait_for(connection.request(mounted.path("/trailers").encode(), headers=headers))

        assert (response.status, bytes(response.body), response.is_ended) == (200, b"the body", True)
        assert response.trailers == [(b"x-checksum", b"abc")]


@pytest.mark.parametrize("asks", [True, False])
def test_trailers_reach_an_http1_client_that_asks_for_them_and_no_other(mounted: Mounted, asks: bool) -> None:
    fields = b"TE: trailers\r\nConnection: TE, close\r\n" if asks else b"Connection: close\r\n"
    with raw_http1(mounted.edge) as sock:
        sock.sendall(b"GET %b HTTP/1.1\r\nHost: localhost\r\n%b\r\n" % (mounted.path("/trailers").encode(), fields))
        answer = b""
        while data := sock.recv(65536):
            answer += data
    assert answer.endswith(b"\r\nthe body\r\n0\r\n" + b"x-checksum: abc\r\n" * asks + b"\r\n")


@protocols
def test_a_client_that_asks_for_no_trailers_gets_the_answer_without(mounted: Mounted, protocol: str) -> None:
    for _ in range(2):
        answer = mounted.ask(protocol, "/trailers")

        assert (answer.status_code, answer.content) == (200, b"the body")
