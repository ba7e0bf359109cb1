"""What applications are told of a connection's encryption: the ASGI TLS extension, version 0.2.

Read once for each connection, when its handshake is made.
"""

from __future__ import annotations

import _ssl
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

from cryptography import x509

_VERSIONS = {"TLSv1.2": 0x0303, "TLSv1.3": 0x0304}


@dataclass(frozen=True)
class ShownCertificate:
    """What clients are shown.

    Attributes:
        context: that makes their handshakes.
        pem: the certificate; None where the handshake chooses between several, and does not tell which it chose.
    """

    context: ssl.SSLContext
    pem: str | None


def describe_tls(connection: ssl.SSLObject, shown: ShownCertificate) -> Mapping[str, Any]:
    """The extension's entries for a connection whose handshake is made.

    Args:
        connection: the server's end.
        shown: what it was made with.

    Raises:
        ConnectionAbortedError: the client's certificate is good to OpenSSL, and cannot be read here.
    """
    chain = _client_chain(connection) if shown.context.verify_mode != ssl.CERT_NONE else []
    cipher = connection.cipher()
    return {
        "server_cert": shown.pem,
        "client_cert_chain": tuple(ssl.DER_cert_to_PEM_cert(certificate) for certificate in chain),
        "client_cert_name": _subject(chain[0]) if chain else None,
        "client_cert_error": None,  # a client whose certificate is not verified has no connection
        "tls_version": _VERSIONS.get(connection.version() or ""),
        "cipher_suite": _cipher_suites().get(cipher[0]) if cipher else None,
    }


def _client_chain(connection: ssl.SSLObject) -> list[bytes]:
    """The certificates that the client has sent, its own first, in DER; that one alone in a resumed session."""
    own = connection.getpeercert(binary_form=True)
    if own is None:
        return []
    # Before Python 3.13 only the inner object has it, and gives objects in place of bytes.
    inner: Any = connection if hasattr(connection, "get_unverified_chain") else cast(Any, connection)._sslobj
    chain = inner.get_unverified_chain() or [own]
    return [each if isinstance(each, bytes) else each.public_bytes(_ssl.ENCODING_DER) for each in chain]


def _subject(certificate: bytes) -> str:
    try:
        return x509.load_der_x509_certificate(certificate).subject.rfc4514_string()
    except ValueError as error:
        raise ConnectionAbortedError(f"the client's certificate cannot be read: {error}") from error


@lru_cache(maxsize=1)
def _cipher_suites() -> Mapping[str, int]:
    """Their numbers, as IANA has them, by OpenSSL's names."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("ALL")
    # OpenSSL numbers all suites of SSL 3.0 and later alike, in the two lower bytes.
    return {str(cipher["name"]): int(cipher["id"]) & 0xFFFF for cipher in context.get_ciphers()}
