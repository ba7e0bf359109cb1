"""What a person reads about an edge: lines of text made from plain values. `sage_edge.cli` prints them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from sage_edge.core.configuration import Configuration
from sage_edge.core.settings import GROUPS, Settings

Row = tuple[str, str]

TLS_PROTOCOLS = "HTTP/2 and HTTP/1.1 over TLS"
PLAIN_PROTOCOLS = "HTTP/1.1 and HTTP/2 with prior knowledge, not encrypted"


def format_rows(rows: Sequence[Row]) -> list[str]:
    """Rows as lines in two columns."""
    width = max(len(title) for title, _ in rows)
    return [f"  {title:<{width}}  {text}".rstrip() for title, text in rows]


def describe_listeners(addresses: Sequence[str], *, is_tls: bool) -> list[Row]:
    """Where connections are accepted.

    Args:
        addresses: `host:port`, `[v6]:port` or `unix:PATH`, as sockets have them.
        is_tls: whether they are encrypted.
    """
    protocols = TLS_PROTOCOLS if is_tls else PLAIN_PROTOCOLS
    scheme = "https" if is_tls else "http"
    return [
        ("listening", f"{address if address.startswith('unix:') else f'{scheme}://{address}'}  ({protocols})")
        for address in addresses
    ]


def find_base_url(addresses: Sequence[str], *, is_tls: bool) -> str:
    """A URL that a browser on this machine can open, "" where there is none."""
    for address in addresses:
        if address.startswith("unix:"):
            continue
        host, _, port = address.rpartition(":")
        if host in {"0.0.0.0", "[::]", "127.0.0.1", "[::1]"}:
            host = "localhost"
        return f"{'https' if is_tls else 'http'}://{host}:{port}"
    return ""


def describe_mounts(settings: Settings, gateway_name: str | None, links: Mapping[str, str], base_url: str) -> list[Row]:
    """What is served where.

    Args:
        settings: the effective settings.
        gateway_name: None where no gateway is mounted.
        links: paths of the gateway's pages by title, below its prefix.
        base_url: from `find_base_url`.
    """
    rows = [("health", f"{base_url}/healthz  {base_url}/readyz")]
    if gateway_name is None:
        rows.append(("gateway", "none (--no-llm)"))
    else:
        loop = "in the edge's trio loop" if settings.gateway_loop == "trio" else "asyncio, in a thread of its own"
        rows.append(("gateway", f"{gateway_name} at {base_url}{settings.mount_prefix or '/'}  ({loop})"))
        rows.extend((title, f"{base_url}{settings.mount_prefix}{path}") for title, path in links.items())
    if gateway_name is None or settings.mount_prefix:
        rows.append(("landing", f"{base_url}/"))
    return rows


def describe_page(title: str, addresses: Sequence[str], path: str) -> list[Row]:
    """Where a page is shown that has listeners of its own; addresses as in `describe_listeners`."""
    return [(title, address if address.startswith("unix:") else f"http://{address}{path}") for address in addresses]


def describe_certificate(certfile: Path, names: Sequence[str], expires: str, days_left: float) -> Row:
    """The certificate that clients are shown."""
    return ("tls", f"{certfile} for {', '.join(names) or 'no name'}; expires {expires} (in {days_left:.0f} days)")


def describe_redirects(addresses: Sequence[str]) -> list[Row]:
    """Where plaintext HTTP is redirected to https; addresses as in `describe_listeners`."""
    return [("redirect", f"http://{address} to https") for address in addresses]


def describe_routes(settings: Settings) -> list[Row]:
    """The mount table, in the order in which it is matched."""
    rows = [("/healthz, /readyz", "health (GET, HEAD)")]
    if not settings.no_llm:
        prefix = settings.mount_prefix
        rows.append((f"{prefix}, {prefix}/*" if prefix else "/*", f"gateway {settings.gateway}"))
    if settings.no_llm or settings.mount_prefix:
        rows.append(("/", "landing page (GET, HEAD)"))
        rows.append(("anything else", "404"))
    return rows


def format_configuration(configuration: Configuration) -> Iterator[str]:
    """The effective settings as a TOML file that can be used as one, with each value's origin as a comment."""
    for group in GROUPS:
        yield f"# {group.__doc__}"
        for name in group.model_fields:
            value = getattr(configuration.settings, name)
            assignment = f"# {name} is not set" if value is None else f"{name} = {_format_toml(value)}"
            yield f"{assignment:<40}  # {configuration.origins[name].source}"
        yield ""


def _format_toml(value: object) -> str:
    """A value in TOML; JSON writes strings, numbers, booleans and arrays of strings in the same way."""
    return json.dumps(value, ensure_ascii=False, default=str)
