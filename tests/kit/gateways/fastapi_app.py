"""A FastAPI application to mount, with the paths of `starlette_app`, in FastAPI's own manner where it has one."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Annotated

import anyio
from fastapi import BackgroundTasks, Depends, FastAPI, Header, HTTPException, Request, Response, WebSocket
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse, StreamingResponse
from fastapi.sse import EventSourceResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel

from tests.kit.gateways import starlette_app
from tests.kit.gateways.starlette_app import CORS, HERE, journal, lifespan

app = FastAPI(title="A gateway", lifespan=lifespan)
app.add_middleware(CORSMiddleware, **CORS)


class Sum(BaseModel):
    left: int
    right: int


@app.post("/sum")
async def add(numbers: Sum) -> dict[str, int]:
    return {"sum": numbers.left + numbers.right}


@app.get("/items/")
def items() -> list[str]:
    """A plain function: FastAPI runs it in a thread."""
    return ["an item"]


def require_key(x_key: Annotated[str | None, Header()] = None) -> None:
    if x_key != "s3cret":
        raise HTTPException(401, "no key")


@app.post("/refuse", dependencies=[Depends(require_key)])
async def refuse(request: Request) -> dict[str, int]:
    return {"size": len(await request.body())}


@app.get("/events/{key}", response_class=EventSourceResponse)
async def events(key: str) -> AsyncIterator[int]:
    async for event in starlette_app.produce_events(key):
        yield int(event.split()[1])


@app.post("/background/{key}", status_code=202)
async def background(key: str, seconds: float, tasks: BackgroundTasks) -> list[str]:
    tasks.add_task(starlette_app.work_on, key, seconds)
    return ["accepted"]


async def open_resource(key: str) -> AsyncIterator[str]:
    """A dependency with a clean-up."""
    try:
        yield key
    finally:
        journal.note(key, "resource closed")


@app.get("/polled")
async def polled(request: Request) -> Response:
    return await starlette_app.polled(request)


@app.get("/watch/{key}")
async def watch(request: Request, key: Annotated[str, Depends(open_resource)]) -> None:
    await starlette_app.watch(request)


@app.get("/fail")
async def fail() -> None:
    raise RuntimeError("raised on purpose")


@app.get("/fail-handled")
async def fail_handled() -> None:
    raise LookupError("raised on purpose")


@app.exception_handler(LookupError)
async def explain(request: Request, error: LookupError) -> JSONResponse:
    return JSONResponse({"error": {"message": str(error)}}, status_code=500)


@app.get("/exit")
async def leave_process() -> None:
    sys.exit(7)


@app.get("/exit-in-thread")
def leave_thread() -> None:
    sys.exit(7)


@app.websocket("/talk/{key}")
async def talk(websocket: WebSocket, key: str) -> None:
    await starlette_app.talk(websocket)


sub = FastAPI(title="A sub-application")


@sub.middleware("http")
async def mark(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    """Starlette's BaseHTTPMiddleware: it runs what is below in a task of its own."""
    response = await call_next(request)
    response.headers["x-marked"] = "yes"
    return response


@sub.get("/leaf", name="leaf")
async def leaf(request: Request) -> dict[str, str]:
    return {"root_path": request.scope["root_path"]}


@sub.get("/events/{key}")
async def marked_events(key: str) -> StreamingResponse:
    return StreamingResponse(starlette_app.produce_events(key), media_type="text/event-stream")


@sub.get("/wait/{key}")
async def wait(key: str) -> None:
    journal.note(key, "started")
    try:
        await anyio.sleep_forever()
    finally:
        journal.note(key, "ended")


@sub.get("/exit")
async def leave_process_below() -> None:
    sys.exit(7)


app.mount("/static", StaticFiles(directory=HERE), name="static")
app.mount("/sub", sub, name="sub")
own_paths = {getattr(route, "path", "") for route in app.routes}
app.router.routes.extend(route for route in starlette_app.ROUTES if route.path not in own_paths)
