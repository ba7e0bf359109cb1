"""Certificates of the development CA, as clients see them."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from sage_edge.core.errors import EdgeError, ExitCode
from sage_edge.server.development_ca import DEFAULT_NAMES, Identity, make_leaf, parse_names
from sage_edge.server.development_certificates import DevelopmentCertificates, create_development_certificates
from sage_edge.server.tls import TLSFiles, build_ssl_context
from tests.kit.handshake import client_context, shake_hands

NOW = datetime.now(UTC)


def server_context(files: DevelopmentCertificates) -> ssl.SSLContext:
    return build_ssl_context(TLSFiles(files.certificate, files.key))


@pytest.mark.parametrize("host", DEFAULT_NAMES)
def test_a_strict_client_that_trusts_the_ca_connects(host: str, tmp_path: Path) -> None:
    made = create_development_certificates(tmp_path, now=NOW)
    shake_hands(server_context(made), client_context(made.ca), host)


def test_a_client_that_trusts_another_ca_refuses(tmp_path: Path) -> None:
    made = create_development_certificates(tmp_path / "one", now=NOW)
    other = create_development_certificates(tmp_path / "two", now=NOW)
    with pytest.raises(ssl.SSLCertVerificationError, match="unable to get local issuer"):
        shake_hands(server_context(made), client_context(other.ca))


@pytest.mark.parametrize(
    ("names", "host"),
    [
        (["Edge.Test", "192.0.2.7"], "edge.test"),
        (["edge.test", "192.0.2.7"], "192.0.2.7"),
        (["*.edge.test"], "a.edge.test"),
        (["2001:db8::7"], "2001:db8::7"),
        (["127.0.0.2"], "127.0.0.2"),
    ],
)
def test_the_certificate_is_for_the_names_given(names: list[str], host: str, tmp_path: Path) -> None:
    made = create_development_certificates(tmp_path, names, now=NOW)
    shake_hands(server_context(made), client_context(made.ca), host)


@pytest.mark.parametrize("host", ["bank.test", "notlocalhost", "192.0.2.8", "2001:db8::8"])
def test_a_stolen_ca_key_is_no_use_for_other_names(host: str, tmp_path: Path) -> None:
    made = create_development_certificates(tmp_path, [*DEFAULT_NAMES, "edge.test", "192.0.2.7"], now=NOW)
    key = load_pem_private_key(made.ca_key.read_bytes(), password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    authority = Identity(x509.load_pem_x509_certificate(made.ca.read_bytes()), key)
    forged = make_leaf(authority, parse_names([host]), NOW)
    made.certificate.write_bytes(forged.certificate.public_bytes(Encoding.PEM))
    made.key.write_bytes(forged.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    with pytest.raises(ssl.SSLCertVerificationError, match="permitted subtree violation"):
        shake_hands(server_context(made), client_context(made.ca), host)


def test_the_ca_signs_no_further_ca(tmp_path: Path) -> None:
    made = create_development_certificates(tmp_path, now=NOW)
    authority = x509.load_pem_x509_certificate(made.ca.read_bytes())
    constraints = authority.extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical
    assert constraints.value == x509.BasicConstraints(ca=True, path_length=0)


@pytest.mark.parametrize("name", ["", "two words", "https://edge.test", "bücher.test", "edge.test:443", "1.2.3", "*"])
def test_what_is_no_name_is_a_configuration_fault(name: str, tmp_path: Path) -> None:
    with pytest.raises(EdgeError) as caught:
        create_development_certificates(tmp_path / "certs", ["localhost", name], now=NOW)
    (fault,) = caught.value.faults
    assert fault.what == f"a certificate cannot be for {name!r}"
    assert fault.hint
    assert caught.value.exit_code is ExitCode.CONFIGURATION
    assert not (tmp_path / "certs").exists()


def test_every_name_that_is_none_is_reported(tmp_path: Path) -> None:
    with pytest.raises(EdgeError) as caught:
        create_development_certificates(tmp_path, ["a b", "localhost", "c d"], now=NOW)
    assert len(caught.value.faults) == 2


def test_no_names_at_all_are_a_fault(tmp_path: Path) -> None:
    with pytest.raises(EdgeError, match="no name"):
        create_development_certificates(tmp_path, [], now=NOW)
