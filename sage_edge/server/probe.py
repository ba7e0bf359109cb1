"""Asks a running edge whether it is ready, from the machine it runs on."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from typing import Any

from sage_edge.core.bind import Bind, FileDescriptorBind, SystemdBind, TCPBind, UnixBind
from sage_edge.core.errors import EdgeError, ExitCode, Fault, reason_of
from sage_edge.core.settings import Settings
from sage_edge.server.proxy_protocol import LOCAL_HEADER

PROBE_SECONDS = 5.0
LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}


def ask_readiness(settings: Settings) -> str:
    """Ask the edge that these settings describe, at the first address it listens on.

    Returns:
        "ready".

    Raises:
        EdgeError: it is not ready, or did not answer; code NOT_READY.
    """
    bind = _reachable(settings.binds[0])
    try:
        with _connect(bind) as sock:
            _introduce(sock, settings)
            if settings.is_tls:
                with _build_context().wrap_socket(sock) as stream:
                    code, body = _ask(stream)
            else:
                code, body = _ask(sock)
            status, failed = str(body["status"]), _name_failed(body)
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError, AttributeError) as error:
        hint = "give probe the options that serve was given"
        if settings.client_auth == "required":
            hint = "the edge requires a client certificate, and probe has none: ask /readyz with a client that has one"
        elif isinstance(error, ConnectionResetError) and not settings.is_tls:  # RemoteDisconnected is one, too
            hint = f"the edge may speak TLS: {hint}"
        what = f"no edge answers at {bind}: {_describe(error)}"
        raise EdgeError(Fault(what, hint, ExitCode.NOT_READY, error)) from None
    if code != http.client.OK:
        raise EdgeError(Fault(f"the edge at {bind} is {status}", failed, ExitCode.NOT_READY))
    return status


def _ask(stream: socket.socket) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("localhost")
    connection.sock = stream
    connection.request("GET", "/readyz")
    response = connection.getresponse()
    return response.status, json.loads(response.read())


def _describe(error: Exception) -> str:
    """One line of a foreign error."""
    if isinstance(error, ssl.SSLError):
        return f"the TLS handshake failed: {(error.reason or 'no reason given').lower().replace('_', ' ')}"
    if isinstance(error, OSError):
        return reason_of(error)
    return next(iter(str(error).splitlines()), "") or type(error).__name__


def _build_context() -> ssl.SSLContext:
    """The edge asks itself: its certificate is for other names than the loopback's."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _reachable(bind: Bind) -> Bind:
    """Where an edge is reached that listens there: one on every address at the loopback's."""
    return TCPBind(LOOPBACK.get(bind.host, bind.host), bind.port) if isinstance(bind, TCPBind) else bind


def _connect(bind: Bind) -> socket.socket:
    match bind:
        case TCPBind(host, port):
            return socket.create_connection((host, port), timeout=PROBE_SECONDS)
        case UnixBind():
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            sock.settimeout(PROBE_SECONDS)
            try:
                sock.connect(bind.address)
            except OSError:
                sock.close()
                raise
            return sock
        case FileDescriptorBind() | SystemdBind():
            raise OSError(0, "a passed socket cannot be asked; give --bind the address behind it")


def _introduce(sock: socket.socket, settings: Settings) -> None:
    """Where the edge takes this machine for a balancer, begin as one that speaks for itself."""
    address = None if sock.family == socket.AF_UNIX else sock.getsockname()[0]
    if settings.balancers is not None and settings.balancers.trusts(address):
        sock.sendall(LOCAL_HEADER)


def _name_failed(body: dict[str, dict[str, dict[str, object]]]) -> str:
    failed = [f"{name}: {check['detail']}" for name, check in body.get("checks", {}).items() if not check["ok"]]
    return "; ".join(failed)
