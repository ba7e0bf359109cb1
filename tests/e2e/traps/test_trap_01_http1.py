"""Trap 1, http/1.1: what one client sends ends nobody else's connection, let alone the worker."""

from __future__ import annotations

import base64

import pytest

from tests.kit.others import others_go_on
from tests.kit.raw_http1 import raw_http1
from tests.kit.stock import Server

ANSWERS = {b"HTTP/1.1 ", b""}
"""How an answer begins, or an end without one. What must not be is silence."""
HANDSHAKE = (
    b"GET /ws HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
    b"sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
MASKED_HELLO = b"\x81\x85\0\0\0\0hello"


def encode_settings(payload: bytes) -> bytes:
    return base64.urlsafe_b64encode(payload).rstrip(b"=")


def send_and_read(server: Server, sent: bytes) -> bytes:
    """What comes back, up to the end of its first piece."""
    with raw_http1(server) as sock:
        sock.settimeout(20)
        sock.sendall(sent)
        try:
            return sock.recv(65536)
        except ConnectionError:
            return b""


@pytest.mark.parametrize(
    "value",
    [
        b"!!!",
        b"AAMAAABkAAQ",
        b"caf\xc3\xa9",
        encode_settings(b"\0\4\xff\xff\xff\xff"),
        encode_settings(b"\0\2\0\0\0\7"),
        encode_settings(b"\0\5\0\0\0\1"),
    ],
    ids=["no base64", "no whole setting", "not ascii", "window too large", "push is neither", "frame size too small"],
)
def test_h2c_upgrade_with_bad_settings(plaintext_server: Server, value: bytes) -> None:
    head = b"GET /ok HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade, http2-settings\r\nupgrade: h2c\r\n"
    with others_go_on(plaintext_server):
        assert send_and_read(plaintext_server, head + b"http2-settings: " + value + b"\r\n\r\n")[:9] in ANSWERS


def test_h2c_upgrade_without_settings(plaintext_server: Server) -> None:
    sent = b"GET /ok HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n"
    with others_go_on(plaintext_server):
        assert send_and_read(plaintext_server, sent)[:9] in ANSWERS


@pytest.mark.parametrize(
    "rest",
    [b"content-length: 5\r\n\r\nhello", b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"],
    ids=["length", "chunked"],
)
def test_websocket_upgrade_with_a_body(plaintext_server: Server, rest: bytes) -> None:
    with others_go_on(plaintext_server):
        assert send_and_read(plaintext_server, HANDSHAKE + rest)[:9] in ANSWERS


@pytest.mark.parametrize("early", [MASKED_HELLO, b"\xff" * 200, b"\x81"], ids=["message", "noise", "half a frame"])
def test_websocket_upgrade_with_early_bytes(plaintext_server: Server, early: bytes) -> None:
    with others_go_on(plaintext_server):
        assert send_and_read(plaintext_server, HANDSHAKE + b"\r\n" + early)[:9] in ANSWERS


@pytest.mark.parametrize(
    "parameters",
    [
        b"server_max_window_bits=99",
        b"server_max_window_bits=7",
        b"server_max_window_bits=x",
        b"client_max_window_bits=x",
        b"client_max_window_bits=0",
        b"unknown=1",
        b"server_max_window_bits=10; server_max_window_bits=11",
        b"=;=;;",
    ],
)
def test_websocket_bad_deflate_parameters(plaintext_server: Server, parameters: bytes) -> None:
    sent = HANDSHAKE + b"sec-websocket-extensions: permessage-deflate; " + parameters + b"\r\n\r\n"
    with others_go_on(plaintext_server):
        assert send_and_read(plaintext_server, sent)[:9] in ANSWERS


@pytest.mark.parametrize(
    "name", [b"sec-websocket-protocol", b"sec-websocket-extensions", b"sec-websocket-key", b"sec-websocket-version"]
)
def test_websocket_header_that_is_not_ascii(plaintext_server: Server, name: bytes) -> None:
    head = b"".join(line + b"\r\n" for line in HANDSHAKE.splitlines() if not line.startswith(name))
    with others_go_on(plaintext_server):
        assert send_and_read(plaintext_server, head + name + b": caf\xc3\xa9\r\n\r\n")[:9] in ANSWERS


def test_websocket_upgrade_without_a_key(plaintext_server: Server) -> None:
    head = b"".join(line + b"\r\n" for line in HANDSHAKE.splitlines() if not line.startswith(b"sec-websocket-key"))
    with others_go_on(plaintext_server):
        assert send_and_read(plaintext_server, head + b"\r\n")[9:12] in {b"400", b"426"}


@pytest.mark.parametrize(
    ("sent", "statuses"),
    [
        (b"GET /caf\xc3\xa9 HTTP/1.1\r\nhost: localhost\r\n\r\n", {b"400"}),
        (b"G\xc3\x89T /ok HTTP/1.1\r\nhost: localhost\r\n\r\n", {b"400"}),
        (b"CONNECT localhost:443 HTTP/1.1\r\nhost: localhost:443\r\n\r\n", {b"400", b"404", b"405", b"501"}),
    ],
    ids=["path", "method", "connect"],
)
def test_request_line_that_nobody_serves(plaintext_server: Server, sent: bytes, statuses: set[bytes]) -> None:
    with others_go_on(plaintext_server):
        assert send_and_read(plaintext_server, sent)[9:12] in statuses


def test_system_exit_in_an_application(plaintext_server: Server) -> None:
    with others_go_on(plaintext_server):
        answer = send_and_read(plaintext_server, b"GET /exit HTTP/1.1\r\nhost: localhost\r\n\r\n")
        assert answer[9:12] == b"500"
