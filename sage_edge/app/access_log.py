"""The layer that logs one line for each request, when its answer is complete or has ended.

The query is left out: keys and prompts travel in it. Nothing of a header or a body is logged.
"""

from __future__ import annotations

import time

import structlog

from sage_edge.app.asgi import ASGIApplication, Receive, Scope, Send
from sage_edge.core.exchange import Message, ResponseProgress

log = structlog.get_logger("sage_edge.access")


class AccessLogLayer:
    """An ASGI application that calls another and logs how each request went."""

    def __init__(self, application: ASGIApplication) -> None:
        self._application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request or WebSocket; a lifespan is passed through."""
        if scope["type"] == "lifespan":
            await self._application(scope, receive, send)
            return
        record = _Record(scope)

        async def watched_receive() -> Message:
            message = await receive()
            record.note_received(message)
            return message

        async def watched_send(message: Message) -> None:
            record.note_sent(message)
            await send(message)
            if record.progress.is_complete:
                record.write("complete")

        try:
            await self._application(scope, watched_receive, watched_send)
        finally:
            if record.progress.is_delivered:
                record.write("complete")
            record.write("client left" if record.has_client_left else "cut")


class _Record:
    """What is known of one request; written once."""

    def __init__(self, scope: Scope) -> None:
        self._started_at = time.perf_counter()
        self._scope = scope
        self._status = 0
        self._received_bytes = 0
        self._sent_bytes = 0
        self._is_written = False
        self.has_client_left = False
        self.progress = ResponseProgress()

    def note_received(self, message: Message) -> None:
        self.has_client_left = message["type"].endswith(".disconnect")
        self._received_bytes += _size_bytes(message)

    def note_sent(self, message: Message) -> None:
        self.progress.note(message)
        if message["type"] == "websocket.accept":
            self._status = 101
        elif message["type"] == "websocket.close" and not self._status:
            self._status = 403
        self._status = message.get("status", self._status)
        if self._scope.get("method") != "HEAD":
            self._sent_bytes += _size_bytes(message)

    def write(self, ending: str) -> None:
        if self._is_written:
            return
        self._is_written = True
        scope = self._scope
        client = scope.get("client")
        log.info(
            "request",
            client=client[0] if client else "-",
            protocol=f"HTTP/{scope['http_version']}",
            method=scope.get("method", "WEBSOCKET"),
            path=scope["raw_path"].decode("latin-1"),
            status=self._status or "-",
            received_bytes=self._received_bytes,
            sent_bytes=self._sent_bytes,
            duration_ms=round((time.perf_counter() - self._started_at) * 1000, 1),
            ending=ending,
        )


def _size_bytes(message: Message) -> int:
    return len(message.get("body") or message.get("bytes") or (message.get("text") or "").encode())
