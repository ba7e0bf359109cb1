"""From certificate files to a TLS context: every fault found before start, then safe settings.

Here: what the TLS options mean, what can be wrong with the files they name, and the `ssl.SSLContext`.
Not here: handshakes and sockets (`server.connection`), making certificates (`server.development_ca`).
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Literal, TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from sage_edge.core.errors import EdgeError, Fault, reason_of
from sage_edge.server.certificate_faults import (
    certificate_text,
    find_authority_faults,
    find_chain_faults,
    find_chain_warnings,
    find_pair_faults,
)
from sage_edge.server.certificates import (
    CertificateInfo,
    describe_certificate,
    file_fault,
    parse_certificates,
    read_file,
    require_pem,
    utc_text,
)

ClientAuth = Literal["none", "optional", "required"]
TLSVersion = Literal["1.2", "1.3"]

ALPN_PROTOCOLS = ("h2", "http/1.1")
CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""For TLS 1.2: ephemeral keys and AEAD only, the suites RFC 9113 section 9.2.2 leaves for HTTP/2.

TLS 1.3 has a list of its own, all of it fit.
"""
EXPIRY_WARNING_DAYS = 14
LONGEST_PASSWORD_BYTES = 1024
"""What OpenSSL's PEM reader takes (PEM_BUFSIZE)."""

_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
_VERIFY_MODES = {"none": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}
_HINT_IF_MISSING = "run 'sage-edge certs create', or name an existing PEM file"

T = TypeVar("T")


@dataclass(frozen=True)
class TLSFiles:
    """The files TLS is made from, and whether clients show certificates too.

    Attributes:
        certfile: PEM file with the server's certificate first, then the intermediates up to a root.
        keyfile: PEM file with its private key; None where `certfile` holds that as well.
        keyfile_password_file: file with the key's password, for an encrypted key.
        ca_certs: PEM file with the CAs that client certificates are verified against.
        client_auth: "none" asks clients for no certificate, "optional" verifies one that is shown,
            "required" refuses clients that show none.
        tls_min: the oldest version that is spoken.
    """

    certfile: Path
    keyfile: Path | None = None
    keyfile_password_file: Path | None = None
    ca_certs: Path | None = None
    client_auth: ClientAuth = "none"
    tls_min: TLSVersion = "1.2"

    @property
    def paths(self) -> Sequence[Path]:
        """All of them."""
        paths = (self.certfile, self.keyfile, self.keyfile_password_file, self.ca_certs)
        return [path for path in paths if path is not None]


def check_tls(files: TLSFiles, now: datetime) -> tuple[CertificateInfo | None, list[Fault]]:
    """Find everything that is wrong with the files, not only the first thing.

    Args:
        files: what the settings name.
        now: the present, as an aware datetime.

    Returns:
        The server's certificate where it could be read, expired or not, and the faults. Without
        faults `build_ssl_context` has been tried and works.
    """
    faults: list[Fault] = []
    chain = _collect(faults, lambda: _read_chain(files)) or []
    password = _collect(faults, lambda: _read_password(files))
    key: PrivateKeyTypes | None = None
    # A certificate file that cannot be read is one fault; that it holds no key is not another.
    if files.keyfile is not None or chain:
        key = _collect(faults, lambda: _read_key(files, password))
    authorities = _collect(faults, lambda: _read_client_authorities(files))
    if authorities and files.ca_certs is not None and files.client_auth != "none":
        faults += find_authority_faults(files.ca_certs, authorities, now)
    if chain:
        faults += find_chain_faults(files.certfile, chain, now)
        if key is not None:
            faults += find_pair_faults(files.certfile, files.keyfile or files.certfile, chain, key)
    if not faults:
        _collect(faults, lambda: build_ssl_context(files))
    if not chain:
        return None, faults
    warnings = tuple(find_chain_warnings(files.certfile, chain, now))
    return replace(describe_certificate(chain[0]), chain_warnings=warnings), faults


def expiry_warning(certfile: Path, info: CertificateInfo, now: datetime) -> str | None:
    """Say so in one line where the certificate expires within a fortnight of `now`; otherwise None."""
    days_left = info.days_left(now)
    if days_left >= EXPIRY_WARNING_DAYS:
        return None
    text = certificate_text(certfile, info)
    return f"--certfile: {text} expires in {days_left:.1f} days, {utc_text(info.not_after)}"


def name_warning(certfile: Path, info: CertificateInfo) -> str | None:
    """Say so in one line where the certificate is for no name that clients look for; otherwise None."""
    if info.names:
        return None
    return f"--certfile: {certfile} has no names as subjectAltName: most clients refuse it (RFC 9525)"


