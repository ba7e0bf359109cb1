"""HTTP/1.1 on one connection: Hypercorn's protocol, mended where ordinary clients run into it."""

from __future__ import annotations

import h11
from hypercorn.protocol.events import Event as StreamEvent
from hypercorn.protocol.events import Response
from hypercorn.protocol.h11 import H2ProtocolAssumedError, H11Protocol

from sage_edge.server.websocket import adopt


class EdgeH11Protocol(H11Protocol):
    """Hypercorn's HTTP/1.1 protocol."""

    @property
    def has_unread_body(self) -> bool:
        """Whether the client may still be sending the body of a request."""
        return self.connection.their_state is h11.SEND_BODY

    async def stream_send(self, event: StreamEvent) -> None:
        """Take what the stream wants to send."""
        if isinstance(event, Response) and event.status_code >= 200 and self.has_unread_body:
            # Answered before its body had arrived: the connection cannot be used again, and its client
            # must know before it sends the next request (RFC 9112 section 9.6).
            event = Response(event.stream_id, [*event.headers, (b"connection", b"close")], event.status_code)
        await super().stream_send(event)

    async def _create_stream(self, request: h11.Request) -> None:
        await super()._create_stream(request)
        await adopt(self.stream)

    async def _check_protocol(self, event: h11.Request) -> None:
        """Look for HTTP/2's connection preface (RFC 9113 section 3.4); an h2c upgrade is ignored."""
        if event.method == b"PRI" and event.target == b"*" and event.http_version == b"2.0":
            raise H2ProtocolAssumedError(b"PRI * HTTP/2.0\r\n\r\n" + self.connection.trailing_data[0])
