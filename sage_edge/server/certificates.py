"""Reads certificate files and says whom they are for and until when.

Here: the one place where a file that cannot be read, or holds no certificate, becomes a fault.
Not here: whether a server can use the certificate (`server.tls`), making one (`server.development_ca`).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from sage_edge.core.errors import EdgeError, ExitCode, Fault, reason_of
from sage_edge.core.settings import option_of

_KEY_KINDS: Mapping[type, str] = {
    ec.EllipticCurvePublicKey: "ECDSA",
    rsa.RSAPublicKey: "RSA",
    ed25519.Ed25519PublicKey: "Ed25519",
    ed448.Ed448PublicKey: "Ed448",
}


@dataclass(frozen=True)
class CertificateInfo:
    """What a person or a readiness check wants to know of a certificate.

    Attributes:
        names: the DNS names, then the IP addresses, it is valid for (subjectAltName, RFC 5280
            section 4.2.1.6). Clients do not look at the subject's common name (RFC 9525 section 2).
        not_before: first moment of its validity, in UTC.
        not_after: last moment of its validity, in UTC.
        issuer: distinguished name of who signed it, as RFC 4514 writes it.
        key_kind: of its public key: "ECDSA", "RSA", "Ed25519" or "Ed448"; "" for one that only OpenSSL knows.
        pem: the certificate itself.
        chain_warnings: what keeps some clients from verifying it, each in one line.
    """

    names: tuple[str, ...]
    not_before: datetime
    not_after: datetime
    issuer: str
    key_kind: str = ""
    pem: str = field(default="", repr=False)
    chain_warnings: tuple[str, ...] = ()

    def days_left(self, now: datetime) -> float:
        """Days of validity left at `now` (an aware datetime); negative once expired."""
        return (self.not_after - now) / timedelta(days=1)

    def has_expired(self, now: datetime) -> bool:
        """Whether `now` lies after the last valid moment, which itself is valid (RFC 5280 section 4.1.2.5)."""
        return now > self.not_after


def read_certificate_info(path: Path) -> CertificateInfo:
    """Describe the first certificate in a PEM file, which is the one a server presents.

    Raises:
        EdgeError: the file cannot be read, is not PEM, or holds no certificate.
    """
    return describe_certificate(parse_certificates(read_file(path), path)[0])


def describe_certificate(certificate: x509.Certificate) -> CertificateInfo:
    """Describe a certificate that has been parsed."""
    return CertificateInfo(
        names=_names(certificate),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        issuer=certificate.issuer.rfc4514_string(),
        key_kind=_key_kind(certificate),
        pem=certificate.public_bytes(Encoding.PEM).decode(),
    )


def read_file(path: Path, *, setting: str | None = None, hint_if_missing: str = "name an existing file") -> bytes:
    """Read a whole regular file.

    Pipes and devices are refused: opening one may block for ever, and a reload could not read it again.

    Args:
        path: the file; links are followed.
        setting: the settings field that named it, for the fault.
        hint_if_missing: what to do when there is no such file.

    Raises:
        EdgeError: there is no such file, it is no regular file, or it may not be read.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            kind = "a directory" if path.is_dir() else "not a regular file"
            raise EdgeError(file_fault(f"cannot read {path}: it is {kind}", "name a file", setting=setting))
        return path.read_bytes()
    except OSError as error:
        hint = hint_if_missing
        if isinstance(error, PermissionError):
            hint = f"let this process's user (uid {os.geteuid()}) read the file and search the folders above it"
        what = f"cannot read {path}: {reason_of(error)}"
        raise EdgeError(file_fault(what, hint, setting=setting, cause=error)) from error


def parse_certificates(pem: bytes, path: Path, *, setting: str | None = None) -> list[x509.Certificate]:
    """Parse every certificate in the content of a PEM file; other blocks in it are passed over.

    Args:
        pem: the content.
        path: the file it came from, for the fault.
        setting: the settings field that named the file, for the fault.

    Raises:
        EdgeError: it is not PEM, holds no certificate, or one of them is damaged.
    """
    require_pem(pem, path, setting=setting)
    if b"CERTIFICATE-----" not in pem:
        hint = "name the file with the certificate"
        if b"PRIVATE KEY-----" in pem:
            hint += "; this one holds a private key"
        raise EdgeError(file_fault(f"{path} holds no certificate", hint, setting=setting))
    try:
        chain = x509.load_pem_x509_certificates(pem)
        for each in chain:
            describe_certificate(each)  # for some damage is found no sooner than it is asked for
            each.subject.rfc4514_string()
    except Exception as error:  # there is no end to the kinds that `cryptography` raises of a damaged certificate
        hint = f"copy it again; 'openssl x509 -noout -text -in {path}' should print it"
        raise EdgeError(
            file_fault(f"a certificate in {path} is damaged", hint, setting=setting, cause=error)
        ) from error
    return chain


def require_pem(content: bytes, path: Path, *, setting: str | None = None) -> None:
    """Refuse content without a single PEM block (RFC 7468 section 2).

    Raises:
        EdgeError: it is empty or holds no such block.
    """
    if not content.strip():
        raise EdgeError(file_fault(f"{path} is empty", "name a PEM file", setting=setting))
    if b"-----BEGIN " not in content:
        hint = "name a PEM file, which has lines such as -----BEGIN CERTIFICATE-----; openssl converts other formats"
        raise EdgeError(file_fault(f"{path} is not PEM", hint, setting=setting))


def file_fault(what: str, hint: str, *, setting: str | None = None, cause: BaseException | None = None) -> Fault:
    """Build a start-up fault whose text begins with the option that named the file, where one did."""
    prefix = f"{option_of(setting)}: " if setting else ""
    return Fault(prefix + what, hint, ExitCode.STARTUP, cause, setting)


def utc_text(moment: datetime) -> str:
    """Write a moment to the minute, for a person."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _key_kind(certificate: x509.Certificate) -> str:
    try:
        key = certificate.public_key()
    except (UnsupportedAlgorithm, ValueError):
        return ""
    return next((name for kind, name in _KEY_KINDS.items() if isinstance(key, kind)), "")


def _names(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    addresses = (str(address) for address in names.get_values_for_type(x509.IPAddress))
    return (*names.get_values_for_type(x509.DNSName), *addresses)
