"""HTTP/2 on one connection: Hypercorn's protocol, mended where ordinary clients run into it.

Section numbers are those of RFC 9113.
"""

from __future__ import annotations

from functools import partial
from http import HTTPStatus
from typing import Any

import h2.errors
import h2.events
import h2.exceptions
from hypercorn.events import Closed, Event
from hypercorn.protocol.events import Body, EndBody, EndData, StreamClosed, Trailers
from hypercorn.protocol.events import Event as StreamEvent
from hypercorn.protocol.h2 import BUFFER_LOW_WATER, H2Protocol, StreamBuffer
from hypercorn.protocol.ws_stream import WSStream

from sage_edge.server.inbox import StreamInbox
from sage_edge.server.websocket import adopt

CONNECTION_WINDOW_BYTES = 16 * 2**20
"""For all bodies of a connection. No larger than a stream's, one that nobody reads would hold up the others."""
INITIAL_WINDOW_BYTES = 65_535
"""What a connection begins with (section 6.9.2)."""


class EdgeStreamBuffer(StreamBuffer):
    """Hypercorn's buffer of what a stream has to send, with back pressure.

    Its own lets the application go on whenever little is taken out, a closed window's nothing too, and
    so took all that an application sent into memory (traps 2 and 17).
    """

    async def pop(self, max_length: int) -> bytes:
        """Take out so much; the application goes on once little is left."""
        data = bytes(self.buffer[:max_length])
        del self.buffer[:max_length]
        if len(self.buffer) < BUFFER_LOW_WATER:
            await self._paused.set()
        if not self.buffer:
            await self._is_empty.set()
        return data


class EdgeH2Protocol(H2Protocol):
    """Hypercorn's HTTP/2 protocol."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._owed_bytes: dict[int, int] = {}  # received and not yet credited, by stream

    async def initiate(self, *arguments: Any) -> None:
        """Send the server's preface, and open the connection's window."""
        await super().initiate(*arguments)
        self.connection.increment_flow_control_window(CONNECTION_WINDOW_BYTES - INITIAL_WINDOW_BYTES)
        await self._flush()

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
            await self._forget(event.stream_id)
            return
        if isinstance(event, StreamClosed):
            await self._end_incomplete(event.stream_id)
        await super().stream_send(event)
        if isinstance(event, EndBody | EndData) and event.stream_id in self.stream_buffers:
            # Its bytes had gone before its end was known: nothing but END_STREAM is left, and the connection's
            # GOAWAY must not overtake it either.
            await self._send_data(event.stream_id)

    async def _send_data(self, stream_id: int) -> None:
        """Send what one stream may send, its end with its last bytes.

        Hypercorn ends a stream only after its application was told that all is sent; when that was the last
        one of a connection that drains, GOAWAY and the close came first (trap 24).
        """
        buffer = self.stream_buffers.get(stream_id)
        if buffer is None:
            self.priority.block(stream_id)
            return
        try:
            window = self.connection.local_flow_control_window(stream_id)
            data = await buffer.pop(max(0, min(window, self.connection.max_outbound_frame_size)))
            has_ended = buffer.complete
            if data or has_ended:
                self.connection.send_data(stream_id, data, end_stream=has_ended)
        except h2.exceptions.ProtocolError:
            has_ended = True  # the stream or the connection ended while its bytes waited
        if has_ended:
            await self._forget(stream_id)
        elif not data:
            self.priority.block(stream_id)
        await self._flush()

    async def _end_incomplete(self, stream_id: int) -> None:
        """End a stream whose answer was not finished, so that its client does not wait (trap 21)."""
        buffer = self.stream_buffers.get(stream_id)
        if buffer is None or buffer._complete or self.closed:
            return
        stream = self.streams.get(stream_id)
        if isinstance(stream, WSStream) and stream.handshake.accepted:
            # The WebSocket's closing handshake is made; END_STREAM follows what is buffered.
            buffer.set_complete()
            self.priority.unblock(stream_id)
            await self.has_data.set()
            return
        try:
            self.connection.reset_stream(stream_id, h2.errors.ErrorCodes.INTERNAL_ERROR)
        except h2.exceptions.ProtocolError:
            return  # the client has ended it already
        await self._forget(stream_id)
        await self._flush()

    async def _forget(self, stream_id: int) -> None:
        """Drop what is kept of a stream that has nothing more to send."""
        if buffer := self.stream_buffers.pop(stream_id, None):
            self.priority.remove_stream(stream_id)
            await buffer.close()

    async def _handle_events(self, events: list[h2.events.Event]) -> None:
        for event in events:
            if isinstance(event, h2.events.DataReceived):
                await self._take_data(event)
            else:
                await super()._handle_events([event])
        await self._flush()

    async def _take_data(self, event: h2.events.DataReceived) -> None:
        """Pass a piece of a body on, and return its credit unless its application lags behind (section 5.2.2)."""
        stream: Any = self.streams.get(event.stream_id)
        self._owed_bytes[event.stream_id] = self._owed_bytes.get(event.stream_id, 0) + event.flow_controlled_length
        if stream is not None:
            await stream.handle(Body(stream_id=event.stream_id, data=event.data))
            inbox: StreamInbox | None = getattr(stream, "inbox", None)
            if inbox is not None and inbox.is_full:
                inbox.on_room = partial(self._return_credit_later, event.stream_id)
                return
        # DATA of a stream that is gone, answered before its body had arrived (a 401, 404 or 413: traps 1
        # and 16), counts against the connection's window all the same (section 5.1).
        self._return_credit(event.stream_id)

    def _return_credit(self, stream_id: int) -> None:
        owed_bytes = self._owed_bytes.pop(stream_id, 0)
        if owed_bytes and not self.closed:
            self.connection.acknowledge_received_data(owed_bytes, stream_id)

    def _return_credit_later(self, stream_id: int) -> None:
        """The same for an application's task, whose cancellation must not cost the connection its bytes."""
        self._return_credit(stream_id)
        if not self.closed:
            self.task_group.spawn(self._flush)

    async def _create_stream(self, request: h2.events.RequestReceived) -> None:
        if status := _find_refusal(dict(request.headers)):
            fields = [(b":status", str(status.value).encode()), (b"content-length", b"0")]
            self.connection.send_headers(request.stream_id, fields, end_stream=True)
            await self._flush()
            return
        await super()._create_stream(request)
        if buffer := self.stream_buffers.get(request.stream_id):
            buffer.__class__ = EdgeStreamBuffer  # as `adopt` does, and for its reason
        await adopt(self.streams.get(request.stream_id))

    async def _priority_updated(self, event: h2.events.PriorityUpdated) -> None:
        """Ignore it: section 5.3.2 deprecates it, and the tree that Hypercorn keeps ends the connection once full."""


def _find_refusal(headers: dict[bytes, bytes]) -> HTTPStatus | None:
    """What is refused here, since Hypercorn's streams raise on it; all else is routed."""
    if not headers[b":method"].isascii() or not headers.get(b":path", b"").isascii():
        return HTTPStatus.BAD_REQUEST
    if headers[b":method"] == b"CONNECT" and b":protocol" not in headers:
        return HTTPStatus.METHOD_NOT_ALLOWED
    if headers.get(b":protocol", b"websocket") != b"websocket":
        return HTTPStatus.NOT_IMPLEMENTED  # RFC 9220 section 3
    return None
