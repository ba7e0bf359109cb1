"""Every setting, once: its type, default, meaning and rules, grouped by concern.

Whether files exist and addresses are free is found out where they are opened; what settings rule out between each
other is `core.conflicts`'.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, Field, JsonValue, field_validator
from pydantic_settings import NoDecode

from sage_edge.core.bind import LARGEST_PORT, Bind, FileDescriptorBind, SystemdBind, TCPBind, parse_bind
from sage_edge.core.forwarded import TrustedProxies
from sage_edge.core.routing import normalise_prefix

DEVELOPMENT_CERTIFICATES = Path("certs")
DEFAULT_METRICS_BIND = "127.0.0.1:9899"
DEFAULT_ADMIN_BIND = "127.0.0.1:9898"
NO_LISTENER = "none"

_GATEWAY = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*(\(\))?")

Seconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1, le=2**40)]


def hint(text: str) -> dict[str, JsonValue]:
    """What to do about a bad value, for a field whose description is too long to say so."""
    return {"hint": text}


def split_list(value: object) -> object:
    """Several values: a text's parts between its commas, as the environment has them; one path; or what are several."""
    if isinstance(value, Path):
        return (value,)
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


def split_each(value: object) -> object:
    """The same, where each of several may be such a text: none of them has a comma of its own."""
    if isinstance(value, (list, tuple)) and all(isinstance(part, str) for part in value):
        value = ",".join(value)
    return split_list(value)


def read_port_or_socket(value: object) -> object:
    """A TCP port, or a socket that is passed on: a number, its text, `fd://N` or `systemd:NAME`."""
    if isinstance(value, str) and value.isascii() and value.isdecimal():
        value = int(value)
    if isinstance(value, str):
        is_valid = value != "systemd" and isinstance(_try_bind(value), (FileDescriptorBind, SystemdBind))
    else:
        is_valid = type(value) is int and 0 <= value <= LARGEST_PORT
    if not is_valid:
        raise ValueError(f"{value!r} is not a TCP port (0 to {LARGEST_PORT}), fd://N or systemd:NAME")
    return value


def check_each(texts: Iterable[str], check: Callable[[str], object]) -> None:
    """Check each of several texts, so that all that is wrong is told at once.

    Raises:
        ValueError: with what is wrong with each that `check` raises one for.
    """
    wrong = []
    for text in texts:
        try:
            check(text)
        except ValueError as error:
            wrong.append(str(error))
    if wrong:
        raise ValueError("; ".join(wrong))


def _try_bind(text: str) -> Bind | None:
    try:
        return parse_bind(text)
    except ValueError:
        return None


Texts = Annotated[tuple[str, ...], NoDecode, BeforeValidator(split_list)]
Paths = Annotated[tuple[Path, ...], NoDecode, BeforeValidator(split_list)]


