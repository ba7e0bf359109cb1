"""Everything that can fail before serving begins, tried in one go, so that every fault is reported at once."""

from __future__ import annotations

import errno
import socket
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import zip_longest
from typing import TYPE_CHECKING

from sage_edge.core.bind import Bind, SystemdBind
from sage_edge.core.configuration import Configuration
from sage_edge.core.errors import EdgeError, Fault
from sage_edge.core.logger import EdgeLogger
from sage_edge.core.setting_groups import DEVELOPMENT_CERTIFICATES
from sage_edge.core.settings import Settings, option_of
from sage_edge.server.activation import PassedSockets
from sage_edge.server.certificate_set import Names
from sage_edge.server.certificate_store import CertificateStore
from sage_edge.server.certificates import file_fault
from sage_edge.server.development_certificates import create_development_certificates
from sage_edge.server.gateway import Gateway, load_gateway
from sage_edge.server.listener import close_listeners, open_listeners
from sage_edge.server.own_listener import OwnListener
from sage_edge.server.tls import TLSFiles

if TYPE_CHECKING:
    from sage_edge.server.tracing import OpenTelemetryTracer

log = EdgeLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """What is to be served, ready to be.

    Attributes:
        settings: the effective settings.
        certificates: None for plaintext.
        gateway: None with `--no-llm`.
        sockets: listening; empty where only a check was asked for.
        metrics_listener: for metrics.
        admin_listener: for the status page.
        redirect_sockets: listening for plaintext HTTP that is redirected; empty too where none is.
        tracer: makes spans of requests and sends them; None where there are to be none.
    """

    settings: Settings
    certificates: CertificateStore | None
    gateway: Gateway | None
    sockets: list[socket.socket]
    metrics_listener: OwnListener
    admin_listener: OwnListener
    redirect_sockets: list[socket.socket]
    tracer: OpenTelemetryTracer | None

    @property
    def is_measured(self) -> bool:
        """Whether figures are shown here, now or later."""
        return self.metrics_listener.is_wanted or self.admin_listener.is_wanted


def prepare(
    configuration: Configuration,
    passed: PassedSockets | None = None,
    *,
    is_check: bool = False,
    loads_gateway: bool = True,
    sockets: Sequence[socket.socket] | None = None,
    redirect_sockets: Sequence[socket.socket] = (),
    names_in_use: Names | None = None,
) -> Plan:
    """Turn a configuration into a plan.

    Args:
        configuration: as read; its faults are reported with those found here.
        passed: sockets that systemd passes on. They are listened on where the configuration does not say where to.
        is_check: open no socket and create no certificate. A running edge is left alone by that.
        loads_gateway: False where others will, and the plan is theirs.
        sockets: that are open already, in place of those the settings name.
        redirect_sockets: the same of the plaintext port.
        names_in_use: of the certificates that other workers serve, none where that is plaintext; see
            `CertificateStore`. None where there are no others.

    Raises:
        EdgeError: with every fault found.
    """
    settings = configuration.settings
    faults = list(configuration.faults)
    faulty = {fault.setting for fault in faults}
    certificates = None
    if settings.is_tls and not faulty & {"certfile", "keyfile", "keyfile_password_file", "dev_tls"}:
        certificates, found = _load_certificates(settings, names_in_use, is_check=is_check)
        # Without CA certificates, client authentication has been reported already.
        faults.extend(fault for fault in found if fault.setting != "ca_certs" or "client_auth" not in faulty)
    if names_in_use is not None and not faulty & {"certfile", "dev_tls"}:
        faults.extend(_compare_encryption(is_tls=settings.is_tls, was_tls=bool(names_in_use)))
    opens = not is_check and sockets is None
    if passed is not None:
        passed.reserve(_names_of_others(settings))
    redirects = list(redirect_sockets)
    if opens and not faulty & {"host", "port", "bind", "redirect_http"}:
        redirects, found = _open_redirect(settings, passed)
        faults.extend(found)
    opened = list(sockets or ())
    if opens and not faulty & {"host", "port", "bind"}:
        opened, found = _open_listeners(configuration, passed)
        faults.extend(found)
    metrics_listener, admin_listener = OwnListener(), OwnListener()
    if opens and not faults:
        (metrics_listener, admin_listener), found = _open_own_listeners(configuration, passed)
        faults.extend(found)
    tracer, found = _build_tracer() if settings.tracing else (None, [])
    faults.extend(found)
    gateway = None
    if loads_gateway and not settings.no_llm and not faulty & {"gateway", "no_llm"}:
        try:
            gateway = load_gateway(settings.gateway, limit_seconds=settings.startup_seconds)
        except EdgeError as error:
            faults.extend(error.faults)
    if faults:
        close_listeners([*opened, *metrics_listener.sockets, *admin_listener.sockets, *redirects])
        raise EdgeError(*faults)
    return Plan(settings, certificates, gateway, opened, metrics_listener, admin_listener, redirects, tracer)


