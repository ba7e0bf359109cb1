"""Calls an application that runs on trio, in the edge's own loop.

For the health app and for gateways that are native to trio (`--gateway-loop trio`). Programs
written for asyncio are called by `app.bridge`.
"""

from __future__ import annotations

from typing import Any

import trio

from sage_edge.app.asgi import ASGIApplication, Receive, Scope, Send, call_application
from sage_edge.app.exchange import ApplicationHalf, ServerHalf, contain, take_client_gone


class NativeApplication:
    """An ASGI application that calls another in the same loop, with cancel-through.

    Args:
        application: the application.
        grace_seconds: how long a request may go on after its client left.
    """

    def __init__(self, application: ASGIApplication, *, grace_seconds: float) -> None:
        self._application = application
        self._grace_seconds = grace_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, WebSocket or lifespan. Raises what the application raises."""
        scope, client_gone = take_client_gone(scope)
        cancel_scope = trio.CancelScope()
        half = ApplicationHalf(_call, trio.Event)
        server = ServerHalf(_call, half, cancel_scope.cancel, self._grace_seconds)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._run, scope, half, cancel_scope)
            await server.pump(receive, send, client_gone)
        server.raise_error(scope["type"])

    async def _run(self, scope: Scope, half: ApplicationHalf, cancel_scope: trio.CancelScope) -> None:
        error: Exception | None = None
        try:
            with cancel_scope:
                await call_application(self._application, scope, half.receive, half.send)
        except (Exception, SystemExit) as raised:
            # SystemExit in a request ends that request, not the server.
            error = contain(raised)
        except BaseExceptionGroup as raised:
            _, others = raised.split((Exception, SystemExit))
            if others is not None:
                raise
            error = contain(raised)
        finally:
            half.end(error)


def _call(function: Any, *arguments: Any) -> None:
    function(*arguments)