def build_ssl_context(files: TLSFiles, *others: TLSFiles) -> ssl.SSLContext:
    """Make the server's TLS context, as RFC 9113 section 9.2 asks for HTTP/2. Never prompts for a password.

    Loading happens in a new context each time, so a reload that fails leaves the one in use alone. A new context has
    new keys for session tickets: what a client was given before is not resumed, but made anew.

    Args:
        files: the certificate, and everything else.
        others: certificates with other kinds of keys, which are served in its place to clients that prefer those.

    Raises:
        EdgeError: a file cannot be used. `check_tls` says more about why.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = _VERSIONS[files.tls_min]
    # Added to OpenSSL's and Python's own, never in their place: those hold workarounds and safe defaults.
    context.options |= (
        ssl.OP_CIPHER_SERVER_PREFERENCE
        | ssl.OP_NO_COMPRESSION
        | ssl.OP_NO_RENEGOTIATION
        | ssl.OP_SINGLE_DH_USE
        | ssl.OP_SINGLE_ECDH_USE
    )
    context.set_ciphers(CIPHERS)
    context.set_alpn_protocols(list(ALPN_PROTOCOLS))
    for each in (files, *others):
        _load_pair(context, each)
    if files.client_auth != "none":
        _trust_client_authorities(context, files)
    return context


def _load_pair(context: ssl.SSLContext, files: TLSFiles) -> None:
    password = _read_password(files) or b""
    try:
        # Without a callable OpenSSL would ask on the terminal for the password of an encrypted key.
        context.load_cert_chain(files.certfile, files.keyfile, password=lambda: password)
    except (OSError, ValueError) as error:
        what = f"{files.certfile} cannot be served: {_openssl_reason(error)}"
        hint = "use a pair OpenSSL accepts, such as EC P-256 or RSA of 2048 bits or more, signed with SHA-256"
        if not isinstance(error, (ssl.SSLError, ValueError)):
            hint = "see that the certificate and its key exist and may be read"
        raise EdgeError(file_fault(what, hint, setting="certfile", cause=error)) from error


def _trust_client_authorities(context: ssl.SSLContext, files: TLSFiles) -> None:
    _read_client_authorities(files)
    try:
        context.load_verify_locations(cafile=files.ca_certs)
    except (OSError, ValueError) as error:
        what = f"{files.ca_certs} cannot be used: {_openssl_reason(error)}"
        hint = "name a PEM file with the certificates of the CAs that sign for clients"
        raise EdgeError(file_fault(what, hint, setting="ca_certs", cause=error)) from error
    context.verify_mode = _VERIFY_MODES[files.client_auth]


def _collect(faults: list[Fault], action: Callable[[], T]) -> T | None:
    try:
        return action()
    except EdgeError as error:
        faults += error.faults
        return None


def _read_chain(files: TLSFiles) -> list[x509.Certificate]:
    pem = read_file(files.certfile, setting="certfile", hint_if_missing=_HINT_IF_MISSING)
    return parse_certificates(pem, files.certfile, setting="certfile")


def _read_client_authorities(files: TLSFiles) -> list[x509.Certificate]:
    if files.ca_certs is not None:
        return parse_certificates(read_file(files.ca_certs, setting="ca_certs"), files.ca_certs, setting="ca_certs")
    if files.client_auth == "none":
        return []
    what = f"not given, but --client-auth {files.client_auth} verifies clients against it"
    raise EdgeError(file_fault(what, "name a PEM file with the CAs that sign for clients", setting="ca_certs"))


def _read_password(files: TLSFiles) -> bytes | None:
    path, setting = files.keyfile_password_file, "keyfile_password_file"
    if path is None:
        return None
    # One line end is the editor's or echo's; anything before it belongs to the password.
    password = read_file(path, setting=setting).removesuffix(b"\n").removesuffix(b"\r")
    if not password:
        raise EdgeError(file_fault(f"{path} is empty", "write the key's password into it", setting=setting))
    if len(password) > LONGEST_PASSWORD_BYTES:
        what = f"the password in {path} is longer than the {LONGEST_PASSWORD_BYTES} bytes OpenSSL takes"
        raise EdgeError(file_fault(what, "name the file with the password and nothing else", setting=setting))
    return password


def _read_key(files: TLSFiles, password: bytes | None) -> PrivateKeyTypes | None:
    """Read the private key; None where only OpenSSL can tell whether it is good.

    That is so without the password, whose absence has a fault of its own, and for a kind of key
    that `cryptography` does not know.
    """
    path = files.keyfile or files.certfile
    pem = read_file(path, setting="keyfile", hint_if_missing=_HINT_IF_MISSING)
    require_pem(pem, path, setting="keyfile")
    if b"PRIVATE KEY-----" not in pem:
        raise EdgeError(_no_key_fault(files, has_certificate=b"CERTIFICATE-----" in pem))
    try:
        return load_pem_private_key(pem, password=None)
    except TypeError:
        return _decrypt_key(files, pem, path, password)
    except UnsupportedAlgorithm:
        return None
    except ValueError as error:
        hint = f"copy it again; 'openssl pkey -noout -in {path}' should accept it"
        fault = file_fault(f"the private key in {path} is damaged", hint, setting="keyfile", cause=error)
        raise EdgeError(fault) from error


def _decrypt_key(files: TLSFiles, pem: bytes, path: Path, password: bytes | None) -> PrivateKeyTypes | None:
    setting = "keyfile_password_file"
    if files.keyfile_password_file is None:
        hint = "write the password into a file that only this process's user can read, and name that file"
        raise EdgeError(file_fault(f"not given, but the private key in {path} is encrypted", hint, setting=setting))
    if password is None:
        return None
    try:
        return load_pem_private_key(pem, password=password)
    except UnsupportedAlgorithm:
        return None
    except ValueError as error:
        what = f"the password in {files.keyfile_password_file} does not open {path}"
        hint = "write the right password into it; one line end after it is dropped, spaces are not"
        raise EdgeError(file_fault(what, hint, setting=setting, cause=error)) from error


def _no_key_fault(files: TLSFiles, *, has_certificate: bool) -> Fault:
    if files.keyfile is None:
        what = f"not given, and {files.certfile} holds no private key"
        return file_fault(what, "name the private key's file with --keyfile", setting="keyfile")
    hint = "name the file with the private key"
    if has_certificate:
        hint += "; this one holds a certificate"
    return file_fault(f"{files.keyfile} holds no private key", hint, setting="keyfile")


def _openssl_reason(error: OSError | ValueError) -> str:
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.replace("_", " ").lower()
    return reason_of(error) if isinstance(error, OSError) else str(error)
