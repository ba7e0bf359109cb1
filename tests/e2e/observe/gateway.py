"""A gateway whose event streams count what they sent: `/events/{how many}`, `/sent/{request id}`, `/scope`, `/fail`.

At `/hold` it keeps the interpreter's lock, as a regular expression does; `/log/{size}` logs a line of that length. At
`/hang/head` and `/hang/first_event` it hangs, before that of its answer. A WebSocket at `/flood/{how many}` sends so
many messages of one byte and, once it is sent one, more of them without end.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import logging
from contextlib import suppress
from typing import Any

EVENT = b"data: " + b"x" * 1000 + b"\n\n"
STREAM = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]}
PAUSE_SECONDS = 0.002
ENDLESS = 1_000_000
HELD_SECONDS = 1.5

sent: dict[str, int] = {}


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    headers = {name.decode(): value.decode("latin-1") for name, value in scope["headers"]}
    _, kind, *rest = scope["path"].split("/")
    if kind == "flood":
        await flood(receive, send, int(rest[0]))
        return
    if kind == "events":
        await stream(send, headers["x-request-id"], int(rest[0]))
        return
    if kind == "hang":
        if rest == ["first_event"]:
            await send(STREAM)
        await asyncio.sleep(3600)
    if kind == "fail":
        raise RuntimeError("on purpose")
    if kind == "hold":
        ctypes.PyDLL(None).usleep(int(HELD_SECONDS * 1e6))
    if kind == "log":
        logging.getLogger("gateway").info("x" * int(rest[0]))
    if kind == "sent":
        answer: Any = sent[rest[0]]
    else:
        answer = {"client": scope["client"], "server": scope["server"], "scheme": scope["scheme"], "headers": headers}
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": json.dumps(answer).encode()})


async def flood(receive: Any, send: Any, count: int) -> None:
    message = {"type": "websocket.send", "bytes": b"x"}
    assert (await receive())["type"] == "websocket.connect"
    await send({"type": "websocket.accept"})
    for _ in range(count):
        await send(message)
    await receive()
    with suppress(OSError):  # the client has left
        while True:
            await send(message)


async def stream(send: Any, request_id: str, count: int) -> None:
    await send(STREAM)
    sent[request_id] = 0
    for _ in range(count):
        await send({"type": "http.response.body", "body": EVENT, "more_body": True})
        sent[request_id] += 1
        await asyncio.sleep(PAUSE_SECONDS)
    await send({"type": "http.response.body", "body": b""})
