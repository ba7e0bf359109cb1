"""Settings that are each valid and make no sense together."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from sage_edge.core.bind import TCPBind, is_same_place
from sage_edge.core.errors import Fault
from sage_edge.core.settings import Settings, option_of


class _Conflict(NamedTuple):
    """A setting that other settings forbid.

    Attributes:
        is_there: whether it is found.
        setting: the one to blame.
        what: is wrong with it.
        hint: what to do.
        involved: the others.
    """

    is_there: bool
    setting: str
    what: str
    hint: str
    involved: tuple[str, ...]


def find_conflicts(settings: Settings) -> Iterator[Fault]:
    """Every conflict, as a fault."""
    for conflict in (
        *_proxy_and_log_conflicts(settings),
        *_tls_conflicts(settings),
        *_page_conflicts(settings),
        *_process_conflicts(settings),
    ):
        if conflict.is_there:
            what = f"{option_of(conflict.setting)}: {conflict.what}"
            yield Fault(what, conflict.hint, setting=conflict.setting, involved=frozenset(conflict.involved))


def _proxy_and_log_conflicts(settings: Settings) -> Iterator[_Conflict]:
    yield _Conflict(
        settings.proxy_protocol and not settings.trusted_proxies,
        "proxy_protocol",
        "no proxy is trusted to speak it",
        "add --trusted-proxies with the balancer's address",
        ("trusted_proxies",),
    )
    yield _Conflict(
        settings.access_log_query and not settings.access_log,
        "access_log_query",
        "requests are not logged",
        "leave out --no-access-log, or --access-log-query",
        ("access_log",),
    )


def _tls_conflicts(settings: Settings) -> Iterator[_Conflict]:
    keys, certificates = len(settings.keyfile), len(settings.certfile)
    asks_clients = settings.client_auth != "none"
    yield _Conflict(
        keys > 0 and not certificates,
        "keyfile",
        "a private key is given without a certificate",
        "add --certfile, or leave out --keyfile to serve plaintext",
        ("certfile",),
    )
    yield _Conflict(
        keys > certificates > 0,
        "keyfile",
        f"{keys} private keys are given for {certificates} certificates",
        "give one key for each certificate, in the same order",
        ("certfile",),
    )
    yield _Conflict(
        settings.keyfile_password_file is not None and not certificates,
        "keyfile_password_file",
        "a password is given without a certificate",
        "add --certfile and --keyfile",
        ("certfile",),
    )
    yield _Conflict(
        settings.dev_tls and certificates > 0,
        "dev_tls",
        "a certificate is given as well",
        "use either --dev-tls or --certfile",
        ("certfile",),
    )
    needs_tls = (
        (asks_clients, "client_auth", "client certificates need TLS"),
        (settings.tls_min != "1.2", "tls_min", "there is no TLS whose version it could limit"),
        (settings.redirect_http is not None, "redirect_http", "there is no https to redirect to"),
        (settings.hsts_seconds is not None, "hsts_seconds", "browsers heed it over TLS alone"),
    )
    for is_given, name, what in needs_tls:
        hint = "add --certfile and --keyfile, or --dev-tls"
        yield _Conflict(is_given and not settings.is_tls, name, what, hint, ("certfile", "dev_tls"))
    yield _Conflict(
        settings.public_port is not None and settings.redirect_http is None,
        "public_port",
        "there is no redirect that could name it",
        "add --redirect-http, or leave it out",
        ("redirect_http",),
    )
    ports = {bind.port for bind in settings.binds if isinstance(bind, TCPBind)}
    passed = {bind for bind in settings.binds if not isinstance(bind, TCPBind)}
    yield _Conflict(
        settings.redirect_http in ports - {0} or bool(set(settings.redirect_binds) & passed),
        "redirect_http",
        f"the edge itself listens on {'port ' * isinstance(settings.redirect_http, int)}{settings.redirect_http}",
        "choose another port for plaintext, such as 80, or another socket",
        ("bind", "host", "port"),
    )
    yield _Conflict(
        asks_clients and settings.ca_certs is None,
        "client_auth",
        f"{settings.client_auth} needs the CA that signs the clients' certificates",
        "add --ca-certs FILE",
        ("ca_certs",),
    )
    yield _Conflict(
        settings.ca_certs is not None and not asks_clients,
        "ca_certs",
        "client certificates are not asked for",
        "add --client-auth optional or --client-auth required",
        ("client_auth",),
    )


def _page_conflicts(settings: Settings) -> Iterator[_Conflict]:
    taken = [*settings.binds, *settings.redirect_binds]
    for name, bind in (("metrics_bind", settings.metrics_listener), ("admin_bind", settings.admin_listener)):
        if bind is None:
            continue
        # At a default that nobody chose the page is left out, with a warning; a shared port could not be listened on.
        matters = name in settings.model_fields_set or settings.reuse_port
        yield _Conflict(
            matters and any(is_same_place(bind, each) for each in taken),
            name,
            f"the edge itself listens on {bind}",
            "choose another address, or none",
            ("bind", "host", "port", "redirect_http", "metrics_bind"),
        )
        taken.append(bind)


def _process_conflicts(settings: Settings) -> Iterator[_Conflict]:
    has_supervisor = settings.workers is not None
    opened = (*settings.binds, *settings.redirect_binds)
    yield _Conflict(
        settings.reuse_port and not any(isinstance(bind, TCPBind) for bind in opened),
        "reuse_port",
        "no TCP port is opened here",
        "leave it out: passed sockets are shared already, and unix: paths cannot be",
        ("bind", "redirect_http"),
    )
    for name in ("max_requests", "max_memory_bytes"):
        yield _Conflict(
            getattr(settings, name) is not None and not has_supervisor,
            name,
            "there is no supervisor that could replace the process",
            "add --workers 1, or more",
            ("workers",),
        )
