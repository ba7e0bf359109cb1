"""Which certificate a client is shown."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trustme
from cryptography import x509

from sage_edge.server import tls
from sage_edge.server.certificate_set import CertificateSet, load_certificates
from sage_edge.server.certificates import parse_certificates
from sage_edge.server.tls import TLSFiles
from tests.kit.captured_logs import captured_logs
from tests.kit.handshake import client_context, shake_hands
from tests.kit.tls_files import CA, serial_of, write_pair

RSA, ECDSA = trustme.KeyType.RSA, trustme.KeyType.ECDSA


@pytest.fixture
def authority(tmp_path: Path) -> trustme.CA:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / CA))
    return authority


def load(files: Sequence[TLSFiles]) -> CertificateSet:
    found, faults = load_certificates(files, datetime.now(UTC))
    assert faults == []
    assert found is not None
    return found


def shown_serial(found: CertificateSet, name: str | None) -> int:
    """The serial number of what a client is shown in a handshake."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    hands = shake_hands(found.choose(name).context, client)
    return serial_of(hands.client.getpeercert(binary_form=True) or b"")


@pytest.mark.parametrize(
    ("name", "index"),
    [
        ("first.test", 0),
        ("second.test", 1),
        ("also.second.test", 1),
        ("a.wild.test", 2),
        ("special.wild.test", 3),
        ("wild.test", 0),
        ("a.b.wild.test", 0),
        (".wild.test", 0),
        ("unknown.test", 0),
        ("test", 0),
        ("\ufffd", 0),
        (None, 0),
    ],
)
def test_exact_names_come_before_wildcards_of_one_label_and_the_first_is_the_default(
    tmp_path: Path, authority: trustme.CA, name: str | None, index: int
) -> None:
    names = [("first.test",), ("Second.test", "also.second.test"), ("*.wild.test",), ("special.wild.test",)]
    files = [write_pair(tmp_path, authority, *each, stem=f"{number}-") for number, each in enumerate(names)]
    assert shown_serial(load(files), name) == serial_of(files[index].certfile)


def test_of_two_certificates_with_the_same_name_the_first_is_served(tmp_path: Path, authority: trustme.CA) -> None:
    first = write_pair(tmp_path, authority, "default.test", stem="0-")
    second = write_pair(tmp_path, authority, "a.test", "both.test", stem="1-")
    third = write_pair(tmp_path, authority, "both.test", "b.test", stem="2-")
    found = load([first, second, third])
    assert shown_serial(found, "both.test") == serial_of(second.certfile)
    assert shown_serial(found, "b.test") == serial_of(third.certfile)


def test_a_certificate_that_is_never_served_is_told_of(tmp_path: Path, authority: trustme.CA) -> None:
    first, second = (write_pair(tmp_path, authority, "same.test", stem=f"{number}-") for number in range(2))
    with captured_logs() as logs:
        found = load([first, second])
    assert [served.certfile for served in found.certificates] == [first.certfile]
    (entry,) = logs
    assert entry["log_level"] == "warning"
    assert entry["certfile"] == str(second.certfile)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_of_two_kinds_of_keys_for_the_same_names_each_client_gets_one_that_it_can_verify(
    tmp_path: Path, authority: trustme.CA, version: ssl.TLSVersion
) -> None:
    rsa = write_pair(tmp_path, authority, "localhost", stem="rsa-", key_type=RSA)
    ecdsa = write_pair(tmp_path, authority, "localhost", stem="ecdsa-", key_type=ECDSA)
    shown = load([rsa, ecdsa]).choose("localhost")
    assert shown.pem is None, "which one a handshake takes is not told"

    def serial(ciphers: str) -> int:
        client = client_context(tmp_path / CA)
        client.maximum_version = version
        client.set_ciphers(ciphers)
        return serial_of(shake_hands(shown.context, client).client.getpeercert(binary_form=True) or b"")

    assert serial("DEFAULT") == serial_of(ecdsa.certfile), "the cheaper one is preferred"
    if version is ssl.TLSVersion.TLSv1_2:  # in 1.3 the suites do not name the kind of key
        assert serial("ECDHE+aRSA") == serial_of(rsa.certfile)


def test_a_fault_that_several_certificates_share_is_told_once(tmp_path: Path, authority: trustme.CA) -> None:
    files = [write_pair(tmp_path, authority, name, stem=name) for name in ("a.test", "b.test")]
    broken = [replace(each, ca_certs=tmp_path / "none.pem", client_auth="required") for each in files]
    missing = TLSFiles(tmp_path / "missing.pem")
    found, faults = load_certificates([*broken, missing], datetime.now(UTC))
    assert found is None
    assert sorted(fault.setting or "" for fault in faults) == ["ca_certs", "certfile"]


def test_the_soonest_is_the_one_that_expires_first(tmp_path: Path, authority: trustme.CA) -> None:
    late = write_pair(tmp_path, authority, "late.test", stem="late-", not_after=datetime(2080, 1, 1))
    soon = write_pair(tmp_path, authority, "soon.test", stem="soon-", not_after=datetime(2070, 1, 1))
    assert load([late, soon]).soonest.certfile == soon.certfile


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_sessions_are_resumed_with_the_same_set_and_not_with_the_next(
    tmp_path: Path, authority: trustme.CA, version: ssl.TLSVersion
) -> None:
    files = write_pair(tmp_path, authority, "localhost")
    client = client_context(tmp_path / CA)
    client.maximum_version = version
    before, after = (load([files]).choose("localhost").context for _ in range(2))
    first = shake_hands(before, client)
    first.server.write(b"x")
    first.client.read(1)  # behind TLS 1.3's tickets
    assert shake_hands(before, client, session=first.client.session).client.session_reused
    made_anew = shake_hands(after, client, session=first.client.session).client
    assert not made_anew.session_reused
    assert made_anew.version() == first.client.version()


def test_a_pair_that_is_replaced_while_it_is_read_is_read_again(
    tmp_path: Path, authority: trustme.CA, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = write_pair(tmp_path, authority, "localhost")
    next_one = write_pair(tmp_path, authority, "localhost", stem="next-")
    assert served.keyfile is not None
    assert next_one.keyfile is not None

    def parse_and_replace(pem: bytes, path: Path, *, setting: str | None = None) -> list[x509.Certificate]:
        if next_one.certfile.exists():
            next_one.certfile.replace(served.certfile)
            next_one.keyfile.replace(served.keyfile)
        return parse_certificates(pem, path, setting=setting)

    monkeypatch.setattr(tls, "parse_certificates", parse_and_replace)
    found = load([served])
    assert shown_serial(found, "localhost") == serial_of(served.certfile)
    assert found.certificates[0].info.pem in served.certfile.read_text()


def test_a_pair_that_is_replaced_again_and_again_is_refused(
    tmp_path: Path, authority: trustme.CA, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = write_pair(tmp_path, authority, "localhost")

    def parse_and_touch(pem: bytes, path: Path, *, setting: str | None = None) -> list[x509.Certificate]:
        path.touch()
        return parse_certificates(pem, path, setting=setting)

    monkeypatch.setattr(tls, "parse_certificates", parse_and_touch)
    found, faults = load_certificates([served], datetime.now(UTC))
    assert found is None
    assert ["changed each time that they were read" in fault.what for fault in faults] == [True]
