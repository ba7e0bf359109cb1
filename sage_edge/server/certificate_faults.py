"""What can be wrong with a certificate that can be read: its dates, its use, its chain, its key.

Reading files is `server.certificates` and `server.tls`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes, PrivateKeyTypes, PublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from sage_edge.core.errors import Fault
from sage_edge.server.certificates import CertificateInfo, describe_certificate, file_fault, utc_text


def find_chain_faults(certfile: Path, chain: Sequence[x509.Certificate], now: datetime) -> Iterator[Fault]:
    """What is wrong with a server's certificate and the intermediates that follow it.

    Args:
        certfile: where they are from.
        chain: as the file has them; at least one.
        now: the present, as an aware datetime.
    """
    info = describe_certificate(chain[0])
    text = certificate_text(certfile, info)
    if info.has_expired(now):
        hint = "renew it; 'sage-edge certs create' does so for a development certificate"
        yield _fault(f"{text} expired {utc_text(info.not_after)}", hint)
    elif now < info.not_before:
        hint = f"check this machine's clock, which says {utc_text(now)}"
        yield _fault(f"{text} is not valid before {utc_text(info.not_before)}", hint)
    if not _is_for_servers(chain[0]):
        hint = "use one whose extended key usage allows serverAuth"
        yield _fault(f"{text} is not for servers: every client would refuse it", hint)
    for intermediate in chain[1:]:
        subject, expired_at = intermediate.subject.rfc4514_string(), intermediate.not_valid_after_utc
        if now > expired_at:
            hint = "put the issuer's present intermediate in its place"
            yield _fault(f"the intermediate {subject} in {certfile} expired {utc_text(expired_at)}", hint)


def find_pair_faults(
    certfile: Path, keyfile: Path, chain: Sequence[x509.Certificate], key: PrivateKeyTypes
) -> Iterator[Fault]:
    """Whether a private key is the certificate's, and the certificate is followed by the one that signed it.

    Args:
        certfile: where the chain is from.
        keyfile: where the key is from.
        chain: as the file has it; at least one certificate.
        key: the private key.
    """
    try:
        public_keys = [_public_bytes(certificate.public_key()) for certificate in chain]
    except (UnsupportedAlgorithm, ValueError):
        return  # a kind of key that only OpenSSL knows; it compares the two itself
    own_key = _public_bytes(key.public_key())
    if public_keys[0] != own_key:
        hint = "name the key this certificate was made with, or the certificate made with this key"
        if own_key in public_keys:
            hint = f"put the server's own certificate first in {certfile}, before the intermediates"
        text = certificate_text(certfile, describe_certificate(chain[0]))
        yield file_fault(f"the private key in {keyfile} is not that of {text}", hint, setting="keyfile")
    elif len(chain) > 1 and not any(_has_signed(other, chain[0]) for other in chain):
        hint = f"let the intermediate of {chain[0].issuer.rfc4514_string()} follow the certificate"
        yield _fault(f"no certificate in {certfile} has signed the first one: clients could not verify it", hint)


def certificate_text(certfile: Path, info: CertificateInfo) -> str:
    """A certificate as faults name it: the file, and whom it is for."""
    return f"{certfile} (for {', '.join(info.names) or 'no name'})"


def _fault(what: str, hint: str) -> Fault:
    return file_fault(what, hint, setting="certfile")


def _is_for_servers(certificate: x509.Certificate) -> bool:
    """Whether its extended key usage, if it has one, allows TLS servers (RFC 5280 section 4.2.1.12)."""
    try:
        usages = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except (x509.ExtensionNotFound, ValueError):
        return True
    return not {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE}.isdisjoint(usages)


def _has_signed(issuer: x509.Certificate, certificate: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except InvalidSignature:
        return False
    except (UnsupportedAlgorithm, ValueError, TypeError):
        return issuer.subject == certificate.issuer
    return True


def _public_bytes(key: PublicKeyTypes | CertificatePublicKeyTypes) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
