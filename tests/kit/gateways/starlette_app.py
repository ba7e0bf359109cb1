"""A Starlette application to mount: every behaviour that the mount tests ask for. Runs on asyncio and on trio.

The other frameworks' applications offer the same paths. A path with a `{key}` writes what happens to it into the
journal, which a test reads with `GET /journal/{key}/{what}` (answered once `what` has happened) and writes with
`POST`, so that test and application wait for each other and never for a clock.
"""

from __future__ import annotations

import hashlib
import os
import sys
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import anyio
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocket, WebSocketDisconnect

HERE = Path(__file__).parent
CHUNK = bytes(range(256)) * 256
GREETING = "hello from the lifespan"
SUBPROTOCOL = "chat.v2"
TRUSTED_ORIGIN = "https://ui.example"
CORS = {"allow_origins": [TRUSTED_ORIGIN], "allow_methods": ["GET", "POST"], "allow_headers": ["x-key"]}


class Journal:
    """What happened, by key, in order and with the time."""

    def __init__(self) -> None:
        self._notes: defaultdict[str, list[tuple[str, float]]] = defaultdict(list)
        self._changed = anyio.Event()

    def note(self, key: str, what: str) -> None:
        """Write that something happened."""
        self._notes[key].append((what, time.monotonic()))
        changed, self._changed = self._changed, anyio.Event()
        changed.set()

    async def wait_for(self, key: str, what: str) -> list[tuple[str, float]]:
        """All notes of a key, once `what` is among them."""
        while what not in dict(self._notes[key]):
            await self._changed.wait()
        return self._notes[key]


journal = Journal()


def note_lifespan(what: str) -> None:
    """Write a line into the file that the test named; it outlives this process."""
    if path := os.environ.get("MOUNT_TEST_LIFESPAN_FILE"):
        with Path(path).open("a") as file:
            file.write(what + "\n")


@asynccontextmanager
async def lifespan(app: Any) -> AsyncIterator[dict[str, str]]:
    note_lifespan("startup")
    yield {"greeting": GREETING}
    note_lifespan("shutdown")


async def describe(request: Request) -> Response:
    names = ("describe", "items", "sub:leaf")
    return JSONResponse(
        {
            "path": request.scope["path"],
            "root_path": request.scope["root_path"],
            "http_version": request.scope["http_version"],
            "greeting": request.state.greeting,
            "urls": [str(request.url), *(str(request.url_for(name)) for name in names)],
        }
    )


async def items(request: Request) -> Response:
    return JSONResponse(["an item"])


async def leaf(request: Request) -> Response:
    return JSONResponse({"root_path": request.scope["root_path"]})


async def log_in(request: Request) -> Response:
    response = RedirectResponse(request.url_for("cookies"), status_code=303)
    response.set_cookie("session", "s3cret", path=request.scope["root_path"] or "/", secure=True, httponly=True)
    response.set_cookie("theme", "dark", path=request.scope["root_path"] or "/")
    return response


async def cookies(request: Request) -> Response:
    return JSONResponse(request.cookies)


async def digest(request: Request) -> Response:
    hashed, size = hashlib.sha256(), 0
    async for chunk in request.stream():
        hashed.update(chunk)
        size += len(chunk)
    return JSONResponse({"size": size, "sha256": hashed.hexdigest()})


async def download(request: Request) -> Response:
    chunks = request.path_params["chunks"]

    async def produce() -> AsyncIterator[bytes]:
        for _ in range(chunks):
            yield CHUNK

    headers = {"content-length": str(chunks * len(CHUNK))} if "length" in request.query_params else {}
    return StreamingResponse(produce(), headers=headers, media_type="application/octet-stream")


async def refuse(request: Request) -> Response:
    return JSONResponse({"error": "no key"}, status_code=401)


async def hold(request: Request) -> Response:
    """Refuse too, unread, but only once the test says so."""
    key = request.path_params["key"]
    journal.note(key, "started")
    await journal.wait_for(key, "answer")
    return JSONResponse({"error": "no key"}, status_code=401)


