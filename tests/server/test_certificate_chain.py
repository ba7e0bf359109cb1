"""The certificates that follow the server's own: who signed it, and who signed those."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from sage_edge.server.certificate_store import CertificateStore
from sage_edge.server.tls import build_ssl_context, check_tls
from tests.kit.captured_logs import captured_logs
from tests.kit.handshake import client_context, shake_hands
from tests.kit.tls_files import CA, CERTIFICATE, KEY, PAIR

NOW = datetime.now(UTC)
DAY = timedelta(days=1)
AN_HOUR_AGO, IN_AN_HOUR = NOW - timedelta(hours=1), NOW + timedelta(hours=1)


class Signer:
    """Somebody with a key and a certificate, who signs others', whether that is allowed or not."""

    def __init__(
        self,
        name: str,
        parent: Signer | None = None,
        *,
        is_ca: bool | None = True,
        signs: bool = True,
        first: datetime = NOW - DAY,
        last: datetime = NOW + DAY,
        twin: Signer | None = None,
    ) -> None:
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.key = twin.key if twin is not None else ec.generate_private_key(ec.SECP256R1())
        issuer = parent or self
        number = x509.random_serial_number()
        builder = x509.CertificateBuilder(issuer.name, self.name, self.key.public_key(), number, first, last)
        if is_ca is not None:
            builder = builder.add_extension(x509.BasicConstraints(is_ca, None), critical=True)
        if not signs:
            usage = x509.KeyUsage(True, False, False, False, False, False, False, False, False)
            builder = builder.add_extension(usage, critical=True)
        names = x509.SubjectAlternativeName([x509.DNSName(f"{name}.test")])
        self.certificate = builder.add_extension(names, critical=False).sign(issuer.key, hashes.SHA256())

    def write(self, *followers: Signer) -> None:
        """Write the pair, with the certificates of others behind its own."""
        chain = [each.certificate.public_bytes(Encoding.PEM) for each in (self, *followers)]
        CERTIFICATE.write_bytes(b"".join(chain))
        KEY.write_bytes(self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


ROOT = Signer("root")
OTHER = Signer("other")
UPPER = Signer("upper", ROOT)
LOWER = Signer("lower", UPPER)
LEAF = Signer("leaf", LOWER, is_ca=False)
CROSSED = Signer("upper", OTHER, twin=UPPER)
EXPIRED = Signer("upper", ROOT, twin=UPPER, last=AN_HOUR_AGO)
OLD_ROOT = Signer("old root", is_ca=None)


@pytest.mark.parametrize(
    "chain",
    [
        [LEAF],
        [LEAF, LOWER],
        [LEAF, LOWER, UPPER],
        [LEAF, LOWER, UPPER, ROOT],
        [LEAF, ROOT, UPPER, LOWER],
        [LEAF, LEAF, LOWER, LOWER],
        [LEAF, LOWER, UPPER, ROOT, OTHER],
        [LEAF, LOWER, CROSSED, UPPER, OTHER],
        [LEAF, LOWER, CROSSED, UPPER],
        [LEAF, LOWER, EXPIRED, UPPER],
        [Signer("leaf", OLD_ROOT, is_ca=False), OLD_ROOT],
        [Signer("alone", is_ca=False)],
        [Signer("alone", is_ca=False), OTHER],
    ],
    ids=[
        "issuer left to clients",
        "issuer's issuer left to clients",
        "to the root's children",
        "with the root",
        "out of order",
        "twice",
        "with another's root behind it",
        "two ways to two roots",
        "two ways",
        "renewed beside expired",
        "a root without extensions",
        "self-signed",
        "self-signed with another's behind it",
    ],
)
def test_a_chain_that_clients_can_follow_has_no_faults(chain: Sequence[Signer]) -> None:
    chain[0].write(*chain[1:])
    info, faults = check_tls(PAIR, NOW)
    assert info is not None
    assert (faults, info.chain_warnings) == ([], ())


@pytest.mark.parametrize(
    ("above", "warning"),
    [
        (Signer("root", OTHER, twin=ROOT, last=AN_HOUR_AGO), "the intermediate CN=root in cert.pem expired"),
        (Signer("root", OTHER, twin=ROOT, first=IN_AN_HOUR), "the intermediate CN=root in cert.pem is not valid bef"),
        (Signer("root", OTHER, twin=ROOT, is_ca=False), "the intermediate CN=root in cert.pem is no CA's"),
        (Signer("root", twin=ROOT, last=AN_HOUR_AGO), "the root CN=root in cert.pem expired"),
    ],
    ids=["cross-signed, expired", "cross-signed, of tomorrow", "cross-signed by no CA", "a root's old copy"],
)
def test_what_is_above_the_issuer_is_warned_of_since_clients_may_know_better(above: Signer, warning: str) -> None:
    middle = Signer("middle", ROOT)
    Signer("leaf", middle, is_ca=False).write(middle, above)
    assert check_tls(PAIR, NOW)[1] == []
    with captured_logs() as entries:
        CertificateStore([PAIR]).log_warnings()
    warnings = [entry["event"] for entry in entries if "only clients that know another" in entry["event"]]
    assert [text.startswith(f"--certfile: {warning}") for text in warnings] == [True]
    # As these do:
    CA.write_bytes(ROOT.certificate.public_bytes(Encoding.PEM))
    client = client_context(CA)
    client.verify_flags &= ~ssl.VERIFY_X509_STRICT  # which asks for extensions that none of these has
    assert shake_hands(build_ssl_context(PAIR), client, "leaf.test").client.getpeercert()


def with_intermediate(**changes: object) -> Callable[[], None]:
    """Write a chain of three, whose middle is as is said."""

    def write() -> None:
        middle = Signer("middle", ROOT, **changes)  # type: ignore[arg-type]
        Signer("leaf", middle, is_ca=False).write(middle, ROOT)

    return write


@pytest.mark.parametrize(
    ("write", "what", "hint"),
    [
        (with_intermediate(last=AN_HOUR_AGO), "the intermediate CN=middle in cert.pem expired", "present"),
        (
            with_intermediate(first=IN_AN_HOUR),
            "the intermediate CN=middle in cert.pem is not va",
            "clock",
        ),
        (with_intermediate(is_ca=False), "the intermediate CN=middle in cert.pem is no CA's", "have a CA sign"),
        (with_intermediate(is_ca=None), "the intermediate CN=middle in cert.pem is no CA's", "have a CA sign"),
        (with_intermediate(signs=False), "the intermediate CN=middle in cert.pem is no CA's", "have a CA sign"),
        (lambda: LEAF.write(UPPER), "no certificate in cert.pem has signed the first one", "of CN=lower follow"),
        (lambda: LEAF.write(UPPER, ROOT), "no certificate in cert.pem has signed the first one", "of CN=lower follow"),
        (lambda: LEAF.write(LOWER, ROOT), "no certificate in cert.pem has signed CN=lower", "of CN=upper follow"),
        (lambda: LEAF.write(LOWER, OTHER), "no certificate in cert.pem has signed CN=lower", "belongs to another"),
        (
            lambda: LEAF.write(Signer("lower", UPPER)),
            "no certificate in cert.pem has signed the first one",
            "of CN=lower follow",
        ),
    ],
    ids=[
        "expired",
        "of tomorrow",
        "not a CA",
        "without extensions",
        "may not sign",
        "without its issuer",
        "without its issuer, and with a root",
        "with a gap",
        "with another's root",
        "another of the same name",
    ],
)
def test_a_chain_that_clients_would_refuse_is_one_fault(write: Callable[[], None], what: str, hint: str) -> None:
    write()
    (fault,) = check_tls(PAIR, NOW)[1]
    assert fault.what.startswith(f"--certfile: {what}")
    assert hint in fault.hint
