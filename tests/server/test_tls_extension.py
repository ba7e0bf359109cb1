"""What applications are told of a connection's encryption."""

from __future__ import annotations

import ssl
from dataclasses import replace
from pathlib import Path

import pytest
import trustme
from cryptography import x509

from sage_edge.server.certificates import read_certificate_info
from sage_edge.server.tls import TLSFiles, build_ssl_context
from sage_edge.server.tls_extension import ShownCertificate, describe_tls
from tests.kit.handshake import client_context, shake_hands
from tests.kit.tls_files import CA, write_pair


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def files(tmp_path: Path, authority: trustme.CA) -> TLSFiles:
    """A pair for localhost, whose clients may show certificates of the same authority."""
    authority.cert_pem.write_to_path(str(tmp_path / CA))
    pair = write_pair(tmp_path, authority, "localhost")
    return replace(pair, ca_certs=tmp_path / CA, client_auth="optional")


def show(files: TLSFiles) -> ShownCertificate:
    return ShownCertificate(build_ssl_context(files), read_certificate_info(files.certfile).pem)


def client_of(files: TLSFiles, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
    assert files.ca_certs is not None
    context = client_context(files.ca_certs)
    context.maximum_version = version
    return context


@pytest.mark.parametrize(
    ("version", "number", "suites"),
    [(ssl.TLSVersion.TLSv1_2, 0x0303, {0xC02B, 0xC02C}), (ssl.TLSVersion.TLSv1_3, 0x0304, {0x1301, 0x1302, 0x1303})],
)
def test_version_and_cipher_suite_are_their_numbers(
    files: TLSFiles, version: ssl.TLSVersion, number: int, suites: set[int]
) -> None:
    shown = show(files)
    told = describe_tls(shake_hands(shown.context, client_of(files, version)).server, shown)
    assert told["tls_version"] == number
    assert told["cipher_suite"] in suites
    assert told["server_cert"].strip() == files.certfile.read_text().strip()


def test_a_client_without_a_certificate_has_no_name(files: TLSFiles) -> None:
    shown = show(files)
    told = describe_tls(shake_hands(shown.context, client_of(files)).server, shown)
    assert (told["client_cert_chain"], told["client_cert_name"], told["client_cert_error"]) == ((), None, None)


def test_a_client_is_named_and_its_chain_is_in_order(files: TLSFiles, authority: trustme.CA) -> None:
    intermediate = authority.create_child_ca()
    leaf = intermediate.issue_cert("robot@example.test", common_name="robot, 7", organization_name="Ours")
    client = client_of(files)
    leaf.configure_cert(client)
    shown = show(files)
    told = describe_tls(shake_hands(shown.context, client).server, shown)
    certificates = [x509.load_pem_x509_certificate(pem.encode()) for pem in told["client_cert_chain"]]
    expected = [x509.load_pem_x509_certificate(pem.bytes()) for pem in leaf.cert_chain_pems]
    assert certificates == expected
    assert len(certificates) == 2
    assert told["client_cert_name"] == certificates[0].subject.rfc4514_string()
    assert r"CN=robot\, 7" in told["client_cert_name"]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_client_keeps_its_name_in_a_resumed_session(
    files: TLSFiles, authority: trustme.CA, version: ssl.TLSVersion
) -> None:
    client = client_of(files, version)
    authority.issue_cert("robot@example.test", common_name="robot").configure_cert(client)
    shown = show(files)
    first = shake_hands(shown.context, client)
    first.server.write(b"x")
    first.client.read(1)  # behind TLS 1.3's tickets
    again = shake_hands(shown.context, client, session=first.client.session)
    assert again.client.session_reused
    told = describe_tls(again.server, shown)
    assert told["client_cert_name"] == describe_tls(first.server, shown)["client_cert_name"] is not None
    assert len(told["client_cert_chain"]) == 1
