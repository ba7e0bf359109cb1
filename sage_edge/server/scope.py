"""ASGI scopes, from what the protocols have read (ASGI specification: HTTP, WebSocket, TLS extension)."""

from __future__ import annotations

from urllib.parse import unquote_to_bytes

from sage_edge.app.asgi import Scope
from sage_edge.server.carrier import Host

VERSIONS = {"version": "3.0", "spec_version": "2.4"}
"""2.4: `send` raises OSError once the client has gone."""


def http_scope(host: Host, http_version: str, method: str, target: bytes, fields: list[tuple[bytes, bytes]]) -> Scope:
    """The scope of a request."""
    scope = _scope(host, "http", http_version, target, fields)
    scope["method"] = method
    scope["scheme"] = "https" if host.is_tls else "http"
    scope["extensions"]["http.response.trailers"] = {}
    return scope


def websocket_scope(
    host: Host, http_version: str, target: bytes, fields: list[tuple[bytes, bytes]], subprotocols: list[str]
) -> Scope:
    """The scope of a WebSocket."""
    scope = _scope(host, "websocket", http_version, target, fields)
    scope["scheme"] = "wss" if host.is_tls else "ws"
    scope["subprotocols"] = subprotocols
    scope["extensions"]["websocket.http.response"] = {}
    return scope


def _scope(host: Host, kind: str, http_version: str, target: bytes, fields: list[tuple[bytes, bytes]]) -> Scope:
    raw_path, _, query = target.partition(b"?")
    path = raw_path if b"%" not in raw_path else unquote_to_bytes(raw_path)
    return {
        "type": kind,
        "asgi": VERSIONS.copy(),
        "http_version": http_version,
        "path": path.decode("utf-8", "replace"),
        "raw_path": raw_path,
        "query_string": query,
        "root_path": "",
        "headers": fields,
        "client": host.client,
        "server": host.server,
        "state": {},
        "extensions": {} if host.tls is None else {"tls": {**host.tls}},
    }
