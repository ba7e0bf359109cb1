"""The application under test: plain ASGI, the same for every server, for asyncio and for trio."""

from __future__ import annotations

import importlib
import json
from collections.abc import Awaitable, Callable, MutableMapping
from time import monotonic
from typing import Any, cast
from urllib.parse import parse_qs

from tests.bench.payloads import (
    CHAT_ANSWER,
    DOWNLOAD_CHUNK,
    DOWNLOAD_CHUNKS,
    SMALL,
    UPLOAD,
    UPLOAD_ANSWER,
    event,
)

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Application:
    """Answers what the loads ask for. `loop` names the library that sleeps: asyncio or trio."""

    def __init__(self, loop: str) -> None:
        self._loop = loop
        self._sleep: Callable[[float], Awaitable[None]] | None = None

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
        elif scope["path"] == "/json":
            await _answer(send, SMALL)
        elif scope["path"] == "/chat":
            question = json.loads(await _body(receive))
            await _answer(send, CHAT_ANSWER, 200 if len(question["messages"]) == 2 else 400)
        elif scope["path"] == "/upload":
            await _answer(send, UPLOAD_ANSWER, 200 if await _body_length(receive) == len(UPLOAD) else 400)
        elif scope["path"] == "/download":
            await _download(send)
        elif scope["path"] == "/events":
            query = parse_qs(scope["query_string"])
            await self._events(send, int(query[b"count"][0]), float(query[b"pause"][0]))
        elif scope["path"] == "/idle":
            await _idle(receive, send)
        else:
            await _answer(send, b"{}", 404)

    async def _events(self, send: Send, count: int, pause: float) -> None:
        """`count` events, `pause` seconds apart by a fixed timetable, so that a late one does not delay the rest."""
        sleep = self._sleep or importlib.import_module(self._loop).sleep  # a server loads only the library it uses
        self._sleep = sleep
        await send(_start(200, b"text/event-stream"))
        due = monotonic()
        for number in range(count):
            await send({"type": "http.response.body", "body": event(number), "more_body": True})
            due += pause
            await sleep(max(0.0, due - monotonic()) if pause else 0)
        await send({"type": "http.response.body", "body": b""})


def _start(status: int, content_type: bytes, length: int | None = None) -> Message:
    headers = [(b"content-type", content_type)]
    if length is not None:
        headers.append((b"content-length", b"%d" % length))
    return {"type": "http.response.start", "status": status, "headers": headers}


async def _answer(send: Send, body: bytes, status: int = 200) -> None:
    await send(_start(status, b"application/json", len(body)))
    await send({"type": "http.response.body", "body": body})


async def _body(receive: Receive) -> bytes:
    body = b""
    while True:
        message = await receive()
        body += cast(bytes, message.get("body", b""))
        if not message.get("more_body"):
            return body


async def _body_length(receive: Receive) -> int:
    length = 0
    while True:
        message = await receive()
        length += len(message.get("body", b""))
        if not message.get("more_body"):
            return length


async def _download(send: Send) -> None:
    await send(_start(200, b"application/octet-stream", len(DOWNLOAD_CHUNK) * DOWNLOAD_CHUNKS))
    for left in range(DOWNLOAD_CHUNKS - 1, -1, -1):
        await send({"type": "http.response.body", "body": DOWNLOAD_CHUNK, "more_body": left > 0})


async def _idle(receive: Receive, send: Send) -> None:
    """One event, and then nothing until the client leaves."""
    await send(_start(200, b"text/event-stream"))
    await send({"type": "http.response.body", "body": event(0), "more_body": True})
    while (await receive())["type"] != "http.disconnect":
        pass


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        phase = (await receive())["type"]
        await send({"type": f"{phase}.complete"})
        if phase == "lifespan.shutdown":
            return


asyncio_app = Application("asyncio")
trio_app = Application("trio")