class Trailers:
    """Answers with trailers where they can be sent, as an ASGI application: no framework has an interface for them."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        has_trailers = "http.response.trailers" in scope["extensions"]
        headers = [(b"content-type", b"text/plain"), (b"trailer", b"x-checksum")]
        await send({"type": "http.response.start", "status": 200, "headers": headers, "trailers": has_trailers})
        await send({"type": "http.response.body", "body": b"the body", "more_body": True})
        await send({"type": "http.response.body", "body": b""})
        if has_trailers:
            await send({"type": "http.response.trailers", "headers": [(b"x-checksum", b"abc")]})


POLLED_EVENTS = 2000
EVENT_TEXT = "x" * 200


async def produce_events(key: str, fails_after: int | None = None) -> AsyncIterator[str]:
    """Events, each one only after the client has said that it saw the one before."""
    try:
        for number in count():
            yield f"data: {number}\n\n"
            await journal.wait_for(key, f"seen {number}")
            if number == fails_after:
                raise RuntimeError("raised in mid-stream, on purpose")
    finally:
        journal.note(key, "ended")


async def events(request: Request) -> Response:
    return StreamingResponse(produce_events(request.path_params["key"]), media_type="text/event-stream")


async def polled(request: Request) -> Response:
    """Many events at once, with a look before each whether the client is still there."""

    async def produce() -> AsyncIterator[str]:
        for number in range(POLLED_EVENTS):
            assert not await request.is_disconnected()
            yield f"data: {number} {EVENT_TEXT}\n\n"

    return StreamingResponse(produce(), media_type="text/event-stream")


async def watch(request: Request) -> Response:
    key = request.path_params["key"]
    journal.note(key, "started")
    try:
        while not await request.is_disconnected():  # noqa: ASYNC110  # it can only be asked
            await anyio.sleep(0.005)
        journal.note(key, "disconnected")
        await anyio.sleep_forever()
    finally:
        journal.note(key, "ended")
    return PlainTextResponse("never sent")


async def work_on(key: str, seconds: float) -> None:
    """Background work: it begins when the test says so and then takes its time."""
    journal.note(key, "begun")
    await journal.wait_for(key, "client has left")
    await anyio.sleep(seconds)
    journal.note(key, "finished")


async def background(request: Request) -> Response:
    seconds = float(request.query_params["seconds"])
    return JSONResponse(["accepted"], 202, background=BackgroundTask(work_on, request.path_params["key"], seconds))


async def fail(request: Request) -> Response:
    raise RuntimeError("raised on purpose")


async def fail_midway(request: Request) -> Response:
    return StreamingResponse(produce_events(request.path_params["key"], fails_after=0), media_type="text/event-stream")


async def leave_process(request: Request) -> Response:
    sys.exit(7)


async def status(request: Request) -> Response:
    return Response(status_code=request.path_params["code"])


async def large(request: Request) -> Response:
    size = int(request.query_params["size"])
    headers = {"x-large": "y" * size, "x-seen": str(len(request.headers.get("x-large", "")))}
    return PlainTextResponse("large", headers=headers)


async def read_journal(request: Request) -> Response:
    return JSONResponse(await journal.wait_for(request.path_params["key"], request.path_params["what"]))


async def write_journal(request: Request) -> Response:
    journal.note(request.path_params["key"], request.path_params["what"])
    return Response(status_code=204)


async def talk(websocket: WebSocket) -> None:
    """Echo; a text "close CODE REASON" closes."""
    key = websocket.path_params["key"]
    await websocket.accept(SUBPROTOCOL if SUBPROTOCOL in websocket.scope["subprotocols"] else None)
    try:
        while (message := await websocket.receive())["type"] != "websocket.disconnect":
            text = message.get("text")
            if text is None:
                await websocket.send_bytes(message["bytes"])
            elif text.startswith("close "):
                _, code, reason = text.split(" ", 2)
                await websocket.close(int(code), reason)
                return
            else:
                await websocket.send_text(text)
        journal.note(key, f"disconnect {message['code']} {message.get('reason') or ''}".strip())
    except WebSocketDisconnect as left:
        journal.note(key, f"disconnect {left.code}")
    finally:
        journal.note(key, "ended")


async def refuse_to_talk(websocket: WebSocket) -> None:
    await websocket.close(1008)


ROUTES = [
    Route("/describe", describe),
    Route("/items/", items),
    Route("/login", log_in, methods=["POST"]),
    Route("/cookies", cookies),
    Route("/digest", digest, methods=["POST"]),
    Route("/download/{chunks:int}", download),
    Route("/refuse", refuse, methods=["POST"]),
    Route("/hold/{key}", hold, methods=["POST"]),
    Route("/trailers", Trailers()),
    Route("/events/{key}", events),
    Route("/polled", polled),
    Route("/watch/{key}", watch),
    Route("/background/{key}", background, methods=["POST"]),
    Route("/fail", fail),
    Route("/fail-midway/{key}", fail_midway),
    Route("/exit", leave_process),
    Route("/status/{code:int}", status),
    Route("/large", large),
    Route("/journal/{key}/{what}", read_journal),
    Route("/journal/{key}/{what}", write_journal, methods=["POST"]),
    WebSocketRoute("/talk/{key}", talk),
    WebSocketRoute("/refuse-to-talk", refuse_to_talk),
    Mount("/static", StaticFiles(directory=HERE), name="static"),
    Mount("/sub", routes=[Route("/leaf", leaf, name="leaf")], name="sub"),
]
app = Starlette(
    routes=ROUTES,
    middleware=[Middleware(CORSMiddleware, **CORS)],
    lifespan=lifespan,
)
