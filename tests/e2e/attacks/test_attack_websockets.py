"""WebSockets whose messages are a few bytes on the wire, and a thousand times as many in memory."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack, suppress

import pytest

from tests.e2e.attacks.conftest import MakeTarget
from tests.kit.attack import HOLD_SECONDS, open_tls, siege
from tests.kit.websocket_session import BINARY, RSV1, TEXT, deflated, frame

MANY = 64
UPGRADE = (
    b"GET /ws HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
    b"sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"sec-websocket-extensions: permessage-deflate; client_no_context_takeover\r\n\r\n"
)
IN_ALL_BYTES = 3 * 2**20
"""Of what each client says, inflated."""


def binary(size_bytes: int) -> bytes:
    """A message of zeros."""
    return frame(BINARY | RSV1, deflated(bytes(size_bytes)))


def text(size_bytes: int) -> bytes:
    """A message each of whose letters takes four bytes in memory, for the sake of one."""
    return frame(TEXT | RSV1, deflated("\N{GRINNING FACE}".encode().ljust(size_bytes, b"a")))


@pytest.mark.parametrize("size_bytes", [2**20, 2**18])
@pytest.mark.parametrize("make", [binary, text])
def test_messages_that_are_deflated_well(
    make_target: MakeTarget, make: Callable[[int], bytes], size_bytes: int
) -> None:
    said = make(size_bytes) * (IN_ALL_BYTES // size_bytes)
    name = f"deflated {make.__name__} of {size_bytes} bytes, unread"
    with make_target() as target, siege(target, name, connections=MANY), ExitStack() as stack:
        sockets = [stack.enter_context(open_tls(target)) for _ in range(MANY)]
        for sock in sockets:
            sock.sendall(UPGRADE)
            assert sock.recv(4096).startswith(b"HTTP/1.1 101 ")
        for sock in sockets:
            with suppress(OSError):  # there is no room for what it says
                sock.sendall(said)
        time.sleep(HOLD_SECONDS)
