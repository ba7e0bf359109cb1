"""Traps 11 and 12: a HUP cuts nothing, and a pair of files that do not match serves nobody badly."""

from __future__ import annotations

import shutil
import signal
import socket
from pathlib import Path

import pytest
import trustme

from tests.e2e.traps.conftest import Launch
from tests.kit.frame_client import frame_client, request

TICKS = 400
"""Of 5 ms each: longer than the drain of a worker that is restarted."""


@pytest.fixture
def files(certificates: Path, tmp_path: Path) -> Path:
    """Certificates of the test's own."""
    return Path(shutil.copytree(certificates, tmp_path / "files"))


def test_a_hang_up_cuts_no_stream(launch: Launch) -> None:
    with launch({"--drain-seconds": 1}) as server, frame_client(server) as client:
        stream = client.streams[client.open(request(b"/ticks"))]
        client.wait_until(lambda: bool(stream.body))
        server.process.send_signal(signal.SIGHUP)
        client.wait_until(lambda: len(stream.body) > TICKS * len(b"tick ") or stream.is_over)
        assert not stream.is_over


def test_a_hang_up_with_files_that_do_not_match_leaves_the_certificate_in_use(launch: Launch, files: Path) -> None:
    with launch({"--drain-seconds": 1}, files=files) as server, frame_client(server) as client:
        stream = client.streams[client.open(request(b"/ticks"))]
        trustme.CA().issue_cert("localhost").private_key_pem.write_to_path(str(files / "key.pem"))
        server.process.send_signal(signal.SIGHUP)
        client.wait_until(lambda: len(stream.body) > TICKS * len(b"tick ") or stream.is_over)
        with (
            socket.create_connection(("127.0.0.1", server.port), timeout=5) as sock,
            server.ssl_context("h2").wrap_socket(sock, server_hostname="localhost") as tls,
        ):
            assert tls.selected_alpn_protocol() == "h2"
