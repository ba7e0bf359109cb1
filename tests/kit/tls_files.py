"""The files a TLS server needs, in every shape the tests ask for.

Here: names and contents. Not here: what the server makes of them.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from sage_edge.server.tls import TLSFiles

# Relative, for tests that work in the folder of the files, and for messages that are short.
CERTIFICATE, KEY, COMBINED = Path("cert.pem"), Path("key.pem"), Path("combined.pem")
ENCRYPTED_KEY, PASSWORD, CA = Path("encrypted.pem"), Path("password"), Path("ca.pem")
PAIR = TLSFiles(CERTIFICATE, KEY)
ENCRYPTED_PAIR = TLSFiles(CERTIFICATE, ENCRYPTED_KEY)


def write_pair(
    directory: Path,
    authority: trustme.CA,
    *names: str,
    stem: str = "",
    key_type: trustme.KeyType = trustme.KeyType.ECDSA,
    not_before: datetime | None = None,
    not_after: datetime | None = None,
) -> TLSFiles:
    """Write a certificate of an authority's for some names, and its key: `cert.pem` and `key.pem` behind the stem."""
    leaf = authority.issue_cert(*names, key_type=key_type, not_before=not_before, not_after=not_after)
    files = TLSFiles(directory / f"{stem}{CERTIFICATE}", directory / f"{stem}{KEY}")
    files.certfile.write_bytes(b"".join(pem.bytes() for pem in leaf.cert_chain_pems))
    leaf.private_key_pem.write_to_path(str(files.keyfile))
    return files


def write_nameless_pair(directory: Path) -> TLSFiles:
    """Write a certificate with a common name alone, and its key: `cert.pem` and `key.pem`."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "edge.test")])
    now = datetime.now(UTC)
    first, last = now - timedelta(days=1), now + timedelta(days=30)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), first, last)
    files = TLSFiles(directory / CERTIFICATE, directory / KEY)
    (directory / KEY).write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    files.certfile.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM))
    return files


def serial_of(certificate: bytes | Path) -> int:
    """The serial number of a certificate, by which tests tell them apart: in DER, or a PEM file's first."""
    if isinstance(certificate, Path):
        return x509.load_pem_x509_certificate(certificate.read_bytes()).serial_number
    return x509.load_der_x509_certificate(certificate).serial_number


def write_tls_files(directory: Path) -> None:
    """Write a certificate for localhost and 127.0.0.1, its key in several shapes, and its CA."""
    authority = trustme.CA()
    leaf = authority.issue_cert("localhost", "127.0.0.1", key_type=trustme.KeyType.ECDSA)
    leaf.cert_chain_pems[0].write_to_path(str(directory / CERTIFICATE))
    leaf.private_key_pem.write_to_path(str(directory / KEY))
    leaf.private_key_and_cert_chain_pem.write_to_path(str(directory / COMBINED))
    authority.cert_pem.write_to_path(str(directory / CA))
    key = load_pem_private_key(leaf.private_key_pem.bytes(), password=None)
    encrypted = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"open sesame "))
    (directory / ENCRYPTED_KEY).write_bytes(encrypted)
    (directory / PASSWORD).write_bytes(b"open sesame \n")
