"""The port of the README's command lines, which tests run word for word."""

from __future__ import annotations

import os
import socket

import pytest

DEFAULT_PORT = 8899


@pytest.fixture
def default_port() -> int:
    """The port, free. Where something has it, such as an edge in another terminal, the test is skipped; not in CI."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(("0.0.0.0", DEFAULT_PORT))
        except OSError:
            if os.environ.get("CI"):
                raise
            pytest.skip(f"port {DEFAULT_PORT} is in use")
    return DEFAULT_PORT
