"""Counts TLS handshakes: how long each took, or why it failed, in a closed set of reasons."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

import trio

from sage_edge.core.metric_families import Metrics

_REASONS = {
    "HTTP_REQUEST": "not_tls",
    "HTTPS_PROXY_REQUEST": "not_tls",
    "WRONG_VERSION_NUMBER": "not_tls",
    "UNKNOWN_PROTOCOL": "not_tls",
    "UNSUPPORTED_PROTOCOL": "version",
    "VERSION_TOO_LOW": "version",
    "NO_SHARED_CIPHER": "no_shared_cipher",
    "NO_SUITABLE_SIGNATURE_ALGORITHM": "no_shared_cipher",
    "NO_SUITABLE_KEY_SHARE": "no_shared_cipher",
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "client_certificate",
    "CERTIFICATE_VERIFY_FAILED": "client_certificate",
}
"""By OpenSSL's name for the error. An alert, which the client sent, is told by its name's middle."""


@contextmanager
def measured_handshake(metrics: Metrics) -> Iterator[None]:
    """Count the handshake that is made within this block, and let its error pass. The limit of time belongs inside."""
    began_at = perf_counter()
    try:
        yield
    except ssl.SSLError as error:
        metrics.handshake_failures.add(_explain(error.reason or ""))
        raise
    except ConnectionAbortedError:
        metrics.handshake_failures.add("no_protocol")
        raise
    except OSError:
        metrics.handshake_failures.add("client_left")
        raise
    except trio.TooSlowError:
        metrics.handshake_failures.add("timeout")
        raise
    metrics.handshake_seconds.of().observe(perf_counter() - began_at)


def _explain(reason: str) -> str:
    return _REASONS.get(reason) or ("alert" if "_ALERT_" in reason else "other")
