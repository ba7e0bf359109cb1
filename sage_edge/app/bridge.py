"""Calls an application that runs on asyncio, in its gateway's thread, from the edge's trio loop.

Each call has a part on either side. They share no state: they post to each other, in order (the
thread, and the carrying of posts, are `app.gateway_thread`'s), and bound what is under way with
windows of credit. Nobody waits on the edge's side for a message: what the client sends is posted
as it comes, and what the application sends is written as it arrives, so that one wake-up of
either loop moves everything that is ready, for every call.
"""

from __future__ import annotations

import asyncio
import contextvars
from time import monotonic

import trio

from sage_edge.app.asgi import ASGIApplication, NotAwaitableError, Receive, Scope, Send, call_application, contain
from sage_edge.app.called import CalledExchange
from sage_edge.app.exchange import Exchange, take_exchange
from sage_edge.app.gateway_thread import GatewayThread
from sage_edge.core.exchange import (
    WINDOW_BYTES,
    ClientDisconnectedError,
    Inbox,
    LifespanUnsupportedError,
    Message,
    ReceiveWindow,
    ResponseProgress,
    SendWindow,
    message_cost_bytes,
    own_message,
    received_cost_bytes,
)
from sage_edge.core.logger import EdgeLogger

log = EdgeLogger(__name__)

ABANDON_SECONDS = 5.0
"""How long a cancelled application is waited for before its request is given up."""
CREDIT_SECONDS = 0.25
"""How long a WebSocket's application may take small messages before the server sees that it does."""