class ListenSettings(BaseModel):
    """Listening"""

    host: Annotated[str, Field(min_length=1)] = Field("0.0.0.0", description="Address or host name to listen on.")
    port: Annotated[int, Field(ge=0, le=LARGEST_PORT)] = Field(
        8899, description="TCP port to listen on; 0 takes a free one."
    )
    bind: Texts = Field(
        (),
        description="Listen here instead of on --host and --port: host:port, [v6]:port, unix:PATH, unix:@NAME, "
        "fd://N, systemd or systemd:NAME (sockets passed by systemd). Repeatable; in the environment, separated by "
        "commas.",
        json_schema_extra=hint("name an address such as 0.0.0.0:8899, [::]:8899 or unix:/run/sage-edge.sock"),
    )
    reuse_port: bool = Field(
        False,
        description="Share TCP ports with another edge (SO_REUSEPORT), so that a new version can take over from the "
        "old one. The edge listens on such a port once its gateway has started.",
    )

    @field_validator("bind")
    @classmethod
    def _parse_each(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        check_each(value, parse_bind)
        return value

    @property
    def binds(self) -> Sequence[Bind]:
        """Where to listen."""
        return tuple(parse_bind(text) for text in self.bind) or (TCPBind(self.host.strip("[]"), self.port),)


class ProxySettings(BaseModel):
    """Proxies in front"""

    trusted_proxies: Annotated[tuple[str, ...], NoDecode, BeforeValidator(split_each)] = Field(
        (),
        description="Addresses and networks of proxies whose forwarded or x-forwarded-for, -proto and -host headers "
        "are believed; unix for Unix sockets. These headers are removed from all other requests. Repeatable, or "
        "separated by commas.",
        json_schema_extra=hint("name an address or network such as 10.0.0.0/8, or unix"),
    )
    proxy_protocol: bool = Field(
        False,
        description="Expect connections from trusted proxies to begin with a PROXY protocol header, version 1 or 2.",
    )

    @field_validator("trusted_proxies")
    @classmethod
    def _parse_proxies(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        check_each(value, lambda text: TrustedProxies([text]))
        return value

    @property
    def trusted(self) -> TrustedProxies:
        """The proxies whose word is taken."""
        return TrustedProxies(self.trusted_proxies)

    @property
    def balancers(self) -> TrustedProxies | None:
        """Those whose connections begin with a header of the PROXY protocol; None where nobody's do."""
        return self.trusted if self.proxy_protocol else None


class TLSSettings(BaseModel):
    """TLS"""

    certfile: Paths = Field(
        (),
        description="Certificate chain (PEM). Without one the edge serves plaintext HTTP/1.1 and h2c. Repeatable: the "
        "first is shown to clients that send no server name, or one that no certificate covers. In the environment, "
        "separated by commas.",
    )
    keyfile: Paths = Field(
        (),
        description="Private key (PEM), one for each --certfile, in the same order. Not needed if the certificate's "
        "file also holds the key.",
    )
    keyfile_password_file: Path | None = Field(None, description="File that holds the password of the private keys.")
    dev_tls: bool = Field(
        False,
        description="Use a development CA and a certificate for localhost in ./certs; create or renew what is needed.",
    )
    tls_min: Literal["1.2", "1.3"] = Field("1.2", description="Oldest TLS version accepted: 1.2 or 1.3.")
    ca_certs: Path | None = Field(None, description="CA certificates (PEM) used to verify client certificates.")
    client_auth: Literal["none", "optional", "required"] = Field(
        "none", description="Whether clients are asked for a certificate: none, optional or required."
    )
    redirect_http: Annotated[int | str, BeforeValidator(read_port_or_socket)] | None = Field(
        None,
        description="TCP port on which plaintext HTTP requests are redirected to https, except for health checks, "
        "which are answered; 0 takes a free one. Or a socket passed to the edge: fd://N or systemd:NAME.",
    )
    public_port: Annotated[int, Field(ge=1, le=LARGEST_PORT)] | None = Field(
        None,
        description="Port at which clients reach the edge, for redirects to https. Needed if it is not the port that "
        "the edge listens on, as behind a container's published port or a Kubernetes Service.",
    )
    hsts_seconds: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = Field(
        None, description="How long browsers are told to use https only (strict-transport-security)."
    )


class GatewaySettings(BaseModel):
    """Gateway"""

    gateway: str = Field(
        "auto",
        description="The ASGI application to mount: module:attribute, module:factory(), demo (the SAGE gateway with "
        "a small model in the same process), or auto (the SAGE gateway).",
        json_schema_extra=hint("name an ASGI application, such as my_module:app"),
    )
    gateway_loop: Literal["auto", "asyncio", "trio"] = Field(
        "auto",
        description="Event loop of the gateway: asyncio, in a thread of its own, or trio, the edge's own. auto means "
        "asyncio.",
    )
    llm_prefix: str = Field("/", description="Path prefix to mount the gateway under, such as /llm.")
    no_llm: bool = Field(False, description="Mount no gateway: health endpoints and the landing page only.")
    startup_seconds: Seconds = Field(60.0, description="Longest time the gateway may take to be imported and started.")
    cancel_grace_seconds: Seconds = Field(
        1.0, description="How long a request may continue after its client has left, before it is cancelled."
    )

    sse_heartbeat_seconds: Annotated[float, Field(ge=0.1, le=86_400, allow_inf_nan=False)] | None = Field(
        None,
        description="Send a comment line on an event stream that was silent for so long, so that nothing on the way "
        "closes it.",
    )

    @field_validator("gateway")
    @classmethod
    def _is_reference(cls, value: str) -> str:
        if value not in {"auto", "demo"} and not _GATEWAY.fullmatch(value):
            raise ValueError(f"{value!r} is not module:attribute, module:factory(), demo or auto")
        return value

    @field_validator("llm_prefix")
    @classmethod
    def _normalise(cls, value: str) -> str:
        return normalise_prefix(value) or "/"

    @property
    def mount_prefix(self) -> str:
        """The prefix as it is matched: "" for the root."""
        return normalise_prefix(self.llm_prefix)


class LimitSettings(BaseModel):
    """Limits"""

    max_connections: Count = Field(10_000, description="Most connections open at once.")
    max_connections_per_client: Count = Field(256, description="Most connections open at once from one address.")
    max_streams: Annotated[int, Field(ge=1, le=2**31 - 1)] = Field(
        250, description="Most streams open at once on an HTTP/2 connection."
    )
    max_header_bytes: Annotated[int, Field(ge=1024, le=2**20)] = Field(32 * 1024, description="Largest request head.")
    max_body_bytes: Count = Field(100 * 2**20, description="Largest request body; a larger one is answered with 413.")
    max_message_bytes: Count = Field(2**20, description="Largest WebSocket message, uncompressed.")
    max_buffered_bytes: Annotated[int, Field(ge=2**20)] = Field(
        32 * 2**20,
        description="Most bytes of heads, bodies and answers buffered for one address, over all its connections. "
        "Beside that, its open requests, which count as 16 KiB each, may take three times as much. Raise it behind a "
        "balancer: all clients then share one address.",
    )
    stream_window_bytes: Annotated[int, Field(ge=65_535, le=2**31 - 1)] = Field(
        2**20, description="What a client may send on an HTTP/2 stream, or of an HTTP/1.1 body, before it is read."
    )
    connection_window_bytes: Annotated[int, Field(ge=65_535, le=2**31 - 1)] = Field(
        16 * 2**20,
        description="What a client may send on all streams of a connection together before it is read.",
    )
    handshake_seconds: Seconds = Field(
        10.0, description="Longest TLS handshake, and longest wait for a PROXY protocol header."
    )
    header_seconds: Seconds = Field(15.0, description="Longest time for a request's head to arrive.")
    body_seconds: Seconds = Field(
        60.0,
        description="Longest wait for the next part of a request body, until the answer begins. Also how long an "
        "HTTP/1.1 client may continue to send a body whose answer is already complete.",
    )
    idle_seconds: Seconds = Field(75.0, description="Longest time a connection may stay open without a request.")
    stall_seconds: Seconds = Field(
        60.0, description="Longest time a client may go without reading an answer that waits for it."
    )


class BudgetSettings(BaseModel):
    """HTTP/2 budgets"""

    budget_seconds: Seconds = Field(
        10.0,
        description="Time in which a used-up budget (--max-resets to --max-window-updates) refills. A connection that "
        "exceeds a budget is closed with GOAWAY.",
    )
    max_resets: Count = Field(
        400,
        description="Budget of streams that the client resets, or that its errors make the edge reset. Requests that "
        "the edge refuses with an answer, such as those with an invalid path, have a budget five times as large.",
    )
    max_pings: Count = Field(400, description="Budget of PING and GOAWAY frames.")
    max_settings: Count = Field(100, description="Budget of SETTINGS frames.")
    max_priorities: Count = Field(2000, description="Budget of PRIORITY frames.")
    max_empty_frames: Count = Field(400, description="Budget of empty DATA frames.")
    max_window_updates: Count = Field(
        4000, description="Budget of WINDOW_UPDATE frames, beyond two for each DATA frame that the edge has sent."
    )


class LogSettings(BaseModel):
    """Logging"""

    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Lowest level that is logged: debug, info, warning or error."
    )
    log_format: Literal["text", "json"] = Field(
        "text", description="Format of log lines: text for people, json for machines."
    )
    log_file: Path | None = Field(
        None, description="File to append log lines to, instead of standard error. SIGUSR1 reopens it."
    )
    access_log: bool = Field(True, description="Log one line for each request.")
    access_log_query: bool = Field(
        False, description="Log the query string with the path. It may contain keys and prompts."
    )

    @field_validator("log_level", mode="before")
    @classmethod
    def _lower(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value


class MetricsSettings(BaseModel):
    """Metrics and status page"""

    metrics_bind: str = Field(
        DEFAULT_METRICS_BIND,
        description="Where /metrics is served for Prometheus, in plaintext: an address as for --bind, or none. If the "
        "default address is taken, or with --reuse-port any address, the edge starts without the page and serves it "
        "once the address is free.",
        json_schema_extra=hint(f"name an address such as {DEFAULT_METRICS_BIND}, or none"),
    )
    admin_bind: str = Field(
        DEFAULT_ADMIN_BIND,
        description="Where the status page is served, in plaintext and without a password: an address as for --bind, "
        "or none. If the default address is taken, or with --reuse-port any address, the edge starts without the page "
        "and serves it once the address is free.",
        json_schema_extra=hint(f"name an address such as {DEFAULT_ADMIN_BIND}, or none"),
    )

    @field_validator("metrics_bind", "admin_bind")
    @classmethod
    def _parse_own_bind(cls, value: str) -> str:
        if value != NO_LISTENER:
            parse_bind(value)
        return value

    @property
    def metrics_listener(self) -> Bind | None:
        """Where metrics are served, if they are."""
        return None if self.metrics_bind == NO_LISTENER else parse_bind(self.metrics_bind)

    @property
    def admin_listener(self) -> Bind | None:
        """Where the status page is shown, if it is."""
        return None if self.admin_bind == NO_LISTENER else parse_bind(self.admin_bind)


class TracingSettings(BaseModel):
    """Tracing"""

    tracing: bool = Field(
        False,
        description="Record an OpenTelemetry span for each request, the parent of the gateway's spans, and export it "
        "as the standard OTEL_* variables say. Needs the extra otel.",
    )


class LifeSettings(BaseModel):
    """Lifecycle"""

    drain_delay_seconds: Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)] = Field(
        0.0,
        description="How long connections are still accepted after SIGTERM or SIGINT, while /readyz says draining, so "
        "that balancers notice.",
    )
    drain_seconds: Seconds = Field(
        30.0, description="How long requests in flight may continue after --drain-delay-seconds."
    )
    workers: Annotated[int, Field(ge=1, le=256)] | None = Field(
        None,
        description="Number of worker processes, each with a gateway of its own, under a supervisor. Without it, one "
        "process serves, with no supervisor.",
    )
    max_requests: Count | None = Field(
        None,
        description="Replace a worker after about so many requests to its gateway; requests in flight are finished.",
    )
    max_memory_bytes: Annotated[int, Field(ge=2**20)] | None = Field(
        None, description="Replace a worker that uses about so much memory; requests in flight are finished."
    )
