"""A gateway that does what no gateway should, by the path that is asked for; `/count/{how many}` is a sound stream."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from typing import Any

PAUSE_SECONDS = 0.02

leaked: list[asyncio.Task[None]] = []
eaten: list[bytes] = []


def numbers(count: int) -> bytes:
    """The whole body of `/count/{count}`."""
    return b"".join(b"%d\n" % number for number in range(count))


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    _, fault, *rest = scope["path"].split("/")
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-pid", b"%d" % os.getpid())]})
    if fault == "count":
        for number in range(int(rest[0])):
            await send({"type": "http.response.body", "body": b"%d\n" % number, "more_body": True})
            await asyncio.sleep(PAUSE_SECONDS)
    elif fault:
        await commit(fault)
    await send({"type": "http.response.body", "body": b""})


async def commit(fault: str) -> None:
    """A fault by its name."""
    loop = asyncio.get_running_loop()
    match fault:
        case "exit":
            sys.exit("no licence")
        case "interrupt":
            raise KeyboardInterrupt
        case "exit-in-callback":
            loop.call_soon(sys.exit, 1)
        case "exit-in-task":
            leaked.append(asyncio.create_task(leave()))
        case "stop-loop":
            loop.stop()
        case "close-loop":
            loop.close()
        case "block":
            while True:
                time.sleep(1)  # noqa: ASYNC251
        case "leak":
            leaked.extend(asyncio.create_task(asyncio.sleep(3600)) for _ in range(1000))
        case "eat":
            eaten.append(b"x" * 200_000_000)
        case "ignore-cancellation":
            while True:
                try:
                    await asyncio.sleep(3600)
                except asyncio.CancelledError:
                    continue


async def leave() -> None:
    sys.exit("no licence")
