"""What a default edge offers by TLS, as the openssl program sees it: the first column of docs/security.md."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.edge import Edge, running_edge

OPENSSL = shutil.which("openssl")
EVERYTHING = "ALL:COMPLEMENTOFALL:@SECLEVEL=0"
AEAD = {"ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-CHACHA20-POLY1305"}

pytestmark = pytest.mark.skipif(OPENSSL is None, reason="openssl is not installed")


@pytest.fixture(scope="module")
def edge(certificates: Path) -> Iterator[Edge]:
    with running_edge("--no-llm", certificates=certificates) as edge:
        yield edge


def ask(edge: Edge, *options: str, said: str = "") -> str:
    """What s_client says of a connection."""
    assert edge.ca is not None
    trusted = ("-CAfile", str(edge.ca), "-verify_return_error", "-servername", "localhost")
    command = [str(OPENSSL), "s_client", "-connect", f"127.0.0.1:{edge.port}", *trusted, *options]
    result = subprocess.run(command, input=said, capture_output=True, text=True, errors="replace", timeout=30)
    return result.stdout + result.stderr


def cipher(answer: str) -> str:
    """The suite that was agreed on; "" for none."""
    found = re.search(r"^New, TLSv[\d.]+, Cipher is (\S+)$", answer, re.MULTILINE)
    return found[1] if found else ""


@pytest.mark.parametrize("version", ["-tls1", "-tls1_1"])
def test_old_versions_are_refused(edge: Edge, version: str) -> None:
    answer = ask(edge, version, "-cipher", EVERYTHING)
    assert "alert protocol version" in answer
    assert cipher(answer) == ""


def test_the_suites_of_tls_1_2_are_ephemeral_and_aead_and_no_others(edge: Edge) -> None:
    listing = subprocess.run([str(OPENSSL), "ciphers", EVERYTHING], capture_output=True, text=True, check=True).stdout
    others = [name for name in listing.strip().split(":") if name not in AEAD and not name.startswith("TLS_")]
    assert len(others) > 30
    assert cipher(ask(edge, "-tls1_2", "-cipher", ":".join([*others, "@SECLEVEL=0"]))) == ""
    for name in AEAD:
        assert cipher(ask(edge, "-tls1_2", "-cipher", name)) == name


def test_the_suites_of_tls_1_3_are_its_three_aead_ones_in_the_server_s_order(edge: Edge) -> None:
    left = ["TLS_AES_128_GCM_SHA256", "TLS_CHACHA20_POLY1305_SHA256", "TLS_AES_256_GCM_SHA384"]
    order = []
    while left:
        order.append(cipher(ask(edge, "-tls1_3", "-ciphersuites", ":".join(left))))
        left.remove(order[-1])
    assert order == ["TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256", "TLS_AES_128_GCM_SHA256"]
    assert cipher(ask(edge, "-tls1_3", "-ciphersuites", "TLS_AES_128_CCM_SHA256:TLS_AES_128_CCM_8_SHA256")) == ""


def test_renegotiation_is_refused(edge: Edge) -> None:
    answer = ask(edge, "-tls1_2", said="R\n")
    assert "Secure Renegotiation IS supported" in answer
    assert "RENEGOTIATING" in answer
    assert re.search(r"no.renegotiation", answer), answer


def test_nothing_is_compressed_stapled_or_taken_early(edge: Edge) -> None:
    answer = ask(edge, "-tls1_3", "-status")
    assert "Compression: NONE" in answer
    assert "OCSP response: no response sent" in answer
    assert "Early data was not sent" in answer
    assert "Max Early Data: 0" in answer or "Max Early Data" not in answer


def test_unknown_protocols_are_refused_and_http2_is_preferred(edge: Edge) -> None:
    assert "alert no application protocol" in ask(edge, "-alpn", "spdy/3")
    assert "ALPN protocol: h2" in ask(edge, "-alpn", "http/1.1,h2")


@pytest.mark.parametrize("group", ["X25519", "P-256", "P-384"])
def test_the_usual_groups_are_offered(edge: Edge, group: str) -> None:
    assert cipher(ask(edge, "-tls1_3", "-groups", group))
