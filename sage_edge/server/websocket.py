"""A WebSocket on one stream: Hypercorn's, with the client's close code and reason passed on.

Hypercorn's own tells the application 1006, "closed abnormally", whatever the client said.
"""

from __future__ import annotations

from http import HTTPStatus

from hypercorn.protocol.events import Body, Data, EndBody, Event, StreamClosed
from hypercorn.protocol.ws_stream import ASGIWebsocketState, WSStream
from hypercorn.typing import WebsocketAcceptEvent
from wsproto.connection import ConnectionState
from wsproto.events import CloseConnection
from wsproto.events import Event as WSProtoEvent
from wsproto.extensions import PerMessageDeflate
from wsproto.handshake import server_extensions_handshake


class EdgeWSStream(WSStream):
    """Hypercorn's WebSocket stream (ASGI specification, WebSocket, Disconnect)."""

    _client_close: CloseConnection | None = None

    async def handle(self, event: Event) -> None:
        """Take what the connection has for this stream."""
        if isinstance(event, EndBody):
            # The client has ended its side of the stream, which stands for a TCP connection (RFC 8441 section 5).
            await self.send(StreamClosed(stream_id=self.stream_id))
            return
        if isinstance(event, Body | Data) and not self.handshake.accepted and not self.closed:
            # Before the handshake is over there is nothing to send. Hypercorn refuses it, and leaves the
            # application and the connection waiting.
            await self._send_error_response(HTTPStatus.BAD_REQUEST)
            await self.send(StreamClosed(stream_id=self.stream_id))
            return
        close = self._client_close
        is_open = self.state is ASGIWebsocketState.CONNECTED and not self.closed
        if isinstance(event, StreamClosed) and close is not None and is_open and self.app_put is not None:
            self.closed = True
            await self.app_put({"type": "websocket.disconnect", "code": int(close.code), "reason": close.reason or ""})
            return
        await super().handle(event)

    async def _accept(self, message: WebsocketAcceptEvent) -> None:
        try:
            await super()._accept(message)
        except Exception:
            if not self.handshake.accepted:  # Hypercorn counts it as open already, and then trips over that
                self.state = ASGIWebsocketState.HANDSHAKE
            raise

    async def _send_wsproto_event(self, event: WSProtoEvent) -> None:
        if isinstance(event, CloseConnection) and self.connection.state is ConnectionState.REMOTE_CLOSING:
            self._client_close = event  # Hypercorn's answer, which repeats the client's code and reason
        await super()._send_wsproto_event(event)


async def adopt(stream: object) -> None:
    """Make a WebSocket stream that Hypercorn's protocols have just created one of the edge's.

    They name the class they create; to take its place is less than to repeat what they do around it.
    """
    if type(stream) is not WSStream:
        return
    stream.__class__ = EdgeWSStream
    if stream.closed:  # refused with 400; Hypercorn leaves the connection open, without a timer
        await stream.send(StreamClosed(stream_id=stream.stream_id))
        return
    handshake = stream.handshake
    try:
        server_extensions_handshake(handshake.extensions or [], [PerMessageDeflate()])
    except ValueError:
        handshake.extensions = None  # an offer that makes no sense is declined (RFC 7692 section 5)
