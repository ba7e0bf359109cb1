"""Hosts and ports, in Host and in request targets (RFC 3986 section 3.2). Syntax only: nothing is resolved."""

from __future__ import annotations

import re
from ipaddress import AddressValueError, IPv6Address

_AUTHORITY = re.compile(rb"(\[[0-9A-Fa-f:.]++\]|(?:[A-Za-z0-9\-._~!$&'()*+,;=]++|%[0-9A-Fa-f]{2})++)(?::([0-9]{1,5}))?")
_LARGEST_PORT = 65535


def read_authority(authority: bytes) -> tuple[bytes, int | None] | None:
    """The host in lower case and the port, if one is given; None where the authority is malformed.

    Stricter than RFC 3986, to leave no room for two readings: there is a host, no user information (RFC 9110
    section 4.2.4), no colon without a port, and no IP literal but IPv6.
    """
    match = _AUTHORITY.fullmatch(authority)
    if match is None:
        return None
    host, port = match.groups()
    if host.startswith(b"["):
        try:
            IPv6Address(host[1:-1].decode())
        except AddressValueError:
            return None
    if port is None:
        return host.lower(), None
    return (host.lower(), int(port)) if int(port) <= _LARGEST_PORT else None
