"""Answers in a few ways, and tells how many objects only the garbage collector could free; on whatever loop."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import sniffio
import trio

EVENT = b"data: x\n\n"
PAUSE_SECONDS = 0.01

_streams: set[object] = set()


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """By path: /collected, /events, /wait, /upload, a WebSocket that echoes, or a few bytes; no lifespan."""
    if scope["type"] == "websocket":
        await _echo(receive, send)
    elif scope["path"] == "/events":
        await _stream(send)
    elif scope["path"] == "/wait":
        await _wait()
    else:
        assert scope["type"] == "http"
        while scope["path"] == "/upload" and (await receive()).get("more_body"):
            pass
        body = b"%d" % await _count_collected() if scope["path"] == "/collected" else b"ok"
        headers = [(b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


async def _count_collected() -> int:
    """Of all that has ended: once no stream is left."""
    while _streams:
        await _sleep(PAUSE_SECONDS)
    gc.collect()
    return sum(generation["collected"] for generation in gc.get_stats())


async def _stream(send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
    stream = object()
    _streams.add(stream)
    try:
        while True:
            await send({"type": "http.response.body", "body": EVENT, "more_body": True})
            await _sleep(PAUSE_SECONDS)
    finally:
        _streams.discard(stream)


async def _wait() -> None:
    stream = object()
    _streams.add(stream)
    try:
        await _sleep(3600)
    finally:
        _streams.discard(stream)


async def _sleep(seconds: float) -> None:
    await (trio.sleep if sniffio.current_async_library() == "trio" else asyncio.sleep)(seconds)


async def _echo(receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": message["text"]})
