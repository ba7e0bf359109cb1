from __future__ import annotations

from base64 import encodebytes
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from sage_edge.core.errors import EdgeError, ExitCode
from sage_edge.server.certificates import CertificateInfo, read_certificate_info

DAY = timedelta(days=1)
NOON = datetime(2030, 6, 1, 12, tzinfo=UTC)


def test_names_validity_and_issuer_are_read(tmp_path: Path) -> None:
    leaf = trustme.CA(organization_name="Example").issue_cert(
        "edge.test", "192.0.2.7", "2001:db8::7", not_before=NOON, not_after=NOON + DAY
    )
    leaf.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    info = read_certificate_info(tmp_path / "cert.pem")
    assert info.names == ("edge.test", "192.0.2.7", "2001:db8::7")
    assert (info.not_before, info.not_after) == (NOON, NOON + DAY)
    assert "O=Example" in info.issuer


def test_a_common_name_is_none_that_clients_look_for(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "old.test")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, NOON, NOON + DAY)
    (tmp_path / "cert.pem").write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM))
    assert read_certificate_info(tmp_path / "cert.pem").names == ()


def test_the_first_certificate_of_a_chain_counts(tmp_path: Path) -> None:
    authority = trustme.CA()
    leaf = authority.issue_cert("edge.test")
    chain = leaf.cert_chain_pems[0].bytes() + authority.cert_pem.bytes()
    (tmp_path / "chain.pem").write_bytes(chain)
    assert read_certificate_info(tmp_path / "chain.pem").names == ("edge.test",)


def test_days_left_count_down_past_zero() -> None:
    info = CertificateInfo(("edge.test",), NOON, NOON + 2 * DAY, "CN=someone")
    assert info.days_left(NOON) == 2
    assert info.days_left(NOON + 3 * DAY) == -1


def test_the_last_moment_is_still_valid() -> None:
    info = CertificateInfo(("edge.test",), NOON, NOON + DAY, "CN=someone")
    assert not info.has_expired(NOON + DAY)
    assert info.has_expired(NOON + DAY + timedelta(seconds=1))


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (None, "cannot read cert.pem: no such file"),
        (b" \n", "cert.pem is empty"),
        (b"0\x82\x01\x00", "cert.pem is not PEM"),
        (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "cert.pem holds no certificate"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "a certificate in cert.pem is damaged"),
    ],
)
def test_a_file_without_a_certificate_is_named_with_a_hint(
    content: bytes | None, what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path("cert.pem")
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(EdgeError) as caught:
        read_certificate_info(path)
    (fault,) = caught.value.faults
    assert fault.what == what
    assert fault.hint
    assert fault.code is ExitCode.STARTUP


def test_a_certificate_whose_extensions_are_damaged_is_a_fault(tmp_path: Path) -> None:
    """One byte of the names is wrong; the rest, which is all that is parsed at first, is sound."""
    pem = trustme.CA().issue_cert("edge.test").cert_chain_pems[0].bytes()
    content = bytearray(x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER))
    content[content.index(b"edge.test") - 2] = 0xFD
    path = tmp_path / "cert.pem"
    path.write_bytes(b"-----BEGIN CERTIFICATE-----\n" + encodebytes(content) + b"-----END CERTIFICATE-----\n")
    with pytest.raises(EdgeError, match="is damaged"):
        read_certificate_info(path)


def test_a_certificate_whose_subject_is_of_the_wrong_type_is_a_fault(tmp_path: Path) -> None:
    """One byte of a name's tag, of which `cryptography` raises a TypeError."""
    pem = trustme.CA().issue_cert("edge.test", common_name="edge.test").cert_chain_pems[0].bytes()
    content = bytearray(x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER))
    utf8_string, bit_string = 0x0C, 0x03
    content[content.index(utf8_string, content.index(b"\x55\x04"))] = bit_string
    path = tmp_path / "cert.pem"
    path.write_bytes(b"-----BEGIN CERTIFICATE-----\n" + encodebytes(content) + b"-----END CERTIFICATE-----\n")
    with pytest.raises(EdgeError, match="is damaged"):
        read_certificate_info(path)
