"""A gateway on trio whose requests shield all that they do from their cancellation."""

from __future__ import annotations

import sys
from typing import Any

import trio


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        sys.stderr.write("shut down\n")
        await send({"type": "lifespan.shutdown.complete"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"begun", "more_body": True})
    with trio.CancelScope(shield=True):
        await trio.sleep_forever()
