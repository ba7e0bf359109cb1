"""HTTP/1.1 on one connection: Hypercorn's protocol without the h2c upgrade."""

from __future__ import annotations

import h11
from hypercorn.protocol.h11 import H2ProtocolAssumedError, H11Protocol


class EdgeH11Protocol(H11Protocol):
    """Hypercorn's HTTP/1.1 protocol."""

    async def _check_protocol(self, event: h11.Request) -> None:
        """Look for HTTP/2's connection preface (RFC 9113 section 3.4); an h2c upgrade is ignored."""
        if event.method == b"PRI" and event.target == b"*" and event.http_version == b"2.0":
            raise H2ProtocolAssumedError(b"PRI * HTTP/2.0\r\n\r\n" + self.connection.trailing_data[0])
