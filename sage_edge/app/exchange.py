"""One call of an application, cut in two: a half beside the server, a half beside the application.

The server's half runs on trio and is the only one that calls the server's `receive` and `send`,
so nothing that an application does to its own tasks (a cancel scope around `send`, a task group
that ends at a disconnect) reaches the server's. The application's half runs wherever the
application does: in the same loop, or in a gateway's own (`app.bridge`). The halves share no
state; they post to each other, in order, and bound what is under way with windows of credit.

Cancel-through, when the client goes away: (1) the application receives the disconnect at once,
(2) its `send` raises OSError, (3) it is cancelled if it still runs after a grace period.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

import structlog
import trio

from sage_edge.app.asgi import NotAwaitableError, Receive, Scope, Send
from sage_edge.core.exchange import (
    ClientDisconnectedError,
    Inbox,
    LifespanUnsupportedError,
    Message,
    ReceiveWindow,
    ResponseProgress,
    SendWindow,
    message_cost_bytes,
)

log = structlog.get_logger(__name__)

Post = Callable[..., None]
"""`post(function, *arguments)`: run it on the other side, in order, without waiting."""

CLIENT_GONE = "sage_edge.client_gone"
"""The key in a scope's extensions of the event that `ServerHalf.pump` takes. Not for applications."""

ABANDON_SECONDS = 5.0
"""How long a cancelled application is waited for before its request is given up."""


def take_client_gone(scope: Scope) -> tuple[Scope, trio.Event | None]:
    """The scope as the application may see it, and the server's event."""
    extensions = dict(scope.get("extensions") or {})
    client_gone = extensions.pop(CLIENT_GONE, None)
    return (scope, None) if client_gone is None else ({**scope, "extensions": extensions}, client_gone)


def contain(error: BaseException) -> Exception:
    """What an application's call ended with, as an error of its request alone.

    A SystemExit, bare or in a task group's exception group, ends its request and nothing else.
    """
    if isinstance(error, Exception):
        return error
    contained = RuntimeError(f"the gateway raised {error!r}")
    contained.__cause__ = error
    return contained


class Event(Protocol):
    """What `trio.Event` and `asyncio.Event` have in common."""

    def set(self) -> None:
        """Wake those who wait."""

    async def wait(self) -> Any:
        """Return once it was set."""


class ApplicationHalf:
    """The half beside the application: its `receive` and `send`.

    Args:
        post_to_server: runs a function beside the server.
        event_class: `trio.Event` or `asyncio.Event`, by where the application runs.
    """

    def __init__(self, post_to_server: Post, event_class: Callable[[], Event]) -> None:
        self._post = post_to_server
        self._new_event = event_class
        self._inbox = Inbox()
        self._consumed = ReceiveWindow()
        self._under_way = SendWindow()
        self._progress = ResponseProgress()
        self._changed: Event | None = None
        self._has_asked = False
        self.server: ServerHalf

    @property
    def is_abandoned(self) -> bool:
        """Whether the client left before it had the whole answer."""
        return self._inbox.is_disconnected and not self._progress.is_delivered

    async def receive(self) -> Message:
        """The application's `receive`."""
        self._has_asked = True
        while not self._inbox.has_message:
            await self._wait()
        message = self._inbox.take()
        if credit_bytes := self._consumed.consume(message_cost_bytes(message)):
            self._post(self.server.restore, credit_bytes)
        return message

    async def send(self, message: Message) -> None:
        """The application's `send`.

        Raises:
            ClientDisconnectedError: an OSError, as ASGI asks for: the client has gone.
            UnexpectedMessageError: the message is out of order.
        """
        if self.is_abandoned:
            raise ClientDisconnectedError
        # Again at the next message, where the application gave up waiting after the last.
        await self._wait_for_window()
        self._progress.note(message)
        self._under_way.spend(message_cost_bytes(message))
        # A copy, because the application may fill its message anew while this one is on its way.
        self._post(self.server.emit, message.copy())
        await self._wait_for_window()

    def end(self, error: Exception | None) -> None:
        """The application has returned, or raised `error`."""
        self._post(self.server.end, error, self._has_asked)

    def deliver(self, message: Message) -> None:
        """Take a message from the client."""
        self._inbox.put(message)
        self._wake()

    def restore(self, credit_bytes: int) -> None:
        """Take credit for messages that the server has sent."""
        self._under_way.restore(credit_bytes)
        self._wake()

    async def _wait_for_window(self) -> None:
        while self._under_way.is_exhausted:
            await self._wait()
            if self.is_abandoned:
                raise ClientDisconnectedError

    async def _wait(self) -> None:
        if self._changed is None:
            self._changed = self._new_event()
        await self._changed.wait()

    def _wake(self) -> None:
        changed, self._changed = self._changed, None
        if changed is not None:
            changed.set()


