from __future__ import annotations

import os
import pty
import ssl
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import trustme

from sage_edge.core.errors import EdgeError, ExitCode
from sage_edge.server.tls import ClientAuth, TLSFiles, build_ssl_context
from tests.kit.handshake import client_context, shake_hands
from tests.kit.tls_files import CA, CERTIFICATE, COMBINED, ENCRYPTED_PAIR, KEY, PAIR, write_tls_files

MISSING = Path("missing.pem")

BUILD_AT_A_TERMINAL = """
import os, sys
from pathlib import Path
from sage_edge.core.errors import EdgeError
from sage_edge.server.tls import TLSFiles, build_ssl_context
os.open(sys.argv[1], os.O_RDWR)  # a session leader's first terminal becomes the one /dev/tty stands for
os.close(os.open("/dev/tty", os.O_RDWR))
try:
    build_ssl_context(TLSFiles(Path("cert.pem"), Path("encrypted.pem")))
except EdgeError:
    print("refused")
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with the files of `tests.kit.tls_files`."""
    write_tls_files(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


# What is loaded


@pytest.mark.usefixtures("folder")
def test_intermediates_are_sent() -> None:
    root = trustme.CA()
    leaf = root.create_child_ca().issue_cert("localhost", key_type=trustme.KeyType.ECDSA)
    leaf.private_key_and_cert_chain_pem.write_to_path(COMBINED)
    root.cert_pem.write_to_path(CA)
    client = client_context(CA)
    client.verify_flags &= ~ssl.VERIFY_X509_STRICT  # trustme's child CAs have no authority key identifier
    shake_hands(build_ssl_context(TLSFiles(COMBINED)), client)


@pytest.mark.parametrize(
    "files",
    [
        TLSFiles(MISSING, KEY),
        TLSFiles(CERTIFICATE),
        ENCRYPTED_PAIR,
        replace(PAIR, keyfile_password_file=MISSING),
        replace(PAIR, client_auth="required"),
        replace(PAIR, client_auth="optional", ca_certs=MISSING),
    ],
)
@pytest.mark.usefixtures("folder")
def test_building_without_a_check_speaks_in_faults_too(files: TLSFiles) -> None:
    with pytest.raises(EdgeError) as caught:
        build_ssl_context(files)
    assert caught.value.exit_code is ExitCode.STARTUP
    assert all(fault.what.startswith("--") and fault.hint for fault in caught.value.faults)


@pytest.mark.usefixtures("folder")
def test_nothing_asks_for_a_password_at_the_terminal() -> None:
    controller, terminal = pty.openpty()
    try:
        result = subprocess.run(
            [sys.executable, "-c", BUILD_AT_A_TERMINAL, os.ttyname(terminal)],
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=30,
        )
    finally:
        os.close(controller)
        os.close(terminal)
    assert (result.stdout, result.stderr) == ("refused\n", "")


# The context


@pytest.mark.usefixtures("folder")
def test_safe_options_are_added_to_the_defaults() -> None:
    options = build_ssl_context(PAIR).options
    defaults = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).options
    assert options & defaults == defaults
    for option in (ssl.OP_NO_COMPRESSION, ssl.OP_NO_RENEGOTIATION, ssl.OP_CIPHER_SERVER_PREFERENCE):
        assert options & option


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [(("h2",), "h2"), (("http/1.1", "h2"), "h2"), (("http/1.1",), "http/1.1"), ((), None), (("spdy/3",), None)],
)
@pytest.mark.usefixtures("folder")
def test_alpn_prefers_http2(offered: tuple[str, ...], chosen: str | None) -> None:
    hands = shake_hands(build_ssl_context(PAIR), client_context(CA, alpn=offered))
    assert hands.server.selected_alpn_protocol() == chosen
    assert hands.client.selected_alpn_protocol() == chosen


@pytest.mark.usefixtures("folder")
def test_tls_1_3_is_preferred() -> None:
    assert shake_hands(build_ssl_context(PAIR), client_context(CA)).client.version() == "TLSv1.3"


