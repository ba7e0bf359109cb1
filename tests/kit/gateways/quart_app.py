"""A Quart application to mount, with the paths of `starlette_app`. `trio_app` is the same on trio."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import AsyncIterator
from typing import Any

import anyio
from quart import Blueprint, Quart, Response, jsonify, make_response, redirect, request, url_for, websocket

from tests.kit.gateways.starlette_app import (
    CHUNK,
    GREETING,
    HERE,
    SUBPROTOCOL,
    TRUSTED_ORIGIN,
    Trailers,
    journal,
    note_lifespan,
    produce_events,
    work_on,
)

pages = Blueprint("pages", __name__)
sub = Blueprint("sub", __name__)


@pages.get("/describe")
async def describe() -> Response:
    scope = request.scope
    names = ("pages.describe", "pages.items", "sub.leaf")
    return jsonify(
        path=scope["path"],
        root_path=scope["root_path"],
        http_version=scope["http_version"],
        greeting=scope["state"]["greeting"],
        urls=[request.url, *(url_for(name, _external=True) for name in names)],
    )


@pages.get("/items/")
async def items() -> Response:
    return jsonify(["an item"])


@sub.get("/leaf")
async def leaf() -> Response:
    return jsonify(root_path=request.root_path + "/sub")


@pages.post("/login")
async def log_in() -> Any:
    response = redirect(url_for("pages.cookies"), 303)
    response.set_cookie("session", "s3cret", path=request.root_path or "/", secure=True, httponly=True)
    response.set_cookie("theme", "dark", path=request.root_path or "/")
    return response


@pages.get("/cookies")
async def cookies() -> Response:
    return jsonify(dict(request.cookies))


@pages.post("/digest")
async def digest() -> Response:
    hashed, size = hashlib.sha256(), 0
    async for chunk in request.body:
        hashed.update(chunk)
        size += len(chunk)
    return jsonify(size=size, sha256=hashed.hexdigest())


@pages.get("/download/<int:chunks>")
async def download(chunks: int) -> Any:
    async def produce() -> AsyncIterator[bytes]:
        for _ in range(chunks):
            yield CHUNK

    headers = {"content-type": "application/octet-stream"}
    if "length" in request.args:
        headers["content-length"] = str(chunks * len(CHUNK))
    return produce(), 200, headers


@pages.post("/refuse")
async def refuse() -> Any:
    return jsonify(error="no key"), 401


@pages.post("/hold/<key>")
async def hold(key: str) -> Any:
    journal.note(key, "started")
    await journal.wait_for(key, "answer")
    return jsonify(error="no key"), 401


async def _stream(produced: AsyncIterator[str]) -> Response:
    response: Any = await make_response(produced, {"content-type": "text/event-stream"})
    response.timeout = None
    return response


@pages.get("/events/<key>")
async def events(key: str) -> Response:
    return await _stream(produce_events(key))


@pages.get("/watch/<key>")
async def watch(key: str) -> str:
    """Quart cancels a handler as soon as it receives the disconnect."""
    journal.note(key, "started")
    try:
        await anyio.sleep_forever()
    finally:
        journal.note(key, "ended")
    return "never sent"


@pages.get("/fail")
async def fail() -> str:
    raise RuntimeError("raised on purpose")


@pages.get("/fail-midway/<key>")
async def fail_midway(key: str) -> Response:
    return await _stream(produce_events(key, fails_after=0))


@pages.get("/exit")
async def leave_process() -> str:
    sys.exit(7)


@pages.get("/status/<int:code>")
async def status(code: int) -> Any:
    return "", code


@pages.get("/large")
async def large() -> Any:
    size = request.args["size"]
    headers = {"x-large": "y" * int(size), "x-seen": str(len(request.headers.get("x-large", "")))}
    return "large", 200, headers


@pages.get("/journal/<key>/<what>")
async def read_journal(key: str, what: str) -> Response:
    return jsonify(await journal.wait_for(key, what))


@pages.post("/journal/<key>/<what>")
async def write_journal(key: str, what: str) -> Any:
    journal.note(key, what)
    return "", 204


@pages.after_app_request
async def allow_origin(response: Any) -> Any:
    if request.headers.get("origin") == TRUSTED_ORIGIN:
        response.headers["access-control-allow-origin"] = TRUSTED_ORIGIN
        response.headers["access-control-allow-headers"] = "x-key"
    return response


@pages.websocket("/talk/<key>")
async def talk(key: str) -> None:
    """Echo; a text "close CODE REASON" closes. Quart tells of a disconnect by cancelling."""
    await websocket.accept(subprotocol=SUBPROTOCOL if SUBPROTOCOL in websocket.requested_subprotocols else None)
    try:
        while True:
            message = await websocket.receive()
            if isinstance(message, str) and message.startswith("close "):
                _, code, reason = message.split(" ", 2)
                await websocket.close(int(code), reason)
                return
            await websocket.send(message)
    finally:
        journal.note(key, "ended")


@pages.websocket("/refuse-to-talk")
async def refuse_to_talk() -> Any:
    return "no", 403


class Below:
    """What Quart has no interface of its own for, as an ASGI layer: lifespan state and trailers."""

    def __init__(self, application: Any) -> None:
        self._application = application
        self._trailers = Trailers()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            scope["state"]["greeting"] = GREETING
        has_trailers = scope["type"] == "http" and scope["path"].endswith("/trailers")
        await (self._trailers if has_trailers else self._application)(scope, receive, send)


def build(framework: type[Quart]) -> Quart:
    """The application, of Quart or of a class derived from it."""
    built = framework(__name__, static_folder=str(HERE), static_url_path="/static")

    @built.post("/background/<key>")
    async def background(key: str) -> Any:
        built.add_background_task(work_on, key, float(request.args["seconds"]))
        return jsonify(["accepted"]), 202

    @built.while_serving
    async def lifespan() -> AsyncIterator[None]:
        note_lifespan("startup")
        yield
        note_lifespan("shutdown")

    built.register_blueprint(pages)
    built.register_blueprint(sub, url_prefix="/sub")
    built.asgi_app = Below(built.asgi_app)  # type: ignore[method-assign]
    return built


app = build(Quart)
