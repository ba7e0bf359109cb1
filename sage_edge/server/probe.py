"""Asks a running edge whether it is ready, from the machine it runs on."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from contextlib import closing

from sage_edge.core.bind import Bind, FileDescriptorBind, TCPBind, UnixBind
from sage_edge.core.errors import EdgeError, ExitCode, Fault, reason_of
from sage_edge.core.settings import Settings

PROBE_SECONDS = 5.0
LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}


def ask_readiness(settings: Settings) -> str:
    """Ask the edge that these settings describe, at the first address it listens on.

    Returns:
        "ready".

    Raises:
        EdgeError: it is not ready, or did not answer; code NOT_READY.
    """
    bind = settings.binds[0]
    try:
        with closing(_connect(bind)) as sock:
            stream = _build_context().wrap_socket(sock) if settings.is_tls else sock
            connection = http.client.HTTPConnection("localhost", timeout=PROBE_SECONDS)
            connection.sock = stream
            connection.request("GET", "/readyz")
            response = connection.getresponse()
            body = json.loads(response.read())
            status = str(body["status"])
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError) as error:
        reason = reason_of(error) if isinstance(error, OSError) else str(error) or type(error).__name__
        raise EdgeError(
            Fault(
                f"no edge answers at {bind}: {reason}",
                "give probe the options that serve was given",
                ExitCode.NOT_READY,
                error,
            )
        ) from None
    if response.status != http.client.OK:
        raise EdgeError(Fault(f"the edge at {bind} is {status}", _name_failed(body), ExitCode.NOT_READY))
    return status


def _build_context() -> ssl.SSLContext:
    """The edge asks itself: its certificate is for other names than the loopback's."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _connect(bind: Bind) -> socket.socket:
    match bind:
        case TCPBind(host, port):
            return socket.create_connection((LOOPBACK.get(host, host), port), timeout=PROBE_SECONDS)
        case UnixBind(path):
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            sock.settimeout(PROBE_SECONDS)
            sock.connect(path)
            return sock
        case FileDescriptorBind():
            raise OSError(0, "a file descriptor cannot be asked; give --bind the address behind it")


def _name_failed(body: dict[str, dict[str, dict[str, object]]]) -> str:
    failed = [f"{name}: {check['detail']}" for name, check in body.get("checks", {}).items() if not check["ok"]]
    return "; ".join(failed)
