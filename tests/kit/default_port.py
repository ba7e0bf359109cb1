"""The port of the README's command lines, which tests run word for word."""

from __future__ import annotations

import fcntl
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

DEFAULT_PORT = 8899


@pytest.fixture
def default_port() -> Iterator[int]:
    """The port, for one test alone: others on this machine that use this fixture wait for it.

    Where something else has it, such as an edge in another terminal, the test is skipped; in CI it fails.
    """
    with (Path(tempfile.gettempdir()) / f"sage-edge-port-{DEFAULT_PORT}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                sock.bind(("0.0.0.0", DEFAULT_PORT))
            except OSError:
                if os.environ.get("CI"):
                    raise
                pytest.skip(f"port {DEFAULT_PORT} is in use")
        yield DEFAULT_PORT
