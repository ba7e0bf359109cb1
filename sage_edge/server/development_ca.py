"""Makes a certificate authority for development and the certificate it signs, and renews both.

Here: four files in one folder, what is kept and what is made again. A file that was not made here is
never replaced unless `force` asks for it: the folder may hold somebody's real key.
Not here: anything a production edge uses; its certificates come from elsewhere.

The CA ends up in browsers' trust stores while its key lies in a project folder. Name constraints
(RFC 5280 section 4.2.1.10) therefore bind it to loopback and the names asked for: whoever
steals the key cannot pose as any other site.
"""

from __future__ import annotations

import fcntl
import ipaddress
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from sage_edge.core.errors import EdgeError, ExitCode, Fault
from sage_edge.server.certificates import file_fault, read_file, reason_of

DEFAULT_NAMES = ("localhost", "127.0.0.1", "::1")

CA_VALIDITY = timedelta(days=3650)
LEAF_VALIDITY = timedelta(days=90)
RENEWAL_MARGIN = timedelta(days=7)
"""A certificate with less validity left than this is made again."""
CLOCK_SKEW = timedelta(hours=1)
"""Certificates begin this long ago, for clients whose clock is slow, such as virtual machines after a pause."""

CA_NAME = "SAGE Edge development CA"
"""How the CA's common name begins; by it the files made here are told from others."""
LEAF_NAME = "SAGE Edge development certificate"
"""Not a host name: OpenSSL would hold it against the CA's name constraints."""

PRIVATE_MODE = 0o600
PUBLIC_MODE = 0o644

_HOST_NAME = re.compile(r"(?=.{1,253}\Z)(\*\.)?([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")

_LOOPBACK: tuple[x509.GeneralName, ...] = (
    x509.DNSName("localhost"),
    x509.IPAddress(ipaddress.ip_network("127.0.0.0/8")),
    x509.IPAddress(ipaddress.ip_network("::1/128")),
)


@dataclass(frozen=True)
class DevelopmentCertificates:
    """Where the four files are, and which of them are new.

    Attributes:
        ca: the CA's certificate, for clients to trust.
        ca_key: the CA's private key.
        certificate: the server's certificate alone; clients have the CA already (RFC 8446 section 4.4.2).
        key: the server's private key.
        created: those written by this call; empty when all were kept.
    """

    ca: Path
    ca_key: Path
    certificate: Path
    key: Path
    created: tuple[Path, ...] = ()


@dataclass(frozen=True)
class _Pair:
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def create_development_certificates(
    directory: Path,
    names: Sequence[str] = DEFAULT_NAMES,
    *,
    now: datetime,
    force: bool = False,
) -> DevelopmentCertificates:
    """Make sure that `directory` holds a CA and a certificate of its for `names`.

    What is there is kept while it serves: the CA until a week before it expires, so that a browser that
    trusts it goes on doing so; the certificate while it has a week left, was signed by this CA and covers
    `names`. Processes that call this at the same time take turns.

    Args:
        directory: made if need be.
        names: host names, `*.` wildcards and IP addresses.
        now: the present, as an aware datetime.
        force: make all four files again, whatever is there. Clients then have to trust the new CA.

    Raises:
        EdgeError: a name is not one; the directory or a file cannot be read or written; a file is there
            without its partner, damaged, or not from here; the CA may not sign for one of the names.
    """
    wanted = _parse_names(names)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with _locked(directory):
            return _renew(directory, wanted, now, force=force)
    except OSError as error:
        what = f"cannot keep development certificates in {directory}: {reason_of(error)}"
        hint = "let this user write there, or choose another directory"
        raise EdgeError(file_fault(what, hint, cause=error)) from error


def _renew(directory: Path, names: list[x509.GeneralName], now: datetime, *, force: bool) -> DevelopmentCertificates:
    files = DevelopmentCertificates(
        *(directory / name for name in ("ca.pem", "ca-key.pem", "cert.pem", "key.pem")),
    )
    authority = None if force else _read_pair(files.ca, files.ca_key)
    leaf = None if force else _read_pair(files.certificate, files.key)
    created: list[Path] = []
    if authority is None or now + RENEWAL_MARGIN > authority.certificate.not_valid_after_utc:
        authority = _make_authority(names, now)
        created += _write_pair(authority, files.ca, files.ca_key)
    _require_permission(files.ca, authority.certificate, names)
    if leaf is None or not _is_current(leaf.certificate, authority.certificate, names, now):
        leaf = _make_leaf(authority, names, now)
        created += _write_pair(leaf, files.certificate, files.key)
    return DevelopmentCertificates(files.ca, files.ca_key, files.certificate, files.key, tuple(created))


