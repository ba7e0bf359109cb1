"""Trap 28: http/1.1 as RFC 9112 has it, strictly. What two readers could understand in two ways is refused."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPResponse

import pytest

from tests.kit.others import others_go_on
from tests.kit.raw_http1 import raw_http1
from tests.kit.stock import Server

GET = b"GET /scope HTTP/1.1\r\n"
HOST = b"host: localhost\r\n"
POST = b"POST /length HTTP/1.1\r\n" + HOST


@contextmanager
def connected(server: Server) -> Iterator[socket.socket]:
    with raw_http1(server) as sock:
        sock.settimeout(20)
        yield sock


def read(sock: socket.socket) -> tuple[int, bytes]:
    """The status and the body of one answer."""
    response = HTTPResponse(sock)
    response.begin()
    return response.status, response.read()


def read_all(sock: socket.socket) -> bytes:
    """Everything until the server closes."""
    received = b""
    try:
        while piece := sock.recv(65536):
            received += piece
    except ConnectionError:
        pass
    return received


def assert_refused(server: Server, sent: bytes, statuses: set[int]) -> None:
    """Answered with one of these, once, and closed: what follows on the connection is not read as a request."""
    with others_go_on(server), connected(server) as sock:
        sock.sendall(sent + b"GET /scope/smuggled HTTP/1.1\r\n" + HOST + b"\r\n")
        received = read_all(sock)
        assert int(received[9:12]) in statuses, received
        assert received.count(b"HTTP/1.1 ") == 1, received
        assert b"smuggled" not in received


@pytest.mark.parametrize(
    "fields",
    [
        b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"transfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n",
        b"transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n\r\n0\r\n\r\n",
        b"transfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
        b"content-length: 5\r\ncontent-length: 6\r\n\r\nhello",
        b"content-length: +5\r\n\r\nhello",
        b"content-length: 5_0\r\n\r\nhello",
    ],
    ids=["length and chunked", "chunked and length", "two codings", "unknown", "two lengths", "sign", "underscore"],
)
def test_a_body_of_two_lengths_is_refused(plaintext_server: Server, fields: bytes) -> None:
    assert_refused(plaintext_server, POST + fields, {400, 501})


@pytest.mark.parametrize("fold", [b"x-a: b\r\n c\r\n", b"x-a: b\r\n\tc\r\n", b" x-a: b\r\n"])
def test_a_folded_field_is_refused(plaintext_server: Server, fold: bytes) -> None:
    assert_refused(plaintext_server, GET + fold + HOST + b"\r\n", {400})


@pytest.mark.parametrize(
    "head",
    [
        b"GET /scope HTTP/1.1\nhost: localhost\n\n",
        b"GET /scope HTTP/1.1\r\nhost: localhost\n\r\n",
        b"GET /scope HTTP/1.1\r\nhost: localhost\r\nx-a: b\nx-c: d\r\n\r\n",
        b"GET /scope HTTP/1.1\r\nhost: localhost\r\nx-a: b\rx-c: d\r\n\r\n",
    ],
    ids=["all", "one", "within a value", "bare CR"],
)
def test_a_bare_line_feed_is_refused(plaintext_server: Server, head: bytes) -> None:
    assert_refused(plaintext_server, head, {400})


@pytest.mark.parametrize("version", [b"HTTP/3.7", b"HTTP/2.0", b"HTTP/0.9", b"http/1.1", b"HTTP/1.10", b"HTTPS/1.1"])
def test_another_version_is_refused(plaintext_server: Server, version: bytes) -> None:
    assert_refused(plaintext_server, b"GET /scope " + version + b"\r\n" + HOST + b"\r\n", {400, 505})


@pytest.mark.parametrize("method", ["get", "Post", "gET"])
def test_a_method_in_lower_case_is_not_the_one_in_upper_case(plaintext_server: Server, method: str) -> None:
    with others_go_on(plaintext_server), connected(plaintext_server) as sock:
        sock.sendall(method.encode() + b" /scope HTTP/1.1\r\n" + HOST + b"\r\n")
        status, body = read(sock)
        assert status in {400, 405, 501} or json.loads(body)["method"] == method


@pytest.mark.parametrize(
    "host",
    [
        b"host: \r\n",
        b"host: a b\r\n",
        b"host: a/b\r\n",
        b"host: user@localhost\r\n",
        b"host: localhost:port\r\n",
        b"host: localhost:99999\r\n",
        b"host: a,b\r\nhost: c\r\n",
        b"host: caf\xc3\xa9\r\n",
        HOST + HOST,
        b"",
    ],
    ids=["empty", "space", "slash", "user", "no port", "large port", "list", "not ascii", "two", "none"],
)
def test_a_host_that_is_none_is_refused(plaintext_server: Server, host: bytes) -> None:
    assert_refused(plaintext_server, GET + host + b"\r\n", {400})


@pytest.mark.parametrize("is_at_once", [True, False], ids=["at once", "in pieces"])
def test_a_head_over_the_limit_is_refused(plaintext_server: Server, *, is_at_once: bool) -> None:
    head = GET + HOST + b"".join(b"x-field-%d: %s\r\n" % (each, b"v" * 1000) for each in range(40)) + b"\r\n"
    with others_go_on(plaintext_server), connected(plaintext_server) as sock:
        size = len(head) if is_at_once else 1500
        try:
            for start in range(0, len(head), size):
                sock.sendall(head[start : start + size])
        except ConnectionError:
            pass  # answered before it was all sent
        assert read_all(sock)[9:12] == b"431"


def test_a_valid_request_with_bytes_after_it_is_answered_before_the_close(plaintext_server: Server) -> None:
    with others_go_on(plaintext_server), connected(plaintext_server) as sock:
        sock.sendall(b"GET /ok HTTP/1.1\r\n" + HOST + b"connection: close\r\n\r\ntrailing bytes, no request")
        received = read_all(sock)
        assert received.startswith(b"HTTP/1.1 200 ")
        assert received.endswith(b"ok")


def test_absolute_form_is_understood(plaintext_server: Server) -> None:
    with others_go_on(plaintext_server), connected(plaintext_server) as sock:
        sock.sendall(b"GET http://localhost/scope/here?a=b HTTP/1.1\r\n" + HOST + b"\r\n")
        status, body = read(sock)
        assert status == 200
        assert json.loads(body)["path"] == "/scope/here"


@pytest.mark.parametrize("status", [401, 413])
def test_no_100_is_sent_before_a_refusal(plaintext_server: Server, status: int) -> None:
    with others_go_on(plaintext_server), connected(plaintext_server) as sock:
        sock.sendall(
            b"POST /status/%d HTTP/1.1\r\n" % status + HOST + b"content-length: 5\r\nexpect: 100-continue\r\n\r\n"
        )
        assert int(sock.recv(65536)[9:12]) == status


def test_100_is_sent_once_the_body_is_asked_for(plaintext_server: Server) -> None:
    with others_go_on(plaintext_server), connected(plaintext_server) as sock:
        sock.sendall(POST + b"content-length: 5\r\nexpect: 100-continue\r\n\r\n")
        interim = b""
        while not interim.endswith(b"\r\n\r\n"):
            piece = sock.recv(65536)
            assert piece, interim
            interim += piece
        assert interim.startswith(b"HTTP/1.1 100 ")
        assert interim.count(b"HTTP/1.1 ") == 1
        sock.sendall(b"hello")
        assert read(sock) == (200, b"5")
