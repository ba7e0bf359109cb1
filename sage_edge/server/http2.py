"""HTTP/2 on one connection: Hypercorn's protocol, mended where one stream could harm the others.

Only what real clients run into is mended here; section numbers are those of RFC 9113.
"""

from __future__ import annotations

from http import HTTPStatus

import h2.errors
import h2.events
import h2.exceptions
from hypercorn.events import Closed, Event
from hypercorn.protocol.events import Event as StreamEvent
from hypercorn.protocol.events import StreamClosed, Trailers
from hypercorn.protocol.h2 import H2Protocol
from hypercorn.protocol.ws_stream import WSStream


class EdgeH2Protocol(H2Protocol):
    """Hypercorn's HTTP/2 protocol."""

    async def handle(self, event: Event) -> None:
        """Take bytes or the end of the connection."""
        await super().handle(event)
        if isinstance(event, Closed):
            # An answer that waits for a window would wait for ever, and keep its task and socket (trap 22).
            for buffer in self.stream_buffers.values():
                await buffer.close()

    async def stream_send(self, event: StreamEvent) -> None:
        """Take what a stream wants to send."""
        if self.closed and not isinstance(event, StreamClosed):
            return
        if isinstance(event, Trailers) and event.stream_id in self.stream_buffers:
            await super().stream_send(event)
            if buffer := self.stream_buffers.pop(event.stream_id, None):
                self.priority.remove_stream(event.stream_id)
                await buffer.close()
            return
        if isinstance(event, StreamClosed):
            await self._end_incomplete(event.stream_id)
        await super().stream_send(event)

    async def _end_incomplete(self, stream_id: int) -> None:
        """End a stream whose answer was not finished, so that its client does not wait (trap 21)."""
        buffer = self.stream_buffers.get(stream_id)
        if buffer is None or buffer._complete or self.closed:
            return
        if isinstance(self.streams.get(stream_id), WSStream):
            # The WebSocket's closing handshake is made; END_STREAM follows what is buffered.
            buffer.set_complete()
            self.priority.unblock(stream_id)
            await self.has_data.set()
            return
        try:
            self.connection.reset_stream(stream_id, h2.errors.ErrorCodes.INTERNAL_ERROR)
        except h2.exceptions.ProtocolError:
            return  # the client has ended it already
        await self._flush()

    async def _handle_events(self, events: list[h2.events.Event]) -> None:
        for event in events:
            if isinstance(event, h2.events.DataReceived) and event.stream_id not in self.streams:
                # Answered before its body had arrived: a 401, 404 or 413 (traps 1 and 16). Section 5.1:
                # such DATA counts against the connection's window, so its credit is returned.
                self.connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            else:
                await super()._handle_events([event])
        await self._flush()

    async def _create_stream(self, request: h2.events.RequestReceived) -> None:
        if status := _find_refusal(dict(request.headers)):
            fields = [(b":status", str(status.value).encode()), (b"content-length", b"0")]
            self.connection.send_headers(request.stream_id, fields, end_stream=True)
            await self._flush()
        else:
            await super()._create_stream(request)


def _find_refusal(headers: dict[bytes, bytes]) -> HTTPStatus | None:
    """What is refused here, since Hypercorn's streams raise on it; all else is routed."""
    if not headers[b":method"].isascii() or not headers.get(b":path", b"").isascii():
        return HTTPStatus.BAD_REQUEST
    if headers[b":method"] == b"CONNECT" and b":protocol" not in headers:
        return HTTPStatus.METHOD_NOT_ALLOWED
    if headers.get(b":protocol", b"websocket") != b"websocket":
        return HTTPStatus.NOT_IMPLEMENTED  # RFC 9220 section 3
    return None
