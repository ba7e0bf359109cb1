"""A request's header list: whether it is well-formed, and what it says (RFC 9113 section 8)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus

from sage_edge.core.authority import read_authority
from sage_edge.core.routing import GENERAL_METHODS
from sage_edge.server.http2.hpack import CONNECTION_SPECIFIC, Field

_NAMES = re.compile(rb"(?:[!#$%&'*+\-.^_`|~0-9a-z]+\n)*")
_BAD_VALUES = re.compile(rb"[\x00\r]|\n[ \t]|[ \t]\n")
_PSEUDO = frozenset({b":method", b":scheme", b":authority", b":path", b":protocol"})
_METHOD = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_SCHEME = re.compile(rb"[A-Za-z][A-Za-z0-9+\-.]*")
_PATH = re.compile(rb"/[\x21\x22\x24-\x7e]*")


class MalformedError(Exception):
    """The stream has to be reset with PROTOCOL_ERROR (section 8.1.1)."""


class RefusedError(Exception):
    """The request is well-formed, but is answered without an application.

    Attributes:
        status: of the answer.
        detail: one sentence for the client.
        fields: for the answer.
    """

    def __init__(self, status: HTTPStatus, detail: str, fields: Sequence[Field] = ()) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.fields = fields


@dataclass(slots=True)
class Request:
    """What a header list says.

    Attributes:
        protocol: of an extended CONNECT (RFC 8441), otherwise "".
        target: the path and query.
        fields: `host` first, cookies joined (section 8.2.3), without pseudo-header fields.
        content_length: None where it is not announced.
    """

    method: str
    target: bytes
    protocol: str
    fields: list[Field]
    content_length: int | None


def read_request(decoded: list[Field]) -> Request:
    """Read a request's header list.

    Raises:
        MalformedError: it breaks a rule of sections 8.2 and 8.3.
        RefusedError: it means something that is not served.
    """
    pseudo: dict[bytes, bytes] = {}
    count = 0
    for name, value in decoded:
        if name[:1] != b":":
            break
        if name not in _PSEUDO or name in pseudo:
            raise MalformedError(f"unknown or repeated {name!r}")
        pseudo[name] = value
        count += 1
    fields = decoded[count:]
    check_fields(fields)
    method = pseudo.get(b":method", b"")
    for value in pseudo.values():
        if b"\x00" in value or b"\r" in value or b"\n" in value or value.strip(b" \t") != value:
            raise MalformedError("a pseudo-header field has a forbidden character")  # section 8.2.1
    if method == b"CONNECT":
        _check_connect(pseudo)
    elif b":protocol" in pseudo or not (method and pseudo.get(b":scheme") and pseudo.get(b":path")):
        raise MalformedError("a pseudo-header field is missing or out of place")  # section 8.3.1
    authority = pseudo.get(b":authority")
    fields, length = _join(fields, authority)
    target = pseudo[b":path"]
    if not _SCHEME.fullmatch(pseudo[b":scheme"]):
        raise MalformedError(":scheme is none")
    if not _METHOD.fullmatch(method):
        raise RefusedError(HTTPStatus.BAD_REQUEST, "The request's method is malformed.")
    if not _PATH.fullmatch(target) and not (target == b"*" and method == b"OPTIONS"):
        raise RefusedError(HTTPStatus.BAD_REQUEST, "The request's target is malformed.")
    protocol = pseudo.get(b":protocol", b"").decode()
    return Request(method.decode(), target, protocol, fields, length)


def check_fields(fields: list[Field]) -> None:
    """Check regular fields of a header or trailer section (sections 8.2.1 and 8.2.2).

    Raises:
        MalformedError: one breaks a rule.
    """
    names = [name for name, _ in fields]
    # All at once, and the line ends counted: one inside a name or a value would pass for one between two.
    joined = b"\n".join([*names, b""])
    if joined.count(b"\n") != len(names) or not _NAMES.fullmatch(joined):
        raise MalformedError("a field name is not a lower-case token")
    values = b"\n".join([b"", *[value for _, value in fields], b""])
    if values.count(b"\n") != len(fields) + 1 or _BAD_VALUES.search(values):
        raise MalformedError("a field value has a forbidden character, or white space at an end")
    if not CONNECTION_SPECIFIC.isdisjoint(names):
        raise MalformedError("a field of HTTP/1.1's connections")
    if b"te" in names and any(name == b"te" and value.lower() != b"trailers" for name, value in fields):
        raise MalformedError("te says more than trailers")


def _check_connect(pseudo: dict[bytes, bytes]) -> None:
    if b":protocol" not in pseudo:
        if pseudo.keys() - {b":method", b":authority"} or not pseudo.get(b":authority"):
            raise MalformedError("CONNECT has a method and an authority only")  # section 8.5
        allow = (b"allow", ", ".join(GENERAL_METHODS).encode())
        raise RefusedError(HTTPStatus.METHOD_NOT_ALLOWED, "CONNECT is not supported.", [allow])
    if not (pseudo.get(b":scheme") and pseudo.get(b":path") and pseudo.get(b":authority")):
        raise MalformedError("an extended CONNECT needs a scheme, a path and an authority")  # RFC 8441 section 4
    if pseudo[b":protocol"] != b"websocket":
        raise RefusedError(HTTPStatus.NOT_IMPLEMENTED, "The protocol is not spoken here.")  # RFC 9220 section 3


def _join(fields: list[Field], authority: bytes | None) -> tuple[list[Field], int | None]:
    """The fields as an application sees them, and the announced length of the body."""
    host: bytes | None = None
    length: int | None = None
    cookies: list[bytes] = []
    joined: list[Field] = []
    for field in fields:
        name, value = field
        if name == b"cookie":
            cookies.append(value)
            continue
        if name == b"host":
            if host is not None and host != value:
                raise RefusedError(HTTPStatus.BAD_REQUEST, "host is given more than once.")
            host = value
            continue
        if name == b"content-length":
            if not value.isdigit() or len(value) > 19 or (length is not None and length != int(value)):
                raise MalformedError("content-length is not one number")  # section 8.1.1
            if length is not None:
                continue
            length = int(value)
        joined.append(field)
    if cookies:
        joined.append((b"cookie", b"; ".join(cookies)))
    if authority is not None:
        if host is not None and host.lower() != authority.lower():
            raise RefusedError(HTTPStatus.BAD_REQUEST, ":authority and host differ.")  # section 8.3.1
        host = authority
    if host is None:
        raise RefusedError(HTTPStatus.BAD_REQUEST, "The request names no host.")
    if read_authority(host) is None:
        raise RefusedError(HTTPStatus.BAD_REQUEST, "The host is malformed.")
    joined.insert(0, (b"host", host))
    return joined, length