class ServerHalf:
    """The half beside the server: carries messages both ways until the application has ended.

    Args:
        post_to_application: runs a function beside the application.
        application: the other half.
        cancel: cancels the application; called beside it.
        grace_seconds: how long the application may go on after the client left.
    """

    def __init__(
        self,
        post_to_application: Post,
        application: ApplicationHalf,
        cancel: Callable[[], None],
        grace_seconds: float,
    ) -> None:
        self._post = post_to_application
        self._application = application
        self._cancel = cancel
        self._grace_seconds = grace_seconds
        self._under_way = SendWindow()
        self._consumed = ReceiveWindow()
        self._outbox: deque[Message] = deque()
        self._progress = ResponseProgress()
        self._is_client_gone = False
        self._has_ended = False
        self._has_asked = False
        self._error: Exception | None = None
        self._wake_sender = trio.Event()
        self._wake_receiver = trio.Event()
        application.server = self

    def emit(self, message: Message) -> None:
        """Take a message from the application."""
        self._progress.note(message)
        self._outbox.append(message)
        self._wake_sender.set()

    def restore(self, credit_bytes: int) -> None:
        """Take credit for messages that the application has received."""
        self._under_way.restore(credit_bytes)
        self._wake_receiver.set()

    def end(self, error: Exception | None, has_asked: bool) -> None:
        """The application has returned, or raised `error`; whether it ever called `receive`."""
        self._has_ended = True
        self._has_asked = has_asked
        self._error = error
        self._wake_sender.set()

    async def pump(self, receive: Receive, send: Send, client_gone: trio.Event | None = None) -> None:
        """Carry messages both ways until the application has ended.

        An application that ignores its cancellation is given up after `ABANDON_SECONDS`.

        Args:
            receive: the server's.
            send: the server's.
            client_gone: where the server has one, set when an HTTP client leaves, even while a body that
                nobody reads keeps `receive` from telling.
        """
        try:
            async with trio.open_nursery() as nursery:
                if client_gone is not None:
                    nursery.start_soon(self._watch_client, client_gone)
                nursery.start_soon(self._pump_to_application, receive, nursery.cancel_scope)
                await self._pump_to_server(send)
                nursery.cancel_scope.cancel()
        finally:
            if not self._has_ended:
                self._post(self._cancel)

    def raise_error(self, scope_type: str) -> None:
        """Raise what the application raised, if anything.

        What it raised after its client had gone is only logged, at level debug: nobody is left to
        be told.

        Raises:
            LifespanUnsupportedError: a lifespan ended before it asked for a message.
        """
        is_asgi = not isinstance(self._error, NotAwaitableError)
        if scope_type == "lifespan" and self._has_ended and not self._has_asked and is_asgi:
            raise LifespanUnsupportedError from self._error
        if self._error is None:
            return
        if self._is_client_gone and not self._progress.is_delivered:
            log.debug("request ended after its client left", error=repr(self._error))
            return
        raise self._error

    async def _pump_to_server(self, send: Send) -> None:
        while True:
            while self._outbox:
                message = self._outbox.popleft()
                if not self._is_client_gone:
                    await send(message)
                if credit_bytes := self._consumed.consume(message_cost_bytes(message)):
                    self._post(self._application.restore, credit_bytes)
            if self._has_ended:
                return
            self._wake_sender = trio.Event()
            await self._wake_sender.wait()

    async def _pump_to_application(self, receive: Receive, scope: trio.CancelScope) -> None:
        has_disconnected = False
        while not has_disconnected:
            # To the disconnect itself, for the layers above see what is received here.
            message = await receive()
            has_disconnected = message["type"].endswith(".disconnect")
            if self._is_client_gone:
                continue  # the application has been told
            self._is_client_gone = has_disconnected
            self._under_way.spend(message_cost_bytes(message))
            self._post(self._application.deliver, message)
            while self._under_way.is_exhausted and not self._is_client_gone:
                self._wake_receiver = trio.Event()
                await self._wake_receiver.wait()
        await trio.sleep(self._grace_seconds)
        self._post(self._cancel_if_abandoned)
        await trio.sleep(ABANDON_SECONDS)
        # By now a complete answer has arrived here, whatever the application does afterwards.
        if not self._progress.is_delivered:
            log.warning("the gateway ignored its cancellation", after_seconds=self._grace_seconds + ABANDON_SECONDS)
            scope.cancel()

    async def _watch_client(self, client_gone: trio.Event) -> None:
        await client_gone.wait()
        self._is_client_gone = True
        self._post(self._application.deliver, {"type": "http.disconnect"})
        self._wake_receiver.set()

    def _cancel_if_abandoned(self) -> None:
        if self._application.is_abandoned:
            self._cancel()
