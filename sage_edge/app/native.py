"""Calls an application that runs on trio, in the edge's own loop.

For the health app and for gateways that are native to trio (`--gateway-loop trio`). Programs
written for asyncio are called by `app.bridge`.
"""

from __future__ import annotations

from collections.abc import Awaitable

import trio

from sage_edge.app.asgi import ASGIApplication, NotAwaitableError, Receive, Scope, Send, call_application, contain
from sage_edge.app.exchange import take_exchange
from sage_edge.core.exchange import LifespanUnsupportedError, Message


class NativeApplication:
    """An ASGI application that calls another in the same loop, and contains what it raises."""

    def __init__(self, application: ASGIApplication) -> None:
        self._application = application

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Serve one request, WebSocket or lifespan. Raises what the application raises, as an Exception.

        Raises:
            LifespanUnsupportedError: a lifespan ended before it asked for a message.
        """
        if scope["type"] == "lifespan":
            return self._run_lifespan(scope, receive, send)
        scope, _ = take_exchange(scope)
        return self._run(scope, receive, send)

    async def _run(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await call_application(self._application, scope, receive, send)
        except (Exception, trio.Cancelled, KeyboardInterrupt):
            raise
        except BaseExceptionGroup as raised:
            if raised.subgroup((trio.Cancelled, KeyboardInterrupt)) is not None:
                raise  # a cancellation and the user's are the caller's
            raise contain(raised) from raised
        except BaseException as raised:
            raise contain(raised) from raised

    async def _run_lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        has_asked = False

        async def watched_receive() -> Message:
            nonlocal has_asked
            has_asked = True
            return await receive()

        try:
            await self._run(scope, watched_receive, send)
        except NotAwaitableError:
            raise
        except Exception as error:
            if not has_asked:
                raise LifespanUnsupportedError from error
            raise
        if not has_asked:
            raise LifespanUnsupportedError
