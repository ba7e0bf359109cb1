"""Which part of the edge answers a request: the routing table as a pure function.

Decisions on the request line only. Nothing here reads headers, sends, or logs;
`app.dispatch` acts on what is returned.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from http import HTTPStatus
from urllib.parse import unquote_to_bytes

HEALTH_PATHS = frozenset({b"/healthz", b"/readyz"})
READ_METHODS = ("GET", "HEAD")
GENERAL_METHODS = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")

# RFC 3986 section 2.3: only unreserved characters have a single spelling in a URL, so a
# prefix made of them can be compared literally with the raw path.
_PREFIX = re.compile(r"(/[A-Za-z0-9._~-]+)+")
# RFC 3986 section 2.1. A percent sign that starts no valid escape is a malformed target.
_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
# RFC 9112 section 3.2: a request target is visible ASCII, and has no fragment.
_NOT_IN_TARGET = re.compile(rb"[^\x21-\x7e]|#")
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")


class Target(Enum):
    """Who answers."""

    HEALTH = auto()
    LANDING = auto()
    MOUNT = auto()
    REFUSED = auto()


@dataclass(frozen=True)
class Route:
    """The decision.

    Attributes:
        target: who answers.
        raw_path: the percent-encoded path to pass on.
        path: the decoded path to pass on (ASGI `path`, which keeps the prefix).
        prefix: the mount's prefix, "" for the root; set for MOUNT.
        status: set for REFUSED.
        detail: one sentence for the client; set for REFUSED.
        allow: the methods of an Allow header, for 405 (RFC 9110 section 15.5.6).
        is_own: the path is one of the edge's own pages, of which something is asked that they do not do.
    """

    target: Target
    raw_path: bytes = b""
    path: str = ""
    prefix: str = ""
    status: HTTPStatus = HTTPStatus.OK
    detail: str = ""
    allow: Sequence[str] = ()
    is_own: bool = False


def normalise_prefix(text: str) -> str:
    """The mount prefix as it is matched: "" for the root, otherwise "/segment/..." without a trailing slash.

    Raises:
        ValueError: the prefix cannot be matched literally; the message says why.
    """
    if not text.startswith("/"):
        raise ValueError(f"{text!r} does not start with '/'")
    prefix = text.rstrip("/")
    if not prefix:
        return ""
    if not _PREFIX.fullmatch(prefix):
        raise ValueError(
            f"{text!r} may hold only letters, digits, '-', '.', '_' and '~' between single slashes",
        )
    if any(segment in {".", ".."} for segment in prefix.split("/")):
        raise ValueError(f"{text!r} has a '.' or '..' segment")
    if prefix.encode() in HEALTH_PATHS:
        raise ValueError(f"{text!r} is the edge's own health endpoint")
    return prefix


def decide(method: str, raw_path: bytes, prefixes: Sequence[str]) -> Route:
    """Decide who answers a request.

    Args:
        method: as received; GET for a WebSocket handshake.
        raw_path: the request target up to the query, still percent-encoded; never empty.
        prefixes: the mounts, as `normalise_prefix` returns them, the longest first.
    """
    if method in {"CONNECT", "TRACE"}:
        return _refuse(HTTPStatus.METHOD_NOT_ALLOWED, f"{method} is not supported.", allow=GENERAL_METHODS)
    if fault := _malformation(raw_path):
        return _refuse(HTTPStatus.BAD_REQUEST, fault)
    path = unquote_to_bytes(raw_path).decode()
    if raw_path in HEALTH_PATHS:
        return _read_only(method, Route(Target.HEALTH, raw_path, path))
    for prefix in prefixes:
        encoded = prefix.encode()
        if raw_path == encoded or raw_path.startswith(encoded + b"/"):
            return Route(Target.MOUNT, raw_path, path, prefix)
    if raw_path == b"/":
        return _read_only(method, Route(Target.LANDING, raw_path, path))
    return _refuse(HTTPStatus.NOT_FOUND, "Nothing is served at this path.")


def _read_only(method: str, route: Route) -> Route:
    if method in READ_METHODS:
        return route
    detail = f"{method} is not supported here."
    return _refuse(HTTPStatus.METHOD_NOT_ALLOWED, detail, allow=READ_METHODS, is_own=True)


def _malformation(raw_path: bytes) -> str | None:
    if _NOT_IN_TARGET.search(raw_path):
        return "The request target has a byte that is not allowed in a URL."
    if _BAD_ESCAPE.search(raw_path):
        return "The request target has a percent sign that starts no escape."
    decoded = unquote_to_bytes(raw_path)
    if _CONTROL.search(decoded):
        return "The path has an encoded control byte."
    try:
        decoded.decode()
    except UnicodeDecodeError:
        return "The path is not valid UTF-8."
    if any(segment in {b".", b".."} for segment in decoded.split(b"/")):
        return "The path has a '.' or '..' segment."
    return None


def _refuse(status: HTTPStatus, detail: str, *, allow: Sequence[str] = (), is_own: bool = False) -> Route:
    return Route(Target.REFUSED, status=status, detail=detail, allow=allow, is_own=is_own)
