"""The head of a request: its line, its fields, and what they say of the body and the connection.

RFC 9112 sections 3, 6 and 9. Everything that two readers could understand in two ways is refused. Which
methods and targets exist is the application's to say.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from http import HTTPStatus

from sage_edge.core.authority import read_authority
from sage_edge.server.http1.errors import BadRequestError, malformed
from sage_edge.server.http1.fields import TOKEN, read_fields, read_list

LARGEST_CONTENT_LENGTH = 2**63 - 1

_REQUEST_LINE = re.compile(rb"(%b) ([\x21-\x7e]++) HTTP/([0-9])\.([0-9])" % TOKEN)
_BEGUN_LINE = re.compile(rb"(%b) ([\x21-\x7e]++)" % TOKEN)
_ABSOLUTE_FORM = re.compile(rb"([A-Za-z][A-Za-z0-9+\-.]*+)://([^/?#]*+)")
_CODING = re.compile(rb"%b" % TOKEN)
_DEFAULT_PORTS = {b"http": 80, b"https": 443}
_ONCE = (b"host", b"content-length")
_LISTS = (b"connection", b"expect", b"te", b"transfer-encoding", b"upgrade")


@dataclass(slots=True)
class Request:
    """A request's head.

    Attributes:
        method: as sent; methods are case-sensitive.
        target: as sent, but for one in absolute form, which is given in origin form (section 3.2).
        version: "1.0" or "1.1".
        fields: lower-case names, values without white space around them, in order. With a target in absolute form
            `host` is the target's authority (section 3.2.2).
        content_length: of the body; None where it was not announced.
        is_chunked: the body is chunked. Without either there is none.
        keeps_alive: the client may send another request (section 9.3).
        expects_continue: the client waits with its body (RFC 9110 section 10.1.1).
        upgrade: the protocols it would rather speak, in lower case (RFC 9110 section 7.8).
        takes_trailers: the client is willing to take trailers (RFC 9110 section 6.5.1).
        head_bytes: its size, as it was sent, without the empty line.
    """

    method: str
    target: bytes
    version: str
    fields: list[tuple[bytes, bytes]]
    content_length: int | None
    is_chunked: bool
    keeps_alive: bool
    expects_continue: bool
    upgrade: tuple[str, ...]
    takes_trailers: bool
    head_bytes: int


def read_head(block: bytes) -> Request:
    """Read a head: its lines, each with its CRLF, without the empty line behind them.

    Raises:
        BadRequestError: it breaks a rule.
    """
    line, _, rest = block.partition(b"\r\n")
    method, target, version = _read_request_line(line)
    fields = read_fields(rest)
    by_name = dict(fields)
    if len(by_name) < len(fields):
        _join_repeated(fields, by_name)
    host = _check_host(by_name.get(b"host"), version)
    if not target.startswith(b"/"):
        target = _read_target(method, target, host, fields)
    content_length, is_chunked = _read_framing(by_name, version)
    options = read_list(by_name[b"connection"]) if b"connection" in by_name else ()
    return Request(
        method,
        target,
        version,
        fields,
        content_length,
        is_chunked,
        # What follows a CONNECT may be meant for the tunnel: it is never read as a request.
        "close" not in options and (version == "1.1" or "keep-alive" in options) and method != "CONNECT",
        b"expect" in by_name
        and _read_expectation(by_name[b"expect"], version)
        and (is_chunked or content_length not in (None, 0)),
        read_list(by_name.get(b"upgrade", b"")) if "upgrade" in options and version == "1.1" else (),
        b"te" in by_name and "trailers" in read_list(by_name[b"te"]),
        len(block),
    )


def guess_request_line(line: bytes) -> tuple[str, bytes] | None:
    """The method and target of a request that was refused, for whoever asks what it was; None where it is none."""
    match = _BEGUN_LINE.match(line)
    return (match[1].decode(), match[2]) if match else None


def _read_request_line(line: bytes) -> tuple[str, bytes, str]:
    match = _REQUEST_LINE.fullmatch(line)
    if match is None:
        error = malformed("The request line is malformed.")
        protocol = line.rpartition(b" ")[2]
        error.is_http = line.count(b" ") != 2 or b"/" in protocol or protocol.upper().startswith(b"HTTP")
        raise error
    method, target, major, minor = match.groups()
    if major != b"1":
        raise BadRequestError(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "The request's version is not spoken here.")
    # A later minor version is understood as ours (RFC 9110 section 2.5).
    return method.decode(), target, "1.0" if minor == b"0" else "1.1"


def _join_repeated(fields: list[tuple[bytes, bytes]], by_name: dict[bytes, bytes]) -> None:
    """Refuse fields that are given once only; make one list of several lines (RFC 9110 section 5.3)."""
    for name in _ONCE:
        if sum(given == name for given, _ in fields) > 1:
            raise malformed(f"{name.decode()} is given more than once.")
    for name in _LISTS:
        if name in by_name:
            by_name[name] = b", ".join(value for given, value in fields if given == name)


def _check_host(host: bytes | None, version: str) -> tuple[bytes, int | None] | None:
    """Section 3.2. An empty Host is for targets without an authority, and http and https have none such."""
    if host is None:
        if version == "1.0":
            return None
        raise malformed("The request names no host.")
    authority = read_authority(host)
    if authority is None:
        raise malformed("The host is malformed.")
    return authority


def _read_target(
    method: str, target: bytes, host: tuple[bytes, int | None] | None, fields: list[tuple[bytes, bytes]]
) -> bytes:
    """Read a target that is no path; Host becomes what it names (sections 3.2.2 to 3.2.4)."""
    if target == b"*" and method == "OPTIONS":
        return target
    if method == "CONNECT":
        authority = read_authority(target)
        if authority is None or authority[1] is None:
            raise malformed("The request's target is malformed.")
        return target
    match = _ABSOLUTE_FORM.match(target)
    authority = read_authority(match[2]) if match else None
    if match is None or authority is None:
        raise malformed("The request's target is malformed.")
    default_port = _DEFAULT_PORTS.get(match[1].lower())
    if default_port is None:
        raise malformed("The request's target has a scheme that is not served here.")
    if host is None:
        fields.insert(0, (b"host", match[2]))
    elif (host[0], host[1] or default_port) != (authority[0], authority[1] or default_port):
        raise malformed("The request's target and its host field name different hosts.")
    else:
        fields[:] = [(name, match[2] if name == b"host" else value) for name, value in fields]
    origin_form = target[match.end() :]
    return origin_form if origin_form.startswith(b"/") else b"/" + origin_form


def _read_framing(by_name: dict[bytes, bytes], version: str) -> tuple[int | None, bool]:
    """Section 6.3: the length of the body, or that it is chunked."""
    length = by_name.get(b"content-length")
    coding = by_name.get(b"transfer-encoding")
    if coding is None:
        return (None if length is None else _read_length(length)), False
    if length is not None:
        raise malformed("Both transfer-encoding and content-length are given.")
    if version == "1.0":
        raise malformed("transfer-encoding is not known to HTTP/1.0.")  # section 6.1
    if coding.lower() == b"chunked":
        return None, True
    *others, last = [member.strip(b" \t") for member in coding.lower().split(b",")]
    names = [other.partition(b";")[0].rstrip(b" \t") for other in others]
    if last != b"chunked" or b"chunked" in names or not all(map(_CODING.fullmatch, names)):
        # "gzip" alone too: where the body ends could not be told (section 6.3, rule 4).
        raise malformed("transfer-encoding does not end in one chunked.")
    raise BadRequestError(HTTPStatus.NOT_IMPLEMENTED, "The transfer coding is not known here.")


def _read_length(value: bytes) -> int:
    # The same number twice is refused as well, as section 6.3, rule 5 allows.
    if value.isdigit() and len(value) <= len(str(LARGEST_CONTENT_LENGTH)):
        length = int(value)
        if length <= LARGEST_CONTENT_LENGTH:
            return length
    raise malformed("content-length is not one number.")


def _read_expectation(value: bytes, version: str) -> bool:
    if value.lower() != b"100-continue":
        raise BadRequestError(HTTPStatus.EXPECTATION_FAILED, "The expectation is not known here.")
    return version == "1.1"  # an HTTP/1.0 client's is ignored (RFC 9110 section 10.1.1)
