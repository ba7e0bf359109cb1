"""A certificate authority for development: what it signs, for which names, and for how long.

Here: certificates made and judged in memory; the clock is passed in.
Not here: files (`server.development_certificates`), nor anything a production edge uses.

The CA ends up in browsers' trust stores while its key lies in a project folder. Name constraints
(RFC 5280 section 4.2.1.10) therefore bind it to loopback and to the names asked for: whoever steals
the key cannot pose as any other site.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from sage_edge.core.errors import EdgeError, ExitCode, Fault

DEFAULT_NAMES = ("localhost", "127.0.0.1", "::1")

CA_VALIDITY = timedelta(days=3650)
LEAF_VALIDITY = timedelta(days=90)
RENEWAL_MARGIN = timedelta(days=7)
"""A certificate with less validity left than this is made again."""
CLOCK_SKEW = timedelta(hours=1)
"""Certificates begin this long ago, for clients whose clock is slow, such as a virtual machine after a pause."""

CA_NAME = "SAGE Edge development CA"
"""How the CA's common name begins; it tells what was made here from what was not."""
LEAF_NAME = "SAGE Edge development certificate"
"""Not a host name: OpenSSL would hold one against the CA's name constraints."""

_LOOPBACK: tuple[x509.GeneralName, ...] = (
    x509.DNSName("localhost"),
    x509.IPAddress(ipaddress.ip_network("127.0.0.0/8")),
    x509.IPAddress(ipaddress.ip_network("::1/128")),
)
_LONGEST_HOST_NAME = 253
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")


@dataclass(frozen=True)
class Identity:
    """A certificate and the private key that belongs to it."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def parse_names(names: Sequence[str]) -> list[x509.GeneralName]:
    """Read host names, `*.` wildcards and IP addresses; twins are dropped.

    Raises:
        EdgeError: there is none, or some are neither; one fault for each.
    """
    parsed: dict[x509.GeneralName, None] = {}
    faults: list[Fault] = []
    for name in names:
        try:
            parsed[x509.IPAddress(ipaddress.ip_address(name))] = None
        except ValueError as error:
            if _is_host_name(name.lower()):
                parsed[x509.DNSName(name.lower())] = None
            else:
                what = f"a certificate cannot be for {name!r}"
                hint = "give host names such as edge.test or *.edge.test (non-ASCII ones as xn--...) or IP addresses"
                faults.append(Fault(what, hint, ExitCode.CONFIGURATION, error))
    if not names:
        faults.append(Fault("no name to make a certificate for", "give a host name or an IP address"))
    if faults:
        raise EdgeError(*faults)
    return list(parsed)


def make_authority(names: Iterable[x509.GeneralName], now: datetime) -> Identity:
    """Make a self-signed CA that may sign for loopback and `names`, and for no further CA."""
    key = ec.generate_private_key(ec.SECP256R1())
    key_id = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    # The key's own digits keep two CAs apart in the list where a person looks for the one to remove.
    subject = _name(f"{CA_NAME} {key_id.digest.hex()[:8]}")
    further = [_constraint(name) for name in names if not _is_permitted(name, _LOOPBACK)]
    certificate = (
        _builder(subject, subject, key, now, now + CA_VALIDITY)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(is_authority=True), critical=True)
        .add_extension(x509.NameConstraints([*_LOOPBACK, *further], excluded_subtrees=None), critical=True)
        .add_extension(key_id, critical=False)
        .sign(key, hashes.SHA256())
    )
    return Identity(certificate, key)


def make_leaf(authority: Identity, names: Iterable[x509.GeneralName], now: datetime) -> Identity:
    """Make a server's certificate for `names`, which does not outlive the CA that signs it."""
    key = ec.generate_private_key(ec.SECP256R1())
    issuer = authority.certificate
    issuer_key_id = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    certificate = (
        _builder(_name(LEAF_NAME), issuer.subject, key, now, min(now + LEAF_VALIDITY, issuer.not_valid_after_utc))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(is_authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        # Python 3.13 and later verify with VERIFY_X509_STRICT, which insists on this one.
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer_key_id), critical=False)
        .sign(authority.key, hashes.SHA256())
    )
    return Identity(certificate, key)


def is_made_here(certificate: x509.Certificate) -> bool:
    """Whether a CA of ours issued the certificate, by its issuer's name."""
    issuers = certificate.issuer.get_attributes_for_oid(NameOID.COMMON_NAME)
    return any(str(issuer.value).startswith(CA_NAME) for issuer in issuers)


def needs_renewal(certificate: x509.Certificate, now: datetime) -> bool:
    """Whether the certificate has expired or is about to."""
    return now + RENEWAL_MARGIN > certificate.not_valid_after_utc


def is_current(
    leaf: x509.Certificate, authority: x509.Certificate, names: Iterable[x509.GeneralName], now: datetime
) -> bool:
    """Whether the leaf is valid now and for a while yet, signed by `authority`, and covers `names`."""
    if now < leaf.not_valid_before_utc or needs_renewal(leaf, now):
        return False
    try:
        leaf.verify_directly_issued_by(authority)
        covered = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (InvalidSignature, ValueError, x509.ExtensionNotFound):
        return False
    return set(names) <= set(covered)


def permitted_names(authority: x509.Certificate) -> list[x509.GeneralName]:
    """List the DNS domains and IP networks the CA may sign for; none where it has no name constraints.

    Every CA made here has them, so a certificate without is not one of these CAs.
    """
    try:
        constraints = authority.extensions.get_extension_for_class(x509.NameConstraints).value
    except x509.ExtensionNotFound:
        return []
    return constraints.permitted_subtrees or []


def refused_names(authority: x509.Certificate, names: Iterable[x509.GeneralName]) -> list[x509.GeneralName]:
    """List those of `names` that the CA's name constraints keep it from signing for."""
    permitted = permitted_names(authority)
    return [name for name in names if not _is_permitted(name, permitted)]


def _is_host_name(name: str) -> bool:
    labels = name.removeprefix("*.").split(".")
    # A last label of digits is what a mistyped IPv4 address looks like; no such top-level domain exists.
    is_address_like = labels[-1].isdigit()
    return len(name) <= _LONGEST_HOST_NAME and all(map(_LABEL.fullmatch, labels)) and not is_address_like


def _is_permitted(name: x509.GeneralName, permitted: Iterable[x509.GeneralName]) -> bool:
    """Apply name constraints as RFC 5280 section 4.2.1.10 has it: a domain stands for itself and all below it."""
    bases = [base.value for base in permitted if isinstance(base, type(name))]
    if isinstance(name, x509.IPAddress):
        return any(name.value in base for base in bases)
    host = "." + name.value.removeprefix("*.")
    return any(host.endswith("." + base) for base in bases)


def _constraint(name: x509.GeneralName) -> x509.GeneralName:
    if isinstance(name, x509.IPAddress):
        return x509.IPAddress(ipaddress.ip_network(name.value))
    return x509.DNSName(name.value.removeprefix("*."))


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, now: datetime, not_after: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(not_after)
    )


def _key_usage(*, is_authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not is_authority,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
