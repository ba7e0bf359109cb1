"""ASGI calls from a caller's side, and the ways between a test on trio and what it tests.

Here: scopes, messages, a caller's plain `receive` and `send`, and an event that any thread may
set. Not here: the edge's own server, which is `exchange`; and applications: each test has its own.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from typing import Any

import trio

from sage_edge.app.asgi import Scope
from sage_edge.core.exchange import Message

WAIT_SECONDS = 20.0
"""Longest wait for something that is to happen; far beyond what a loaded machine needs."""

BODY_PART_BYTES = 64 * 1024


def http_scope(path: str = "/", **others: Any) -> Scope:
    """The scope of a GET over HTTP/2."""
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "2",
        "method": "GET",
        "scheme": "https",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"edge.test")],
        "client": ("192.0.2.1", 50000),
        "server": ("192.0.2.2", 443),
        "state": {},
        "extensions": {},
        **others,
    }


def websocket_scope(path: str = "/", **others: Any) -> Scope:
    """The scope of a WebSocket."""
    scope = http_scope(path, type="websocket", scheme="wss", subprotocols=[], **others)
    del scope["method"]
    return scope


def lifespan_scope() -> Scope:
    """The scope of a lifespan."""
    return {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": {}}


def request(body: bytes = b"", *, more_body: bool = False) -> Message:
    """A part of a request's body."""
    return {"type": "http.request", "body": body, "more_body": more_body}


def large_body(size_bytes: int) -> list[Message]:
    """A request's body in parts."""
    part = bytes(BODY_PART_BYTES)
    count = math.ceil(size_bytes / BODY_PART_BYTES)
    return [request(part, more_body=number < count) for number in range(1, count + 1)]


def response_start(status: int = 200, **others: Any) -> Message:
    """The start of an answer."""
    return {"type": "http.response.start", "status": status, "headers": [], **others}


def response_body(body: bytes = b"", *, more_body: bool = False) -> Message:
    """A part of an answer's body."""
    return {"type": "http.response.body", "body": body, "more_body": more_body}


HTTP_DISCONNECT: Message = {"type": "http.disconnect"}
WEBSOCKET_DISCONNECT: Message = {"type": "websocket.disconnect", "code": 1005}
ANSWER: Sequence[Message] = (response_start(), response_body(b"answer"))


class Answer:
    """What was sent to a client, read and awaited."""

    def __init__(self) -> None:
        self._changed = trio.Event()
        self.sent: list[Message] = []

    @property
    def headers(self) -> dict[str, str]:
        """The answer's headers, by lower-case name."""
        pairs = next(message for message in self.sent if "status" in message)["headers"]
        return {name.decode().lower(): value.decode() for name, value in pairs}

    @property
    def body(self) -> bytes:
        """The answer's body, as far as it was sent."""
        return b"".join(message.get("body", b"") for message in self.sent)

    @property
    def json(self) -> Any:
        """The answer's body, read."""
        return json.loads(self.body)

    @property
    def types(self) -> list[str]:
        """The types of the messages sent."""
        return [message["type"] for message in self.sent]

    def note_sent(self, message: Message) -> None:
        """A message is on its way."""
        self.sent.append(message)
        self._changed.set()
        self._changed = trio.Event()

    async def wait_until(self, is_so: Callable[[], bool]) -> None:
        """Wait for what was sent to make something true."""
        with trio.fail_after(WAIT_SECONDS):
            while not is_so():
                await self._changed.wait()

    async def wait_for(self, count: int) -> None:
        """Wait until so many messages were sent."""
        await self.wait_until(lambda: len(self.sent) >= count)


class Server(Answer):
    """A plain `receive` and `send`, as of a server that knows nothing of the edge.

    Args:
        messages: what the client sends; more can be `put` later.

    Attributes:
        sent: what `send` has passed on to the client.
    """

    def __init__(self, *messages: Message) -> None:
        super().__init__()
        self._put, self._take = trio.open_memory_channel[Message](math.inf)
        self._may_send = trio.Event()
        self.unblock()
        self.put(*messages)

    @property
    def status(self) -> int:
        """The answer's status."""
        return int(next(message for message in self.sent if "status" in message)["status"])

    def put(self, *messages: Message) -> None:
        """Let the client send."""
        for message in messages:
            self._put.send_nowait(message)

    def block(self) -> None:
        """Stop passing on what is sent, as to a client that does not read."""
        self._may_send = trio.Event()

    def unblock(self) -> None:
        """Go on passing on what is sent."""
        self._may_send.set()

    async def receive(self) -> Message:
        """The server's `receive`."""
        return await self._take.receive()

    async def send(self, message: Message) -> None:
        """The server's `send`."""
        await self._may_send.wait()
        self.note_sent(message)


class Signal:
    """An event that any thread may set and a test on trio awaits."""

    def __init__(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._event = trio.Event()

    @property
    def is_set(self) -> bool:
        """Whether it has arrived here."""
        return self._event.is_set()

    def set(self) -> None:
        """Wake those who wait."""
        self._token.run_sync_soon(self._event.set)

    async def wait(self) -> None:
        """Return once it was set."""
        with trio.fail_after(WAIT_SECONDS):
            await self._event.wait()
