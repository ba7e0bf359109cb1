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
    """What is wrong with a server's certificate and with who signed it.

    What is above that is none: where a cross-signed root has expired, say, clients know a newer one, or do not. It is
    for `find_chain_warnings`.

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
        yield _fault(f"{text} is not valid before {utc_text(info.not_before)}", _clock_hint(now))
    if not _is_for_servers(chain[0]):
        hint = "use one whose extended key usage allows serverAuth"
        yield _fault(f"{text} is not for servers: every client would refuse it", hint)
    yield from (fault for each, fault in _find_issuer_faults(certfile, chain, now) if each.subject == chain[0].issuer)


def find_chain_warnings(certfile: Path, chain: Sequence[x509.Certificate], now: datetime) -> Iterator[str]:
    """What keeps those clients from verifying a server's certificate that know no better issuers than follow it.

    Args:
        certfile: where they are from.
        chain: as the file has them; at least one.
        now: the present, as an aware datetime.
    """
    for each, fault in _find_issuer_faults(certfile, chain, now):
        if each.subject != chain[0].issuer:
            yield f"{fault.what}; only clients that know another of that name accept the certificate"


def find_pair_faults(
    certfile: Path, keyfile: Path, chain: Sequence[x509.Certificate], key: PrivateKeyTypes
) -> Iterator[Fault]:
    """Whether a private key is the certificate's, and the certificate is followed by who signed it, up to a root.

    The file may end before the root, or before any intermediate: clients may know the next.

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
    else:
        yield from _find_gap(certfile, chain)


def find_authority_faults(path: Path, authorities: Sequence[x509.Certificate], now: datetime) -> Iterator[Fault]:
    """Whether there is a CA among these that clients can be verified against: one that has not expired will do.

    Args:
        path: where they are from.
        authorities: at least one.
        now: the present, as an aware datetime.
    """
    last = max(authorities, key=lambda authority: authority.not_valid_after_utc)
    subject = last.subject.rfc4514_string()
    if now > last.not_valid_after_utc:
        what = f"no CA in {path} is valid any more: the last, {subject}, expired {utc_text(last.not_valid_after_utc)}"
        yield file_fault(what, "put the present CA of the clients in its place", setting="ca_certs")
    elif not any(authority.not_valid_before_utc <= now <= authority.not_valid_after_utc for authority in authorities):
        what = f"no CA in {path} is valid yet: {subject} is not before {utc_text(last.not_valid_before_utc)}"
        yield file_fault(what, _clock_hint(now), setting="ca_certs")


def certificate_text(certfile: Path, info: CertificateInfo) -> str:
    """A certificate as faults name it: the file, and whom it is for."""
    return f"{certfile} (for {', '.join(info.names) or 'no name'})"


def _fault(what: str, hint: str) -> Fault:
    return file_fault(what, hint, setting="certfile")


def _clock_hint(now: datetime) -> str:
    return f"check this machine's clock, which says {utc_text(now)}"


def _follow_issuers(chain: Sequence[x509.Certificate]) -> Sequence[x509.Certificate]:
    """The first certificate, those that signed it, those that signed these, and so on, as far as the file has them."""
    found = [chain[0]]
    for certificate in found:  # which grows
        found += [each for each in chain if each not in found and _has_signed(each, certificate)]
    return found


def _find_gap(certfile: Path, chain: Sequence[x509.Certificate]) -> Iterator[Fault]:
    """Whether certificates follow that the others do not lead to, and these end before a root: one is missing."""
    found = _follow_issuers(chain)
    subjects = [each.subject for each in found]
    if all(each.subject in subjects for each in chain) or any(_has_signed(each, each) for each in found):
        return
    last, is_alone = found[-1], len(found) == 1
    signed = "the first one" if is_alone else last.subject.rfc4514_string()
    hint = f"let the intermediate of {last.issuer.rfc4514_string()} follow the certificate"
    if not is_alone:
        hint += "s that are there, or take out what belongs to another"
    yield _fault(f"no certificate in {certfile} has signed {signed}: clients could not verify it", hint)


def _find_issuer_faults(
    certfile: Path, chain: Sequence[x509.Certificate], now: datetime
) -> Sequence[tuple[x509.Certificate, Fault]]:
    """Those that no client could go by; of several for one subject clients take a good one."""
    faults = [(each, _find_issuer_fault(certfile, each, now)) for each in _follow_issuers(chain)[1:]]
    good = [each.subject for each, fault in faults if fault is None]
    return [(each, fault) for each, fault in faults if fault is not None and each.subject not in good]


def _find_issuer_fault(certfile: Path, issuer: x509.Certificate, now: datetime) -> Fault | None:
    kind = "root" if issuer.subject == issuer.issuer else "intermediate"
    text = f"the {kind} {issuer.subject.rfc4514_string()} in {certfile}"
    first, last = issuer.not_valid_before_utc, issuer.not_valid_after_utc
    if now > last:
        return _fault(f"{text} expired {utc_text(last)}", f"put the issuer's present {kind} in its place")
    if now < first:
        return _fault(f"{text} is not valid before {utc_text(first)}", _clock_hint(now))
    if not _is_authority(issuer):
        return _fault(f"{text} is no CA's: clients refuse what it has signed", "have a CA sign the certificate")
    return None


def _is_authority(certificate: x509.Certificate) -> bool:
    """Whether it may sign certificates (RFC 5280 sections 4.2.1.9 and 4.2.1.3)."""
    try:
        extensions = certificate.extensions
        if not extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
            return False
        return extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    except x509.ExtensionNotFound as error:
        # Old roots have no extensions at all, and no client asks them for any.
        return error.oid == x509.KeyUsage.oid or certificate.subject == certificate.issuer
    except ValueError:
        return True  # which only OpenSSL can read


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