class BridgedApplication:
    """An ASGI application for trio that runs an asyncio one in a gateway's thread.

    Args:
        application: the asyncio application.
        thread: where it runs; must be running whenever this is called.
    """

    def __init__(self, application: ASGIApplication, thread: GatewayThread) -> None:
        self._application = application
        self._thread = thread

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, WebSocket or lifespan. Raises what the application raises.

        The application sees the caller's context variables.

        Raises:
            LifespanUnsupportedError: a lifespan ended before it asked for a message.
        """
        scope, exchange = take_exchange(scope)
        if exchange is not None:
            call = await self._run(scope, exchange)
        else:
            async with CalledExchange.open(scope, receive, send) as called:
                call = await self._run(scope, called)
        call.raise_error(scope["type"])

    async def _run(self, scope: Scope, exchange: Exchange) -> _EdgePart:
        call = _EdgePart(self._application, self._thread, scope, exchange)
        call.start()
        try:
            await call.wait()
        finally:
            call.let_go()
        return call


class _EdgePart:
    """One call beside the server: a sink for what the client sends; writes what the application sends."""

    def __init__(self, application: ASGIApplication, thread: GatewayThread, scope: Scope, exchange: Exchange) -> None:
        self._thread = thread
        self._post = thread.post
        self._exchange = exchange
        self._written = ReceiveWindow()
        self._owed_bytes = 0  # for what was written and waits
        self._has_ended = trio.Event()
        self._has_asked = False
        self._error: Exception | None = None
        self._gateway_part = _GatewayPart(application, thread, scope, self, has_to_ask=exchange.want is not None)

    def start(self) -> None:
        """Start the application, with all that has come for it."""
        self._post(self._gateway_part.start, contextvars.copy_context())
        self._exchange.attach(self)

    async def wait(self) -> None:
        """Wait until the application has ended. One that ignores its cancellation is given up."""
        try:
            await self._has_ended.wait()
        except trio.Cancelled:
            self._post(self._gateway_part.cancel)
            limit_seconds = 0.0 if self._thread.is_blocked else ABANDON_SECONDS
            with trio.move_on_after(limit_seconds, shield=True):
                await self._has_ended.wait()
                self._error = None  # nobody asks for it
                raise
            self._disconnect()
            log.warning("the gateway ignored its cancellation", after_seconds=limit_seconds)
            raise

    def let_go(self) -> None:
        """Hold on to nothing that holds on to this: what is left is freed at once, without the collector."""
        self._has_ended.set()
        self._exchange.detach()
        del self._gateway_part

    def raise_error(self, scope_type: str) -> None:
        """Raise what the application raised, if anything."""
        is_asgi = not isinstance(self._error, NotAwaitableError)
        if scope_type == "lifespan" and not self._has_asked and is_asgi:
            raise LifespanUnsupportedError from self._error
        error, self._error = self._error, None
        try:
            if error is not None:
                raise error
        finally:
            del error  # whose traceback has this frame, which would keep it

    # Posted to by the other side.

    def write(self, message: Message) -> None:
        """Take a message from the application."""
        if self._has_ended.is_set():
            return  # from a task that the application left behind, or after what could not be sent
        try:
            self._exchange.write(message)
        except ClientDisconnectedError:
            return  # sent before it knew: its own `send` raises from now on
        except Exception as error:
            # What the server cannot send. The application has gone on since; its request ends here.
            self._error = error
            self._post(self._gateway_part.cancel)
            self._disconnect()
            self._has_ended.set()
            return
        self._owed_bytes += message_cost_bytes(message)
        self.restore(0)

    def end(self, error: Exception | None, has_asked: bool) -> None:
        """The application has returned, or raised `error`; whether it ever called `receive`."""
        if not self._has_ended.is_set():  # otherwise it was given up, or has an error already
            self._error = error
            self._has_asked = has_asked
            self._has_ended.set()

    def want(self) -> None:
        """The application waits for the body."""
        self._exchange.ask_for_body()

    def consume(self, size_bytes: int) -> None:
        """The application has received so much."""
        self._exchange.consume(size_bytes)

    def _disconnect(self) -> None:
        """The application is not heard any more: one that has swallowed its cancellation would wait for ever for a
        message, or for credit."""
        if self._exchange.scope["type"] != "lifespan":
            self.deliver(self._exchange.disconnect_message())

    # The exchange's sink.

    def deliver(self, message: Message) -> None:
        """Pass on a message from the client."""
        self._post(self._gateway_part.deliver, message)

    def restore(self, size_bytes: int) -> None:
        """So much of the answer is on its way to the client.

        What is owed is what the messages cost, which is not what they come to on their way.
        """
        if not self._exchange.is_congested:
            cost_bytes, self._owed_bytes = self._owed_bytes, 0
            self.restore_cost(cost_bytes)
        elif self._owed_bytes + self._written.unreturned_bytes > WINDOW_BYTES and not self._exchange.is_client_gone:
            self._exchange.timeline.note_full()  # many small messages come to that before their bytes do

    def restore_cost(self, cost_bytes: int) -> None:
        """Return credit, in batches."""
        if credit_bytes := self._written.consume(cost_bytes):
            self._post(self._gateway_part.restore, credit_bytes)


class _GatewayPart:
    """One call beside the application: its `receive` and `send`. Used in the gateway's thread alone."""

    def __init__(
        self, application: ASGIApplication, thread: GatewayThread, scope: Scope, edge: _EdgePart, *, has_to_ask: bool
    ) -> None:
        self._application = application
        self._post = thread.post_to_edge
        self._scope = scope
        self._edge = edge
        self._has_to_ask = has_to_ask
        self._returned_at = 0.0
        self._inbox = Inbox()
        self._consumed = ReceiveWindow()
        self._under_way = SendWindow()
        self._progress = ResponseProgress(is_head=scope.get("method") == "HEAD")
        self._waiters: set[asyncio.Future[None]] = set()
        self._has_asked = False
        self._is_cancelled = False
        self._task: asyncio.Task[None] | None = None

    def start(self, context: contextvars.Context) -> None:
        """Start the application's task."""
        self._task = asyncio.get_running_loop().create_task(self._run(), context=context)
        self._task.add_done_callback(self._let_go)

    def cancel(self) -> None:
        """Cancel the application."""
        self._is_cancelled = True
        if self._task is not None:
            self._task.cancel()

    def deliver(self, message: Message) -> None:
        """Take a message from the client."""
        self._inbox.put(message)
        self._wake()

    def restore(self, credit_bytes: int) -> None:
        """Take credit for what the server has written."""
        self._under_way.restore(credit_bytes)
        self._wake()

    async def _receive(self) -> Message:
        self._has_asked = True
        while not self._inbox.has_message:
            if self._progress.is_complete and self._scope["type"] == "http":
                return {"type": "http.disconnect"}
            self._return_credit(self._consumed.consume_rest())
            if self._has_to_ask:
                self._has_to_ask = False
                self._post(self._edge.want)
            await self._wait()
        message = self._inbox.take()
        credit_bytes = self._consumed.consume(received_cost_bytes(message))
        if self._scope["type"] == "websocket":
            if credit_bytes:
                self._has_to_ask = True
            elif monotonic() - self._returned_at > CREDIT_SECONDS:
                credit_bytes = self._consumed.consume_rest()
        self._return_credit(credit_bytes)
        return message

    def _return_credit(self, credit_bytes: int) -> None:
        if credit_bytes:
            self._returned_at = monotonic()
            self._post(self._edge.consume, credit_bytes)

    async def _send(self, message: Message) -> None:
        """Raises ClientDisconnectedError, an OSError, once the client has gone, as ASGI asks for.

        What the message is no good for by itself is raised here, too; what only the server knows, it ends the call for.
        """
        if self._is_abandoned:
            raise ClientDisconnectedError
        # A copy, because the application may fill its message anew while this one is on its way. `bytes` stay as they
        # are; whatever else could change is copied, too.
        is_plain = type(message.get("body")) is bytes and "headers" not in message
        message = message.copy() if is_plain else own_message(message)
        # Again at the next message, where the application gave up waiting after the last.
        await self._wait_for_window()
        self._progress.note(message)
        if self._progress.is_complete:
            if self._scope["type"] == "http":
                self._inbox.close()
            self._wake()  # who receives is given a disconnect
        self._under_way.spend(message_cost_bytes(message))
        self._post(self._edge.write, message)
        await self._wait_for_window()

    @property
    def _is_abandoned(self) -> bool:
        return self._inbox.is_disconnected and not self._progress.is_delivered

    async def _wait_for_window(self) -> None:
        while self._under_way.is_exhausted and not self._inbox.is_disconnected:
            await self._wait()
            if self._is_abandoned:
                raise ClientDisconnectedError

    async def _wait(self) -> None:
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        try:
            await waiter
        finally:
            self._waiters.discard(waiter)  # it may have been taken out between its cancellation and now

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, set()
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def _run(self) -> None:
        error: Exception | None = None
        try:
            await call_application(self._application, self._scope, self._receive, self._send)
        except asyncio.CancelledError as raised:
            error = None if self._is_cancelled else RuntimeError("the gateway cancelled its own request")
            if error is not None:
                error.__cause__ = raised
        except BaseException as raised:
            # Let out of a task, SystemExit and KeyboardInterrupt would end the gateway's loop, and with it every
            # request; a group of them would end this task unseen, and its client would wait for ever.
            error = contain(raised)
        self._post(self._edge.end, error, self._has_asked)
        # An error's traceback has this frame: kept here, it would be garbage that only the collector frees.
        del error

    def _let_go(self, task: asyncio.Task[None]) -> None:
        if task.cancelled():  # before its first step: `_run` never ran
            self._post(self._edge.end, None, self._has_asked)
        self._task = None  # it keeps its error, whose traceback may have this
