from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from sage_edge.core.errors import ExitCode, Fault
from sage_edge.server.certificates import CertificateInfo
from sage_edge.server.tls import ClientAuth, TLSFiles, build_ssl_context, check_tls, expiry_warning, name_warning
from tests.kit.handshake import client_context, shake_hands
from tests.kit.privileges import without_capabilities
from tests.kit.tls_files import (
    CA,
    CERTIFICATE,
    COMBINED,
    ENCRYPTED_PAIR,
    KEY,
    PAIR,
    PASSWORD,
    write_nameless_pair,
    write_tls_files,
)

NOW = datetime.now(UTC)
DAY = timedelta(days=1)
MISSING = Path("missing.pem")

CHECK_AND_REPORT = """
from datetime import UTC, datetime
from pathlib import Path
from sage_edge.server.tls import TLSFiles, check_tls
paths = [Path(name) for name in ("cert.pem", "key.pem", "password", "ca.pem")]
for fault in check_tls(TLSFiles(*paths), datetime.now(UTC))[1]:
    print(fault.what)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with the files of `tests.kit.tls_files`."""
    write_tls_files(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def issue(
    certificate: Path,
    key: Path,
    name: str = "localhost",
    *,
    not_before: datetime | None = None,
    not_after: datetime | None = None,
) -> None:
    leaf = trustme.CA().issue_cert(name, key_type=trustme.KeyType.ECDSA, not_before=not_before, not_after=not_after)
    leaf.cert_chain_pems[0].write_to_path(str(certificate))
    leaf.private_key_pem.write_to_path(str(key))


def faults_of(files: TLSFiles) -> list[Fault]:
    info, faults = check_tls(files, NOW)
    for fault in faults:
        assert fault.code is ExitCode.STARTUP
        assert fault.setting is not None
        assert fault.what.startswith(f"--{fault.setting.replace('_', '-')}: ")
        assert fault.hint
        assert "\n" not in fault.what + fault.hint
    assert info is not None or any(fault.setting == "certfile" for fault in faults)
    return faults


# Files that serve


@pytest.mark.parametrize(
    "files",
    [
        PAIR,
        TLSFiles(COMBINED),
        TLSFiles(COMBINED, COMBINED),
        replace(ENCRYPTED_PAIR, keyfile_password_file=PASSWORD),
        replace(PAIR, keyfile_password_file=PASSWORD),
        replace(PAIR, ca_certs=CA),
    ],
    ids=["pair", "combined", "combined twice", "encrypted", "password not needed", "CA not needed"],
)
@pytest.mark.usefixtures("folder")
def test_good_files_have_no_faults_and_serve(files: TLSFiles) -> None:
    assert faults_of(files) == []
    shake_hands(build_ssl_context(files), client_context(CA))


@pytest.mark.usefixtures("folder")
def test_the_check_describes_the_certificate() -> None:
    info, _ = check_tls(PAIR, NOW)
    assert info is not None
    assert info.names == ("localhost", "127.0.0.1")


@pytest.mark.usefixtures("folder")
def test_a_password_file_written_on_windows_opens_the_key() -> None:
    PASSWORD.write_bytes(b"open sesame \r\n")
    assert faults_of(replace(ENCRYPTED_PAIR, keyfile_password_file=PASSWORD)) == []


@pytest.mark.usefixtures("folder")
def test_a_key_as_openssl_ecparam_writes_it_is_read() -> None:
    key = load_pem_private_key(KEY.read_bytes(), password=None)
    traditional = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    parameters = b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
    KEY.write_bytes(parameters + traditional)
    assert faults_of(PAIR) == []


# Faults


def write(path: Path, content: bytes) -> Callable[[], object]:
    return lambda: path.write_bytes(content)


def overlong_password() -> None:
    PASSWORD.write_bytes(b"x" * 1025)


def put_the_intermediate_first() -> None:
    root = trustme.CA()
    child = root.create_child_ca()
    leaf = child.issue_cert("localhost", key_type=trustme.KeyType.ECDSA)
    CERTIFICATE.write_bytes(child.cert_pem.bytes() + leaf.cert_chain_pems[0].bytes())
    leaf.private_key_pem.write_to_path(KEY)


def put_a_weak_pair() -> None:
    key = rsa.generate_private_key(65537, 1024)  # noqa: S505 # weak on purpose
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "weak.test")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, NOW - DAY, NOW + DAY)
    CERTIFICATE.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM))
    KEY.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def put_a_client_certificate() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "robot")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, NOW - DAY, NOW + DAY)
    builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
    CERTIFICATE.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM))
    KEY.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def put_client_authorities(*dates: tuple[datetime, datetime]) -> None:
    """CAs that are valid from one date to another."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "clients")])
    builders = [x509.CertificateBuilder(name, name, key.public_key(), 1, *each) for each in dates]
    CA.write_bytes(b"".join(each.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM) for each in builders))


PAST, PRESENT, FUTURE = (NOW - 9 * DAY, NOW - DAY), (NOW - DAY, NOW + DAY), (NOW + DAY, NOW + 9 * DAY)


def nothing() -> None:
    pass


DAMAGED_KEY = b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"
DAMAGED_CERTIFICATE = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"


@pytest.mark.parametrize(
    ("prepare", "files", "what", "hint"),
    [
        (nothing, TLSFiles(MISSING, KEY), "--certfile: cannot read missing.pem: no such file", "run 'sage-edge certs"),
        (nothing, TLSFiles(MISSING), "--certfile: cannot read missing.pem: no such file", "name an existing PEM file"),
        (nothing, TLSFiles(Path(), KEY), "--certfile: cannot read .: it is a directory", "name a file"),
        (lambda: os.mkfifo("pipe"), TLSFiles(Path("pipe"), KEY), "--certfile: cannot read pipe: it is not a reg", ""),
        (nothing, TLSFiles(KEY / "x", KEY), "--certfile: cannot read key.pem/x: not a directory", ""),
        (write(CERTIFICATE, b""), PAIR, "--certfile: cert.pem is empty", "PEM"),
        (write(CERTIFICATE, b"0\x82\x01\x00"), PAIR, "--certfile: cert.pem is not PEM", "openssl"),
        (write(CERTIFICATE, DAMAGED_CERTIFICATE), PAIR, "--certfile: a certificate in cert.pem is damaged", "openssl"),
        (write(CERTIFICATE, DAMAGED_KEY), PAIR, "--certfile: cert.pem holds no certificate", "holds a private key"),
        (nothing, TLSFiles(CERTIFICATE), "--keyfile: not given, and cert.pem holds no private key", "--keyfile"),
        (nothing, TLSFiles(CERTIFICATE, MISSING), "--keyfile: cannot read missing.pem: no such file", "certs create"),
        (nothing, TLSFiles(CERTIFICATE, Path()), "--keyfile: cannot read .: it is a directory", ""),
        (write(KEY, b" \n"), PAIR, "--keyfile: key.pem is empty", ""),
        (write(KEY, b"secret"), PAIR, "--keyfile: key.pem is not PEM", ""),
        (write(KEY, DAMAGED_KEY), PAIR, "--keyfile: the private key in key.pem is damaged", "openssl pkey"),
        (nothing, TLSFiles(CERTIFICATE, CA), "--keyfile: ca.pem holds no private key", "this one holds a certificate"),
        (
            lambda: issue(Path("other.pem"), KEY),
            PAIR,
            "--keyfile: the private key in key.pem is not that of cert.pem (for localhost, 127.0.0.1)",
            "the key this certificate was made with",
        ),
        (
            put_the_intermediate_first,
            PAIR,
            "--keyfile: the private key in key.pem is not that of cert.pem (for ",
            "put the server's own certificate first in cert.pem",
        ),
        (
            nothing,
            ENCRYPTED_PAIR,
            "--keyfile-password-file: not given, but the private key in encrypted.pem is encrypted",
            "password",
        ),
        (
            write(PASSWORD, b"open sesame"),
            replace(ENCRYPTED_PAIR, keyfile_password_file=PASSWORD),
            "--keyfile-password-file: the password in password does not open encrypted.pem",
            "right password",
        ),
        (
            nothing,
            replace(ENCRYPTED_PAIR, keyfile_password_file=MISSING),
            "--keyfile-password-file: cannot read missing.pem: no such file",
            "existing file",
        ),
        (
            write(PASSWORD, b"\n"),
            replace(ENCRYPTED_PAIR, keyfile_password_file=PASSWORD),
            "--keyfile-password-file: password is empty",
            "write the key's password",
        ),
        (
            overlong_password,
            replace(ENCRYPTED_PAIR, keyfile_password_file=PASSWORD),
            "--keyfile-password-file: the password in password is longer than the 1024 bytes",
            "",
        ),
        (
            lambda: issue(
                CERTIFICATE, KEY, "old.test", not_before=datetime(2019, 1, 1), not_after=datetime(2020, 1, 1)
            ),
            PAIR,
            "--certfile: cert.pem (for old.test) expired 2020-01-01 00:00 UTC",
            "renew",
        ),
        (
            lambda: issue(CERTIFICATE, KEY, not_before=datetime(2050, 1, 2, 3, 4), not_after=datetime(2051, 1, 1)),
            PAIR,
            "--certfile: cert.pem (for localhost) is not valid before 2050-01-02 03:04 UTC",
            "clock",
        ),
        (nothing, replace(PAIR, ca_certs=MISSING), "--ca-certs: cannot read missing.pem: no such file", ""),
        (write(CA, b""), replace(PAIR, ca_certs=CA), "--ca-certs: ca.pem is empty", ""),
        (write(CA, b"x"), replace(PAIR, ca_certs=CA), "--ca-certs: ca.pem is not PEM", ""),
        (nothing, replace(PAIR, ca_certs=KEY), "--ca-certs: key.pem holds no certificate", ""),
        (nothing, replace(PAIR, client_auth="required"), "--ca-certs: not given, but --client-auth required", "name"),
        (put_a_client_certificate, PAIR, "--certfile: cert.pem (for no name) is not for servers", "serverAuth"),
        (
            lambda: put_client_authorities(PAST),
            replace(PAIR, ca_certs=CA, client_auth="optional"),
            f"--ca-certs: no CA in ca.pem is valid any more: the last, CN=clients, expired {NOW - DAY:%Y-%m-%d}",
            "present CA",
        ),
        (
            lambda: put_client_authorities(PAST, FUTURE),
            replace(PAIR, ca_certs=CA, client_auth="required"),
            f"--ca-certs: no CA in ca.pem is valid yet: CN=clients is not before {NOW + DAY:%Y-%m-%d}",
            "clock",
        ),
        (put_a_weak_pair, PAIR, "--certfile: cert.pem cannot be served: ee key too small", "2048 bits"),
    ],
)
@pytest.mark.usefixtures("folder")
def test_each_fault_names_its_option_and_file(
    prepare: Callable[[], object], files: TLSFiles, what: str, hint: str
) -> None:
    prepare()
    (fault,) = faults_of(files)
    assert fault.what.startswith(what)
    assert hint in fault.hint


@pytest.mark.parametrize("client_auth", ["none", "required"])
@pytest.mark.usefixtures("folder")
def test_client_authorities_that_have_expired_do_no_harm_beside_a_good_one_or_unused(client_auth: ClientAuth) -> None:
    put_client_authorities(PAST, PRESENT, FUTURE) if client_auth == "required" else put_client_authorities(PAST)
    assert faults_of(replace(PAIR, ca_certs=CA, client_auth=client_auth)) == []


@pytest.mark.usefixtures("folder")
def test_all_faults_are_found_at_once() -> None:
    issue(CERTIFICATE, Path("own.pem"), not_before=NOW - 9 * DAY, not_after=NOW - 2 * DAY)
    CA.write_bytes(b"")
    faults = faults_of(TLSFiles(CERTIFICATE, KEY, MISSING, CA, "required"))
    assert sorted(fault.setting or "" for fault in faults) == [
        "ca_certs",
        "certfile",
        "keyfile",
        "keyfile_password_file",
    ]


@pytest.mark.usefixtures("folder")
def test_every_file_may_be_missing_at_once() -> None:
    faults = faults_of(TLSFiles(MISSING, MISSING, MISSING, MISSING))
    assert [fault.what.partition(": ")[2] for fault in faults] == ["cannot read missing.pem: no such file"] * 4


@pytest.mark.usefixtures("folder")
def test_files_that_may_not_be_read_are_all_named() -> None:
    for path in (CERTIFICATE, KEY, PASSWORD, CA):
        path.chmod(0)
    result = subprocess.run(
        [sys.executable, "-c", CHECK_AND_REPORT],
        preexec_fn=without_capabilities,
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.splitlines() == [
        "--certfile: cannot read cert.pem: permission denied",
        "--keyfile-password-file: cannot read password: permission denied",
        "--keyfile: cannot read key.pem: permission denied",
        "--ca-certs: cannot read ca.pem: permission denied",
    ]


# Expiry


@pytest.mark.parametrize(
    ("left", "words"), [(13.9 * DAY, "expires in 13.9 days"), (0.1 * DAY, "expires in 0.1 days"), (14 * DAY, None)]
)
def test_a_certificate_in_its_last_fortnight_is_warned_of(left: timedelta, words: str | None) -> None:
    info = CertificateInfo(("edge.test",), NOW - DAY, NOW + left, "CN=someone")
    warning = expiry_warning(CERTIFICATE, info, NOW)
    if words is None:
        assert warning is None
    else:
        assert warning is not None
        assert f"cert.pem (for edge.test) {words}" in warning


@pytest.mark.usefixtures("folder")
def test_a_certificate_without_names_is_served_with_a_warning() -> None:
    for warns in (False, True):
        files = write_nameless_pair(Path()) if warns else PAIR
        info, faults = check_tls(files, NOW)
        assert info is not None
        assert faults == []
        assert ("cert.pem has no names" in (name_warning(CERTIFICATE, info) or "")) == warns
