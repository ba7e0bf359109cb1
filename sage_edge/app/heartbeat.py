"""The layer that keeps silent event streams alive: a comment now and then, while the gateway has nothing to say.

What stands between the edge and a client, a balancer or a browser, ends a connection that is silent for too long,
and a client that vanished is only found out by writing to it. One task looks after all streams.
"""

from __future__ import annotations

import trio

from sage_edge.app.asgi import ASGIApplication, Receive, Scope, Send
from sage_edge.app.exchange import EXCHANGE, Exchange, WriteBetween
from sage_edge.core.heartbeat import COMMENT, Silence
from sage_edge.core.logger import EdgeLogger

log = EdgeLogger(__name__)

LOOKS_PER_SILENCE = 4
"""How often it is looked at the streams: a comment is late by a quarter of the silence at most."""


class HeartbeatLayer:
    """An ASGI application that calls another and keeps its event streams alive while its lifespan runs.

    Args:
        application: the other.
        seconds: a stream that is silent for so long gets a comment.
    """

    def __init__(self, application: ASGIApplication, *, seconds: float) -> None:
        self._application = application
        self._seconds = seconds
        self._streams: dict[Exchange, tuple[Silence, WriteBetween]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request or WebSocket; beside a lifespan, look after the event streams."""
        if scope["type"] == "lifespan":
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._beat)
                await self._application(scope, receive, send)
                nursery.cancel_scope.cancel()
            return
        exchange: Exchange = scope[EXCHANGE]
        exchange.when_event_stream(self._look_after)
        await self._application(scope, receive, send)

    def _look_after(self, exchange: Exchange, write: WriteBetween | None) -> None:
        if write is None:
            return
        silence = Silence(trio.current_time())
        self._streams[exchange] = silence, write
        exchange.note_event = lambda data: silence.interrupt(data, trio.current_time())
        exchange.when_done(self._forget)

    def _forget(self, exchange: Exchange) -> None:
        self._streams.pop(exchange, None)

    async def _beat(self) -> None:
        while True:
            await trio.sleep(self._seconds / LOOKS_PER_SILENCE)
            now = trio.current_time()
            for exchange, (silence, write) in list(self._streams.items()):
                try:
                    if silence.is_due(now, self._seconds):
                        write(COMMENT)
                        silence.since = now
                except Exception as error:  # of one stream: it is not to end the others'
                    log.error("heartbeat failed", exc_info=error)
                    del self._streams[exchange]
