"""Trap 29: TLS that is not as it was meant is refused, not served in some other way."""

from __future__ import annotations

import socket
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme

from tests.kit.stock import Server, run_to_its_end

CIPHERS = [
    *("ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-RSA-AES128-GCM-SHA256"),
    *("ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-RSA-AES256-GCM-SHA384"),
]


def shake_hands(server: Server, context: ssl.SSLContext) -> ssl.SSLSocket:
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as sock:
        return context.wrap_socket(sock, server_hostname="localhost")


@pytest.mark.parametrize("names", [["foo"], ["h3"], ["http/1.0", "spdy/3"]])
def test_a_client_that_offers_only_unknown_protocols_is_refused(server: Server, names: list[str]) -> None:
    """RFC 7301 section 3.2: no_application_protocol."""
    with (
        pytest.raises(ssl.SSLError, match=r"(?i)no.application.protocol"),
        shake_hands(server, server.ssl_context(*names)) as stream,
    ):
        # In TLS 1.3 a refusal may come after the client's part of the handshake.
        stream.recv(1)


@pytest.mark.parametrize(
    ("names", "chosen"), [(["http/1.1", "h2"], "h2"), (["foo", "http/1.1"], "http/1.1"), ([], None)]
)
def test_what_both_know_is_spoken(server: Server, names: list[str], chosen: str | None) -> None:
    with shake_hands(server, server.ssl_context(*names)) as stream:
        assert stream.selected_alpn_protocol() == chosen


def test_the_servers_order_of_ciphers_counts(server: Server) -> None:
    chosen = set()
    for ciphers in (CIPHERS, CIPHERS[::-1]):
        context = server.ssl_context("h2")
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(":".join(ciphers))
        with shake_hands(server, context) as stream:
            chosen.add(stream.cipher())
    assert len(chosen) == 1


def test_a_key_that_is_left_out_is_an_error_and_never_plaintext(directory: Path, certificates: Path) -> None:
    code, text = run_to_its_end(directory, [certificates / "cert.pem"])
    assert code not in {0, None}
    assert "cert.pem" in text
    assert "key" in text


def test_an_expired_certificate_is_mentioned(directory: Path) -> None:
    leaf = trustme.CA().issue_cert("localhost", not_after=datetime.now(UTC) - timedelta(days=1))
    files = [directory / "cert.pem", directory / "key.pem"]
    leaf.cert_chain_pems[0].write_to_path(str(files[0]))
    leaf.private_key_pem.write_to_path(str(files[1]))
    _, text = run_to_its_end(directory, files)
    assert "expired" in text
    assert "cert.pem" in text