def _parse_names(names: Sequence[str]) -> list[x509.GeneralName]:
    parsed: dict[x509.GeneralName, None] = {}
    faults: list[Fault] = []
    for name in names:
        try:
            parsed[x509.IPAddress(ipaddress.ip_address(name))] = None
        except ValueError as error:
            if _HOST_NAME.fullmatch(name.lower()):
                parsed[x509.DNSName(name.lower())] = None
            else:
                what = f"{name!r} is not a name a certificate can be for"
                hint = "give host names such as edge.test or *.edge.test (non-ASCII ones as xn--...) or IP addresses"
                faults.append(Fault(what, hint, ExitCode.CONFIGURATION, error))
    if not names:
        faults.append(Fault("no name to make a certificate for", "give a host name or an IP address"))
    if faults:
        raise EdgeError(*faults)
    return list(parsed)


def _read_pair(certificate_path: Path, key_path: Path) -> _Pair | None:
    """Read a certificate and its key; None when neither file exists."""
    missing = [path for path in (certificate_path, key_path) if not os.path.lexists(path)]
    if len(missing) == 2:
        return None
    if missing:
        raise EdgeError(_left_alone(f"{missing[0]} is missing", certificate_path, key_path))
    certificate_pem, key_pem = read_file(certificate_path), read_file(key_path)
    try:
        certificate = x509.load_pem_x509_certificate(certificate_pem)
        key = load_pem_private_key(key_pem, password=None)
        issuers = certificate.issuer.get_attributes_for_oid(NameOID.COMMON_NAME)
    except (TypeError, ValueError, UnsupportedAlgorithm) as error:
        what = f"{certificate_path} or {key_path} is damaged or encrypted"
        raise EdgeError(_left_alone(what, certificate_path, key_path, cause=error)) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not any(
        str(issuer.value).startswith(CA_NAME) for issuer in issuers
    ):
        what = f"{certificate_path} and {key_path} were not made by 'sage-edge certs create'"
        raise EdgeError(_left_alone(what, certificate_path, key_path))
    if key.public_key() != certificate.public_key():
        what = f"{key_path} is not the key of {certificate_path}"
        raise EdgeError(_left_alone(what, certificate_path, key_path))
    return _Pair(certificate, key)


def _left_alone(what: str, certificate_path: Path, key_path: Path, *, cause: BaseException | None = None) -> Fault:
    hint = (
        f"put back what belongs there, or move {certificate_path.name} and {key_path.name} away, "
        "then run 'sage-edge certs create' again; with --force it replaces all four files"
    )
    return file_fault(what, hint, cause=cause)


def _is_current(
    leaf: x509.Certificate, authority: x509.Certificate, names: Iterable[x509.GeneralName], now: datetime
) -> bool:
    if not leaf.not_valid_before_utc <= now <= leaf.not_valid_after_utc - RENEWAL_MARGIN:
        return False
    try:
        leaf.verify_directly_issued_by(authority)
        covered = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (InvalidSignature, ValueError, x509.ExtensionNotFound):
        return False
    return set(names) <= set(covered)


def _require_permission(path: Path, authority: x509.Certificate, names: Iterable[x509.GeneralName]) -> None:
    """Refuse names the CA's constraints exclude: widening them needs a new CA, and clients' trust anew."""
    constraints = authority.extensions.get_extension_for_class(x509.NameConstraints).value
    permitted = constraints.permitted_subtrees or []
    refused = [str(name.value) for name in names if not any(_permits(base, name) for base in permitted)]
    if refused:
        allowed = ", ".join(str(base.value) for base in permitted)
        raise EdgeError(
            file_fault(
                f"{path} may not sign for {', '.join(refused)}, only for {allowed}",
                "run 'sage-edge certs create' with --force and every name, and let clients trust the new CA",
            )
        )


def _permits(base: x509.GeneralName, name: x509.GeneralName) -> bool:
    if isinstance(base, x509.DNSName) and isinstance(name, x509.DNSName):
        return f".{name.value.removeprefix('*.')}".endswith(f".{base.value}")
    if isinstance(base, x509.IPAddress) and isinstance(name, x509.IPAddress):
        return name.value in base.value  # type: ignore[operator]
    return False


def _constraint(name: x509.GeneralName) -> x509.GeneralName:
    if isinstance(name, x509.DNSName):
        return x509.DNSName(name.value.removeprefix("*."))
    return x509.IPAddress(ipaddress.ip_network(name.value))


def _make_authority(names: Iterable[x509.GeneralName], now: datetime) -> _Pair:
    raise NotImplementedError
