"""The gateway of these tests: does by its path what a trap needs. Runs on asyncio and on trio."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

import anyio
import anyio.lowlevel
from starlette.requests import Request

FINISH = Path("finish")
"""Once this file is there, answers in flight come to their end."""

counts = {"sent": 0, "running": 0}
seen: list[str] = []


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Answer."""
    if scope["type"] == "lifespan":
        await live(receive, send)
    elif scope["type"] == "websocket":
        await converse(receive, send)
    else:
        first, _, rest = scope["path"].removeprefix(scope["root_path"])[1:].partition("/")
        counts["running"] += 1
        try:
            await globals()[f"answer_{first}"](scope, receive, send, rest)
        finally:
            counts["running"] -= 1


async def live(receive: Any, send: Any) -> None:
    """Start and stop."""
    while (await receive())["type"] == "lifespan.startup":
        await send({"type": "lifespan.startup.complete"})
    await send({"type": "lifespan.shutdown.complete"})


async def converse(receive: Any, send: Any) -> None:
    """Send the first message back, then close."""
    await receive()
    await send({"type": "websocket.accept"})
    message = await receive()
    if message["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": message["text"]})
        await send({"type": "websocket.close"})


async def answer(send: Any, body: bytes, status: int = 200, headers: Any = ()) -> None:
    """A whole answer."""
    await start(send, status, [(b"content-length", str(len(body)).encode()), *headers])
    await send({"type": "http.response.body", "body": body})


async def start(send: Any, status: int = 200, headers: Any = ()) -> None:
    """The head of an answer."""
    await send({"type": "http.response.start", "status": status, "headers": list(headers)})


async def send_part(send: Any, body: bytes) -> None:
    """A piece of an answer."""
    await send({"type": "http.response.body", "body": body, "more_body": True})


async def finish() -> None:
    """Wait for the tests to say so."""
    while not await anyio.Path(FINISH).exists():  # noqa: ASYNC110  # the test is another process
        await anyio.sleep(0.01)


async def answer_ok(scope: Any, receive: Any, send: Any, rest: str) -> None:
    """200."""
    await answer(send, b"ok")


async def answer_status(scope: Any, receive: Any, send: Any, rest: str) -> None:
    """Any status, at once: nothing of the request's body is read."""
    await answer(send, b"", int(rest))


async def answer_scope(scope: Any, receive: Any, send: Any, rest: str) -> None:
    """How the request was understood."""
    await answer(send, json.dumps({"method": scope["method"], "path": scope["path"]}).encode())


async def answer_length(scope: Any, receive: Any, send: Any, rest: str) -> None:
    """The length of the request's body."""
    size, has_more = 0, True
    while has_more:
        message = await receive()
        size, has_more = size + len(message.get("body", b"")), message.get("more_body", False)
    await answer(send, str(size).encode())


async def answer_hold(scope: Any, receive: Any, send: Any, rest: str) -> None:
    """Read nothing and answer late, in one piece."""
    await finish()
    await answer(send, b"held")


async def answer_stream(scope: Any, receive: Any, send: Any, rest: str) -> None:
    """An answer whose end comes late and alone, as event streams end."""
    await start(send)
    await send_part(send, b"all")
    await finish()
    await send({"type": "http.response.body", "body": b""})


async def answer_ticks(scope: Any, receive: Any, send: Any, rest: str) -> None:
    """An answer without an end."""
    await start(send)
    while True:
        await send_part(send, b"tick ")
        await anyio.sleep(0.005)


async def answer_flood(scope: Any, receive: Any, send: Any, rest: str) -> None:
    """An answer of 64 MB, as fast as it is taken."""
    await start(send)
    for _ in range(4000):
        await send_part(send, bytes(16_384))
        counts["sent"] += 16_384
        await anyio.lowlevel.checkpoint()
    await finish()


async def answer_counts(scope: Any, receive: Any, send: Any, rest: str) -> None:
    """How many bytes were sent, and how many requests are running beside this one."""
    await answer(send, json.dumps({**counts, "running": counts["running"] - 1, "seen": seen}).encode())


async def answer_sized(scope: Any, receive: Any, send: Any, rest: str) -> None:
    """An answer of so many pieces of 1,000 bytes."""
    await start(send)
    for _ in range(int(rest)):
        await send_part(send, bytes(1000))
    await send({"type": "http.response.body", "body": b""})


async def answer_process(scope: Any, receive: Any, send: Any, rest: str) -> None:
    """Which process answers."""
    await answer(send, str(os.getpid()).encode())


async def answer_raise(scope: Any, receive: Any, send: Any, rest: str) -> None:
    """Raise in the middle of an answer."""
    await start(send)
    await send_part(send, b"part")
    raise RuntimeError("raised on purpose")


async def answer_return(scope: Any, receive: Any, send: Any, rest: str) -> None:
    """Return in the middle of an answer."""
    await start(send)
    await send_part(send, b"part")


async def answer_exit(scope: Any, receive: Any, send: Any, rest: str) -> None:
    """Try to end the process."""
    raise SystemExit(3)


async def answer_header(scope: Any, receive: Any, send: Any, rest: str) -> None:
    """Answer with a field from the query: name=value."""
    name, _, value = unquote_to_bytes(scope["query_string"]).partition(b"=")
    await answer(send, b"ok", headers=[(name, value)])


async def answer_watch(scope: Any, receive: Any, send: Any, rest: str) -> None:
    """Answer while watching for a disconnect, which cancels the answer, as Quart and Starlette do."""
    async with anyio.create_task_group() as tasks:

        async def watch() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            tasks.cancel_scope.cancel()

        tasks.start_soon(watch)
        await start(send)
        await send_part(send, b"watched")
        await send({"type": "http.response.body", "body": b""})
        tasks.cancel_scope.cancel()


async def answer_leave(scope: Any, receive: Any, send: Any, rest: str) -> None:
    """Note that the client has left."""
    await start(send)
    await send_part(send, b"here")
    while (await receive())["type"] != "http.disconnect":
        pass
    seen.append("left")


async def answer_poll(scope: Any, receive: Any, send: Any, rest: str) -> None:
    """Note that the client has left, as applications for Starlette find out."""
    await start(send)
    await send_part(send, b"here")
    request = Request(scope, receive)
    while not await request.is_disconnected():  # noqa: ASYNC110  # that is how they ask
        await anyio.sleep(0.01)
    seen.append("left")


async def answer_push(scope: Any, receive: Any, send: Any, rest: str) -> None:
    """Note that what is sent has nobody to take it."""
    await start(send)
    try:
        while True:
            await send_part(send, b"here")
            await anyio.sleep(0.01)
    except OSError:
        seen.append("left")
