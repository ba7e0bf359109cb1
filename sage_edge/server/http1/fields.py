"""Field lines of a head or a trailer section (RFC 9112 section 5). What fields mean is not decided here.

The patterns never try a second way to match (possessive repeats), so that their time is linear in any input.
"""

from __future__ import annotations

import re
from http import HTTPStatus

from sage_edge.core.limits import MAX_FIELDS
from sage_edge.server.http1.errors import BadRequestError, malformed

TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
"""RFC 9110 section 5.6.2."""

_LINES = re.compile(rb"(?:%b:[\t\x20-\x7e\x80-\xff]*+\r\n)*+" % TOKEN)
_STARTS_WITH_NAME = re.compile(rb"%b:" % TOKEN)


def read_fields(block: bytes) -> list[tuple[bytes, bytes]]:
    """Read field lines, each with its CRLF: names in lower case, values without white space around them.

    Raises:
        BadRequestError: one breaks a rule, or there are too many.
    """
    if block.count(b"\r\n") > MAX_FIELDS:
        raise BadRequestError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "The request has too many fields.")
    if _LINES.fullmatch(block) is None:
        raise malformed(_explain(block))
    fields = []
    for line in block.split(b"\r\n")[:-1]:
        name, _, value = line.partition(b":")
        fields.append((name.lower(), value.strip(b" \t")))
    return fields


def read_list(value: bytes) -> tuple[str, ...]:
    """The members of a list of tokens, in lower case; empty ones count for nothing (RFC 9110 section 5.6.1.2)."""
    members = (member.strip(" \t") for member in value.decode("latin-1").lower().split(","))
    return tuple(member for member in members if member)


def _explain(block: bytes) -> str:
    line = next(line for line in block.split(b"\r\n") if _LINES.fullmatch(line + b"\r\n") is None)
    if line.startswith((b" ", b"\t")):
        return "A field is folded over two lines."  # section 5.2
    if b"\r" in line:
        return "There is a bare CR in the head."  # section 2.2
    if not _STARTS_WITH_NAME.match(line):
        return "A field's name is malformed."  # section 5.1: white space before the colon as well
    return "A field's value has a control character."  # RFC 9110 section 5.5
