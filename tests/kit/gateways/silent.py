"""An event stream with a long silence between its two events, on whatever loop."""

from __future__ import annotations

import asyncio
from typing import Any

import sniffio
import trio

SILENCE_SECONDS = 0.6
EVENT = b"data: x\n\n"


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Answer everything with the stream; no lifespan."""
    assert scope["type"] == "http"
    sleep = trio.sleep if sniffio.current_async_library() == "trio" else asyncio.sleep
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
    await send({"type": "http.response.body", "body": EVENT, "more_body": True})
    await sleep(SILENCE_SECONDS)
    await send({"type": "http.response.body", "body": EVENT})
