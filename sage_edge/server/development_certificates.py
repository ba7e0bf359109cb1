"""Keeps a development CA and its certificate in a folder: makes what is missing, renews what expires.

Here: the four files, who may read them, and what is kept or written again. A file that was not made
here is never replaced unless `force` asks for it: the folder may hold somebody's real key.
Not here: what the certificates say (`server.development_ca`).
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from sage_edge.core.errors import EdgeError, Fault, reason_of
from sage_edge.server.certificates import file_fault, read_file
from sage_edge.server.development_ca import (
    DEFAULT_NAMES,
    Identity,
    is_current,
    is_made_here,
    make_authority,
    make_leaf,
    needs_renewal,
    parse_names,
    permitted_names,
    refused_names,
)

PRIVATE_MODE = 0o600
PUBLIC_MODE = 0o644


@dataclass(frozen=True)
class DevelopmentCertificates:
    """Where the four files are, and which of them are new.

    Attributes:
        ca: the CA's certificate, for clients to trust.
        ca_key: the CA's private key.
        certificate: the server's certificate alone; clients have the CA's already (RFC 8446 section 4.4.2).
        key: the server's private key.
        created: those that this call wrote; empty when all were kept.
    """

    ca: Path
    ca_key: Path
    certificate: Path
    key: Path
    created: tuple[Path, ...] = ()


def create_development_certificates(
    directory: Path,
    names: Sequence[str] = DEFAULT_NAMES,
    *,
    now: datetime,
    force: bool = False,
) -> DevelopmentCertificates:
    """Make sure that `directory` holds a CA and a certificate of that CA's for `names`.

    What is there is kept while it serves: the CA until a week before it expires, so that a browser that
    trusts it goes on doing so; the certificate while it has a week left, is signed by this CA and covers
    `names`. Processes that do this at the same time take turns.

    Args:
        directory: made if need be.
        names: host names, `*.` wildcards and IP addresses.
        now: the present, as an aware datetime.
        force: make all four files again, whatever is there. Clients then have to trust the new CA.

    Raises:
        EdgeError: a name is not one; the directory or a file in it cannot be read or written; a file is
            without its partner, damaged, or not from here; the CA may not sign for one of the names.
    """
    wanted = parse_names(names)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with _locked(directory):
            return _renew(directory, wanted, now, force=force)
    except OSError as error:
        what = f"cannot keep development certificates in {directory}: {reason_of(error)}"
        hint = f"let this process's user (uid {os.geteuid()}) write there, or use another directory"
        raise EdgeError(file_fault(what, hint, cause=error)) from error


def _renew(directory: Path, names: list[x509.GeneralName], now: datetime, *, force: bool) -> DevelopmentCertificates:
    files = DevelopmentCertificates(
        ca=directory / "ca.pem",
        ca_key=directory / "ca-key.pem",
        certificate=directory / "cert.pem",
        key=directory / "key.pem",
    )
    authority = None if force else _read_identity(files.ca, files.ca_key)
    leaf = None if force else _read_identity(files.certificate, files.key)
    created: list[Path] = []
    if authority is None or needs_renewal(authority.certificate, now):
        authority = make_authority(names, now)
        created += _write_identity(authority, files.ca, files.ca_key)
    else:
        _require_permission(files.ca, authority.certificate, names)
    if leaf is None or not is_current(leaf.certificate, authority.certificate, names, now):
        created += _write_identity(make_leaf(authority, names, now), files.certificate, files.key)
    return replace(files, created=tuple(created))


def _read_identity(certificate_path: Path, key_path: Path) -> Identity | None:
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
    except (TypeError, ValueError, UnsupportedAlgorithm) as error:
        what = f"{certificate_path} or {key_path} is damaged or encrypted"
        raise EdgeError(_left_alone(what, certificate_path, key_path, cause=error)) from error
    if not is_made_here(certificate) or not isinstance(key, ec.EllipticCurvePrivateKey):
        what = f"{certificate_path} and {key_path} were not made by 'sage-edge certs create'"
        raise EdgeError(_left_alone(what, certificate_path, key_path))
    if key.public_key() != certificate.public_key():
        what = f"{key_path} is not the key of {certificate_path}"
        raise EdgeError(_left_alone(what, certificate_path, key_path))
    return Identity(certificate, key)


def _left_alone(what: str, certificate_path: Path, key_path: Path, *, cause: BaseException | None = None) -> Fault:
    hint = (
        f"move {certificate_path.name} and {key_path.name} out of {certificate_path.parent} and run "
        "'sage-edge certs create' again, or run it with --force to replace all four files"
    )
    return file_fault(what, hint, cause=cause)


def _require_permission(path: Path, authority: x509.Certificate, names: Iterable[x509.GeneralName]) -> None:
    """Refuse names outside the CA's constraints: wider ones need a new CA, and every client's trust anew."""
    refused = refused_names(authority, names)
    if refused:
        permitted = _listed(permitted_names(authority)) or "nothing"
        what = f"{path} may sign for {permitted}, but not for {_listed(refused)}"
        hint = "run 'sage-edge certs create --force' with every name you need, then let clients trust the new CA"
        raise EdgeError(file_fault(what, hint))


def _listed(names: Iterable[x509.GeneralName]) -> str:
    return ", ".join(str(name.value) for name in names)


def _write_identity(identity: Identity, certificate_path: Path, key_path: Path) -> tuple[Path, Path]:
    key_pem = identity.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    _replace_file(key_path, key_pem, PRIVATE_MODE)
    _replace_file(certificate_path, identity.certificate.public_bytes(Encoding.PEM), PUBLIC_MODE)
    return certificate_path, key_path


def _replace_file(path: Path, content: bytes, mode: int) -> None:
    """Write a file whole or not at all.

    Until it is complete it has another name and, from its first byte, mode 0600 (mkstemp: O_EXCL, 0600),
    whatever the umask is: a key is never readable by others, not for a moment.
    """
    descriptor, temporary_name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(temporary_name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            os.fchmod(descriptor, mode)
        temporary.replace(path)
    except BaseException:
        temporary.unlink()
        raise


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Hold the directory's lock, which the system takes back should this process die."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
