"""The ASGI types and small answers that every layer shares. No logic of a layer of its own."""

from __future__ import annotations

import inspect
import json
from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus
from typing import Any

from sage_edge.core.exchange import Message

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApplication = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = Sequence[tuple[bytes, bytes]]


def find_header(scope: Scope, name: bytes) -> bytes | None:
    """The first header of that lower-case name."""
    return next((value for key, value in scope["headers"] if key.lower() == name), None)


class NotAwaitableError(TypeError):
    """An application returned from its call something that cannot be awaited: it is not ASGI 3."""


def call_application(application: ASGIApplication, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
    """Call an application that a user named; what it returns is to be awaited.

    Raises:
        NotAwaitableError: it is a plain function, or something else that is not ASGI 3.
    """
    result: object = application(scope, receive, send)
    if not inspect.isawaitable(result):
        raise NotAwaitableError("it is not an asynchronous function")
    return result


def contain(error: BaseException) -> Exception:
    """What an application's call ended with, as an error of its request alone.

    A SystemExit, bare or in a task group's exception group, ends its request and nothing else.
    """
    if isinstance(error, Exception):
        return error
    contained = RuntimeError(f"the gateway raised {error!r}")
    contained.__cause__ = error
    return contained


def name_client(client: tuple[str, int] | None) -> str:
    """The address as log lines have it; "-" for a Unix socket's."""
    return client[0] if client else "-"


def error_answer(status: HTTPStatus, detail: str, headers: Headers = ()) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """The fields and the body that an error is answered with: JSON, in the shape that OpenAI's clients read.

    Args:
        status: of the answer.
        detail: one sentence for the client.
        headers: more fields.
    """
    error = {"message": detail, "type": status.phrase.lower().replace(" ", "_"), "code": status.value}
    body = json.dumps({"error": error}).encode()
    fields = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", b"no-store"),
        *headers,
    ]
    return fields, body


async def send_error(scope: Scope, send: Send, status: HTTPStatus, detail: str, headers: Headers = ()) -> None:
    """Answer with an error.

    A WebSocket is refused before it is accepted: with the same answer where the server can send
    one (ASGI extension "WebSocket Denial Response"), otherwise with a close, which is a 403.
    """
    prefix = "http"
    if scope["type"] == "websocket":
        if "websocket.http.response" not in scope.get("extensions", {}):
            await send({"type": "websocket.close", "code": 1008})
            return
        prefix = "websocket.http"
    fields, body = error_answer(status, detail, headers)
    await send({"type": f"{prefix}.response.start", "status": status.value, "headers": fields})
    await send({"type": f"{prefix}.response.body", "body": body})