@pytest.mark.usefixtures("folder")
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated:DeprecationWarning")
def test_tls_1_1_is_refused() -> None:
    client = client_context(CA)
    client.set_ciphers("DEFAULT:@SECLEVEL=0")
    client.minimum_version = client.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(ssl.SSLError, match="UNSUPPORTED_PROTOCOL"):
        shake_hands(build_ssl_context(PAIR), client)


def tls_1_2_client(ciphers: str) -> ssl.SSLContext:
    client = client_context(CA)
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    client.set_ciphers(ciphers)
    return client


@pytest.mark.usefixtures("folder")
def test_tls_1_2_takes_the_server_s_order_of_ciphers() -> None:
    client = tls_1_2_client("ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384")
    cipher = shake_hands(build_ssl_context(PAIR), client).client.cipher()
    assert cipher is not None
    assert cipher[0] == "ECDHE-ECDSA-AES256-GCM-SHA384"


@pytest.mark.usefixtures("folder")
def test_tls_1_2_without_aead_is_refused() -> None:
    with pytest.raises(ssl.SSLError, match="NO_SHARED_CIPHER"):
        shake_hands(build_ssl_context(PAIR), tls_1_2_client("ECDHE-ECDSA-AES128-SHA256:ECDHE-ECDSA-AES256-SHA"))


@pytest.mark.usefixtures("folder")
def test_every_tls_1_2_cipher_is_ephemeral_and_aead() -> None:
    names = [cipher["name"] for cipher in build_ssl_context(PAIR).get_ciphers() if cipher["protocol"] == "TLSv1.2"]
    # RFC 9113 section 9.2.2 obliges to offer the first of these; which one applies depends on the key.
    assert {"ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES128-GCM-SHA256"} <= set(names)
    assert all(name.startswith("ECDHE-") and ("-GCM-" in name or "-CHACHA20-" in name) for name in names)


# Client certificates


def mutual(client_auth: ClientAuth) -> ssl.SSLContext:
    files = replace(PAIR, ca_certs=Path("clients.pem"), client_auth=client_auth)
    return build_ssl_context(files)


@pytest.fixture
def clients(folder: Path) -> trustme.CA:
    """The CA that signs for clients, in clients.pem."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "clients.pem")
    return authority


def a_client(authority: trustme.CA | None) -> ssl.SSLContext:
    context = client_context(CA)
    if authority is not None:
        authority.issue_cert("someone@example.test", key_type=trustme.KeyType.ECDSA).configure_cert(context)
    return context


def test_without_client_auth_no_certificate_is_asked_for(clients: trustme.CA) -> None:
    hands = shake_hands(mutual("none"), a_client(clients))
    assert hands.server.getpeercert(binary_form=True) is None


@pytest.mark.usefixtures("clients")
def test_an_optional_client_certificate_may_be_left_out() -> None:
    assert shake_hands(mutual("optional"), a_client(None)).server.getpeercert() is None


@pytest.mark.usefixtures("clients")
def test_a_required_client_certificate_may_not_be_left_out() -> None:
    with pytest.raises(ssl.SSLError, match="PEER_DID_NOT_RETURN_A_CERTIFICATE"):
        shake_hands(mutual("required"), a_client(None))


@pytest.mark.parametrize("client_auth", ["optional", "required"])
def test_a_client_certificate_of_the_ca_s_is_taken(client_auth: ClientAuth, clients: trustme.CA) -> None:
    certificate = shake_hands(mutual(client_auth), a_client(clients)).server.getpeercert()
    assert certificate is not None
    assert ("email", "someone@example.test") in certificate["subjectAltName"]


@pytest.mark.parametrize("client_auth", ["optional", "required"])
@pytest.mark.usefixtures("clients")
def test_a_client_certificate_of_another_ca_is_refused(client_auth: ClientAuth) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(mutual(client_auth), a_client(trustme.CA()))
