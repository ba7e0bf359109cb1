"""What a stream has received and its application not yet taken, and the task that runs the application.

In place of Hypercorn's channel of ten messages, in which the connection's read loop waits for an
application: over HTTP/2 that stops every other stream, PING and RST_STREAM (trap 3).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

import trio
from hypercorn.config import Config
from hypercorn.trio.task_group import TaskGroup, _handle
from hypercorn.typing import AppWrapper, ASGIReceiveEvent, ASGISendEvent, Scope

from sage_edge.app.exchange import CLIENT_GONE
from sage_edge.core.exchange import message_cost_bytes

HIGH_WATER_BYTES = 64 * 1024
LOW_WATER_BYTES = HIGH_WATER_BYTES // 2


class StreamInbox:
    """Messages for one application, in order.

    Args:
        does_wait: whether `put` waits while it is full. Over HTTP/1.1 that holds the client back; over
            HTTP/2 flow control does, and nobody waits.
    """

    def __init__(self, *, does_wait: bool) -> None:
        self._does_wait = does_wait
        self._messages: deque[Any] = deque()
        self._size_bytes = 0
        self._has_ended = False
        self._changed = trio.Event()
        self.client_gone = trio.Event()
        """Set when the stream has ended, whatever still waits to be taken."""
        self.on_room: Callable[[], None] | None = None
        """Called once, when there is room again after `is_full` was True. It must not wait: an application's
        `receive` may be cancelled at any time, and the connection's bytes must not be lost with it."""

    @property
    def is_full(self) -> bool:
        """Whether more than the high-water mark is waiting for an application that still runs."""
        return self._size_bytes > HIGH_WATER_BYTES and not self._has_ended

    async def put(self, message: Any) -> None:
        """Add a message; dropped once the application has ended. The end of a stream waits for nobody."""
        is_end = message["type"].endswith(".disconnect")
        if is_end:
            self.client_gone.set()
        while self._does_wait and self.is_full and not is_end:
            await self._changed.wait()
        if not self._has_ended:
            self._messages.append(message)
            self._size_bytes += message_cost_bytes(message)
            self._wake()

    async def get(self) -> Any:
        """Take the oldest message, waiting for it. The application's `receive`."""
        while not self._messages:
            await self._changed.wait()
        was_above = self._size_bytes > LOW_WATER_BYTES
        message = self._messages.popleft()
        self._size_bytes -= message_cost_bytes(message)
        if was_above and self._size_bytes <= LOW_WATER_BYTES:
            self._make_room()
        return message

    def end(self) -> None:
        """The application has ended: whoever waits for room goes on."""
        self._has_ended = True
        self._messages.clear()
        self._size_bytes = 0
        self._make_room()

    def _make_room(self) -> None:
        self._wake()
        on_room, self.on_room = self.on_room, None
        if on_room is not None:
            on_room()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()


class EdgeTaskGroup(TaskGroup):
    """Hypercorn's task group, giving each application a `StreamInbox`.

    Args:
        does_put_wait: for the inboxes; looked at when one is made, since a connection without TLS may
            turn out to speak HTTP/2.
    """

    def __init__(self, does_put_wait: Callable[[], bool]) -> None:
        super().__init__()
        self._does_put_wait = does_put_wait

    async def spawn_app(
        self,
        app: AppWrapper,
        config: Config,
        scope: Scope,
        send: Callable[[ASGISendEvent | None], Awaitable[None]],
    ) -> Callable[[ASGIReceiveEvent], Awaitable[None]]:
        """Run an application; what is returned puts a message into its inbox."""
        inbox = StreamInbox(does_wait=self._does_put_wait())
        # `send` is a method of Hypercorn's stream, which protocols find by its number.
        stream: Any = getattr(send, "__self__")  # noqa: B009  # a callable's type does not have it
        stream.inbox = inbox
        if scope["type"] == "http":
            scope["extensions"][CLIENT_GONE] = inbox.client_gone  # type: ignore[assignment]
        self._nursery.start_soon(self._run, inbox, app, config, scope, send)  # type: ignore[union-attr]
        return inbox.put

    async def _run(self, inbox: StreamInbox, app: AppWrapper, config: Config, scope: Scope, send: Any) -> None:
        try:
            await _handle(app, config, scope, inbox.get, send, trio.to_thread.run_sync, trio.from_thread.run)
        finally:
            inbox.end()
