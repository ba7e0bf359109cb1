"""Calls an application that runs on asyncio, in its gateway's thread, from the edge's trio loop.

The halves of each call are in `app.exchange`; the thread and the carrying of posts between the
loops are in `app.gateway_thread`.
"""

from __future__ import annotations

import asyncio
import contextvars

from sage_edge.app.asgi import ASGIApplication, Receive, Scope, Send, call_application
from sage_edge.app.exchange import ApplicationHalf, ServerHalf, contain, take_client_gone
from sage_edge.app.gateway_thread import GatewayThread


class BridgedApplication:
    """An ASGI application for trio that runs an asyncio one in a gateway's thread.

    Args:
        application: the asyncio application.
        thread: where it runs; must be running whenever this is called.
        grace_seconds: how long a request may go on after its client left.
    """

    def __init__(self, application: ASGIApplication, thread: GatewayThread, *, grace_seconds: float) -> None:
        self._application = application
        self._thread = thread
        self._grace_seconds = grace_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, WebSocket or lifespan. Raises what the application raises.

        The application sees the caller's context variables.
        """
        scope, client_gone = take_client_gone(scope)
        call = _Call(self._application, self._thread, scope, self._grace_seconds)
        self._thread.post(call.start, contextvars.copy_context())
        await call.server.pump(receive, send, client_gone)
        call.server.raise_error(scope["type"])


class _Call:
    """One call; all but `server` is used in the gateway's thread alone."""

    def __init__(self, application: ASGIApplication, thread: GatewayThread, scope: Scope, grace_seconds: float) -> None:
        self._application = application
        self._thread = thread
        self._scope = scope
        self._half = ApplicationHalf(thread.post_to_edge, asyncio.Event)
        self._task: asyncio.Task[None]
        self._is_cancelled = False
        self.server = ServerHalf(thread.post, self._half, self._cancel, grace_seconds)

    def start(self, context: contextvars.Context) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run(), context=context)
        # Cancelled before its first step, `_run` never runs.
        self._task.add_done_callback(lambda task: self._half.end(None) if task.cancelled() else None)

    async def _run(self) -> None:
        error: Exception | None = None
        try:
            await call_application(self._application, self._scope, self._half.receive, self._half.send)
        except asyncio.CancelledError as raised:
            error = None if self._is_cancelled else RuntimeError("the gateway cancelled its own request")
            if error is not None:
                error.__cause__ = raised
        except BaseException as raised:
            # Let out of a task, SystemExit and KeyboardInterrupt would end the gateway's loop, and with it every
            # request; a group of them would end this task unseen, and its client would wait for ever.
            error = contain(raised)
        self._half.end(error)

    def _cancel(self) -> None:
        self._is_cancelled = True
        self._task.cancel()