def _names_of_others(settings: Settings) -> Sequence[str]:
    """Of passed sockets that are none of the edge's addresses: as such are taken all that systemd has passed."""
    binds = (*settings.redirect_binds, settings.metrics_listener, settings.admin_listener)
    return [bind.name for bind in binds if isinstance(bind, SystemdBind) and bind.name]


def _open_listeners(
    configuration: Configuration, passed: PassedSockets | None
) -> tuple[list[socket.socket], Sequence[Fault]]:
    is_activated = bool(passed) and configuration.has_defaults("bind", "host", "port")
    binds = (SystemdBind(),) if is_activated else configuration.settings.binds
    return open_listeners(binds, passed, is_port_shared=configuration.settings.reuse_port)


_OWN = {
    "metrics_bind": ("metrics are not served before their address is free", "metrics are served"),
    "admin_bind": ("the status page is not shown before its address is free", "the status page is shown"),
}
"""What is said of one whose address is taken, and once it is open."""


def _open_own_listeners(
    configuration: Configuration, passed: PassedSockets | None
) -> tuple[Sequence[OwnListener], Sequence[Fault]]:
    """For metrics, and for the status page."""
    settings = configuration.settings
    binds = {"metrics_bind": settings.metrics_listener, "admin_bind": settings.admin_listener}
    opened = [
        _open_own(name, bind, configuration, passed) if bind else (OwnListener(), []) for name, bind in binds.items()
    ]
    return [listener for listener, _ in opened], [fault for _, found in opened for fault in found]


def _open_own(
    setting: str, bind: Bind, configuration: Configuration, passed: PassedSockets | None
) -> tuple[OwnListener, Sequence[Fault]]:
    """A listener of the edge's own. Where it is another edge's still, it is waited for.

    A default that nobody chose must not keep a second edge from starting; nor an address that was chosen one that takes
    over from the first, which ends later.
    """
    sockets, found = open_listeners([bind], passed)
    if not found:
        return OwnListener(sockets), []
    other = f"choose another address with {option_of(setting)}, or none"
    hint = found[0].hint if isinstance(bind, SystemdBind) else other
    is_taken = isinstance(found[0].cause, OSError) and found[0].cause.errno == errno.EADDRINUSE
    if configuration.has_defaults(setting) or (configuration.settings.reuse_port and is_taken):
        closed, opened = _OWN[setting]
        log.warning(closed, reason=found[0].what, hint=hint)
        return OwnListener(awaited=bind, opened=opened), []
    return OwnListener(), [replace(fault, hint=hint, setting=setting) for fault in found]


def _open_redirect(settings: Settings, passed: PassedSockets | None) -> tuple[list[socket.socket], Sequence[Fault]]:
    sockets, found = open_listeners(settings.redirect_binds, passed, is_port_shared=settings.reuse_port)
    hint = "choose another port with --redirect-http; with --reuse-port on both, two edges share it"
    is_passed = isinstance(settings.redirect_http, str)
    return sockets, [replace(fault, hint=fault.hint if is_passed else hint, setting="redirect_http") for fault in found]


def _build_tracer() -> tuple[OpenTelemetryTracer | None, Sequence[Fault]]:
    try:
        from sage_edge.server.tracing import build_tracer  # whose imports are an extra
    except ModuleNotFoundError as error:
        hint = "install it in a checkout of sage-edge with pip install '.[otel]', or leave out --tracing"
        return None, [Fault(f"--tracing: {error.name} is not installed", hint, cause=error, setting="tracing")]
    try:
        return build_tracer(), []
    except EdgeError as error:
        return None, error.faults


def _compare_encryption(*, is_tls: bool, was_tls: bool) -> Sequence[Fault]:
    """Whether one worker would serve plaintext where others serve TLS: their clients cannot know whom they reach."""
    if is_tls == was_tls:
        return []
    what = f"{'' if is_tls else 'not '}given, but this edge has been started with{'out' if is_tls else ''} TLS"
    hint = "start the edge anew if that is to change: a restart of its workers keeps it"
    return [file_fault(what, hint, setting="certfile")]


def _load_certificates(
    settings: Settings, names_in_use: Names | None, *, is_check: bool
) -> tuple[CertificateStore | None, Sequence[Fault]]:
    pairs = list(zip_longest(settings.certfile, settings.keyfile))
    try:
        if not pairs:
            if is_check:
                return None, []
            created = create_development_certificates(DEVELOPMENT_CERTIFICATES, now=datetime.now(UTC))
            pairs = [(created.certificate, created.key)]
        files = [
            TLSFiles(*pair, settings.keyfile_password_file, settings.ca_certs, settings.client_auth, settings.tls_min)
            for pair in pairs
        ]
        return CertificateStore(files, names=names_in_use), []
    except EdgeError as error:
        return None, error.faults
