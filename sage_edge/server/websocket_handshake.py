"""A WebSocket's handshake, read and answered by hand: RFC 6455 section 4, and over HTTP/2 RFC 8441 section 5."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus

from wsproto.utilities import generate_accept_token

from sage_edge.core.exchange import Message
from sage_edge.server.websocket_deflate import DeflateAgreement, ExtensionOffer

Fields = list[tuple[bytes, bytes]]

VERSION = b"13"

_KEY = re.compile(rb"[A-Za-z0-9+/]{22}==")
"""16 bytes in base64 (section 4.1)."""
_TCHAR = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
_TOKEN = re.compile(rf"{_TCHAR}+")
_PARAMETER = re.compile(rf'({_TCHAR}+)(?:[ \t]*=[ \t]*({_TCHAR}+|"(?:\\?{_TCHAR})+"))?')
"""Section 9.1: quoted or not, a value is a token."""

_FIELD_NAME = re.compile(rf"{_TCHAR}+".encode())
_BAD_FIELD_VALUE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_NOT_FOR_APPLICATIONS = frozenset(
    {b"connection", b"content-length", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"}
)
"""What says how the connection goes on, and lengths, which this answer has not (RFC 9110 section 8.6)."""


class HandshakeError(Exception):
    """The handshake is refused.

    Attributes:
        status: of the answer.
        detail: why, for the answer's body.
        fields: for the answer.
    """

    def __init__(self, status: HTTPStatus, detail: str, fields: Iterable[tuple[bytes, bytes]] = ()) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.fields: Fields = list(fields)


@dataclass(frozen=True)
class WebSocketOffer:
    """What the client's handshake says.

    Attributes:
        subprotocols: in the order of its preference.
        key: to be answered; None over HTTP/2 (RFC 8441 section 5).
        extensions: in the order of its preference.
    """

    subprotocols: tuple[str, ...] = ()
    key: bytes | None = None
    extensions: tuple[ExtensionOffer, ...] = ()


def read_offer(fields: Fields, *, http_version: str) -> WebSocketOffer:
    """Read a handshake whose method, `upgrade` and `connection`, or `:protocol`, have been looked at.

    Args:
        fields: of the request.
        http_version: as in ASGI's scope.

    Raises:
        HandshakeError: it breaks a rule of RFC 6455 section 4.2.1.
    """
    versions = set(_values_of(b"sec-websocket-version", fields))
    key: bytes | None = None
    if http_version == "2":
        if versions - {VERSION}:
            # Not 426, which goes with `upgrade`, a field that HTTP/2 has not.
            raise _refusal(f"only version {VERSION.decode()} is spoken here", [(b"sec-websocket-version", VERSION)])
    elif http_version == "1.1":
        if versions != {VERSION}:
            raise HandshakeError(
                HTTPStatus.UPGRADE_REQUIRED,
                f"only version {VERSION.decode()} is spoken here",
                # The first: section 4.4. The others: RFC 9110 section 15.5.22.
                [(b"sec-websocket-version", VERSION), (b"upgrade", b"websocket"), (b"connection", b"upgrade")],
            )
        keys = _values_of(b"sec-websocket-key", fields)
        if len(keys) != 1 or not _KEY.fullmatch(keys[0]):
            raise _refusal("sec-websocket-key is not one key")
        key = keys[0]
    else:
        raise _refusal("a WebSocket needs HTTP/1.1 or HTTP/2")
    return WebSocketOffer(_read_subprotocols(fields), key, _read_extensions(fields))


def answer_offer(offer: WebSocketOffer, message: Message, deflate: DeflateAgreement | None) -> Fields:
    """The fields of the answer that opens a WebSocket, as the application's `websocket.accept` has them.

    Raises:
        ValueError: the subprotocol was not offered, or a header is not allowed.
        TypeError: a header is not bytes.
    """
    fields: Fields = []
    if offer.key is not None:
        fields.append((b"upgrade", b"websocket"))
        fields.append((b"connection", b"upgrade"))
        fields.append((b"sec-websocket-accept", generate_accept_token(offer.key)))
    subprotocol = message.get("subprotocol")
    if subprotocol is not None:
        if subprotocol not in offer.subprotocols:
            raise ValueError(f"the client did not offer the subprotocol {subprotocol!r}")
        fields.append((b"sec-websocket-protocol", subprotocol.encode()))
    if deflate is not None:
        fields.append((b"sec-websocket-extensions", deflate.as_field_value()))
    return fields + _check_headers(message.get("headers") or ())


def _read_subprotocols(fields: Fields) -> tuple[str, ...]:
    name = b"sec-websocket-protocol"
    elements = _elements_of(name, fields)
    if not all(_TOKEN.fullmatch(element) for element in elements):
        raise _malformed(name)
    return tuple(elements)


def _read_extensions(fields: Fields) -> tuple[ExtensionOffer, ...]:
    name = b"sec-websocket-extensions"
    offers: list[ExtensionOffer] = []
    for element in _elements_of(name, fields):
        extension, *parts = (part.strip(" \t") for part in element.split(";"))
        matches = [_PARAMETER.fullmatch(part) for part in parts]
        if not _TOKEN.fullmatch(extension) or not all(matches):
            raise _malformed(name)
        pairs = [match.group(1, 2) for match in matches if match]
        # Without quotes and backslashes, which no token has, the value is itself.
        offers.append((extension, tuple((key, re.sub(r'["\\]', "", value or "")) for key, value in pairs)))
    return tuple(offers)


def _elements_of(name: bytes, fields: Fields) -> list[str]:
    """A list's elements (RFC 9110 section 5.6.1); empty ones do not count, but one has to be there."""
    values = _values_of(name, fields)
    try:
        elements = [element.strip(" \t") for element in b",".join(values).decode("ascii").split(",")]
    except UnicodeDecodeError:
        raise _malformed(name) from None
    elements = [element for element in elements if element]
    if values and not elements:
        raise _malformed(name)
    return elements


def _values_of(name: bytes, fields: Fields) -> list[bytes]:
    return [value for given, value in fields if given.lower() == name]


def _malformed(name: bytes) -> HandshakeError:
    return _refusal(f"{name.decode()} is malformed")


def _refusal(detail: str, fields: Iterable[tuple[bytes, bytes]] = ()) -> HandshakeError:
    return HandshakeError(HTTPStatus.BAD_REQUEST, detail, fields)


def _check_headers(headers: Iterable[tuple[bytes, bytes]]) -> Fields:
    """The application's own fields, without those of a connection."""
    fields: Fields = []
    for given_name, given_value in headers:
        name, value = bytes(given_name).lower(), bytes(given_value).strip(b" \t")
        if not _FIELD_NAME.fullmatch(name) or name.startswith(b"sec-websocket-"):
            raise ValueError(f"{name!r} is not a header that an application may set here")
        if _BAD_FIELD_VALUE.search(value):
            raise ValueError(f"the header {name.decode()} has a control character in its value")
        if name not in _NOT_FOR_APPLICATIONS:
            fields.append((name, value))
    return fields
