"""Serves an application on listening sockets until it is told to stop, then drains.

Accepting and draining only: what a connection is comes from `server.connection`, what is served
from `app.stack`.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Sequence
from functools import partial

import trio
from hypercorn.config import Config
from hypercorn.trio.worker_context import WorkerContext

from sage_edge.app.asgi import ASGIApplication
from sage_edge.server.connection import serve_connection
from sage_edge.server.listener import remove_paths

HANDSHAKE_SECONDS = 10.0
IDLE_SECONDS = 75.0
MAX_STREAMS = 250
UNLIMITED = 2**62


def build_config() -> Config:
    """Hypercorn's configuration of a connection."""
    config = Config()
    config.include_server_header = False
    config.ssl_handshake_timeout = HANDSHAKE_SECONDS
    config.keep_alive_timeout = IDLE_SECONDS
    config.keep_alive_max_requests = UNLIMITED  # Hypercorn's limit cuts streams in flight (trap 4)
    config.h2_max_concurrent_streams = MAX_STREAMS
    config.errorlog = None
    return config


async def serve(
    application: ASGIApplication,
    sockets: Sequence[socket.socket],
    tls: ssl.SSLContext | None,
    *,
    stop: trio.Event,
    drain_seconds: float,
) -> None:
    """Accept and serve connections until `stop` is set, then drain.

    Draining closes the listeners and idle connections, lets requests in flight go on for
    `drain_seconds`, and cuts what is left.
    """
    config = build_config()
    context = WorkerContext(None)
    listeners = [_listener(sock, tls) for sock in sockets]
    async with trio.open_nursery() as connections:
        async with trio.open_nursery() as accepting:
            accepting.start_soon(
                partial(
                    trio.serve_listeners,
                    partial(serve_connection, application, config, context),
                    listeners,
                    handler_nursery=connections,
                )
            )
            try:
                await stop.wait()
            finally:
                remove_paths(sockets)  # first: trio closes them as it stops accepting
            accepting.cancel_scope.cancel()
        await context.terminated.set()
        connections.cancel_scope.deadline = trio.current_time() + drain_seconds


def _listener(
    sock: socket.socket, tls: ssl.SSLContext | None
) -> trio.SocketListener | trio.SSLListener[trio.SocketStream]:
    listener = trio.SocketListener(trio.socket.from_stdlib_socket(sock))
    return listener if tls is None else trio.SSLListener(listener, tls, https_compatible=True)
