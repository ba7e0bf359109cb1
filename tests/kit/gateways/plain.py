"""A small ASGI application without a framework, for tests of the edge itself."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Answer with what was asked, by the last segment of the path; no lifespan."""
    assert scope["type"] == "http"
    name = scope["path"].rpartition("/")[2]
    if name == "block":
        # A gateway that blocks its own loop, as real ones do by mistake.
        time.sleep(2)  # noqa: ASYNC251
    if name == "slow":
        await asyncio.sleep(60)
    if name == "raise":
        raise RuntimeError("raised on purpose")
    described = {
        "path": scope["path"],
        "raw_path": scope["raw_path"].decode("ascii"),
        "root_path": scope["root_path"],
        "method": scope["method"],
        "query_string": scope["query_string"].decode("ascii"),
        "http_version": scope["http_version"],
    }
    body = json.dumps(described).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
