"""One accepted connection. The seam between the edge and the server beneath it.

Today that is Hypercorn's TCP server and protocols, subclassed where they end more than the
connection at fault or let a client go unnoticed. `server.worker` knows `serve_connection` alone,
so all of this can be replaced without a change elsewhere.
"""

from __future__ import annotations

import itertools
from functools import partial
from typing import Any

import structlog
import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.h11 import H2ProtocolAssumedError
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState
from hypercorn.utils import parse_socket_addr

from sage_edge.app.asgi import ASGIApplication
from sage_edge.server.http1 import EdgeH11Protocol
from sage_edge.server.http2 import EdgeH2Protocol
from sage_edge.server.inbox import EdgeTaskGroup

log = structlog.get_logger(__name__)

Stream = trio.SSLStream[trio.SocketStream] | trio.SocketStream

RECEIVE_BYTES = 65536
LINGER_SECONDS = 2.0
"""How long what a client still sends is discarded, before a connection is closed on it."""

_identifiers = itertools.count(1)


async def serve_connection(
    application: ASGIApplication, config: Config, context: WorkerContext, stream: Stream
) -> None:
    """Serve a connection until it ends. Raises nothing of its own faults: they are logged, once.

    Args:
        application: the stack.
        config: Hypercorn's.
        context: the worker's; its `terminated` event begins the drain.
        stream: as accepted; a TLS handshake has not been made yet.
    """
    # Every log line of the connection's tasks has its number, a gateway's own lines among them.
    with structlog.contextvars.bound_contextvars(connection=next(_identifiers)):
        try:
            await EdgeConnection(application, config, context, stream).run()
        except Exception as error:
            # Whatever a client or an application made happen, only this connection ends (trap 1).
            log.error("connection failed", exc_info=error)


class EdgeConnection(TCPServer):
    """Hypercorn's connection with the edge's protocols."""

    def __init__(self, application: ASGIApplication, config: Config, context: WorkerContext, stream: Any) -> None:
        # Hypercorn types scopes and messages by TypedDicts; here they are dictionaries.
        wrapped: Any = ASGIWrapper(application)  # type: ignore[arg-type]
        super().__init__(wrapped, config, context, {}, stream)
        self.protocol: _Protocol  # type: ignore[assignment]
        self._lingering = trio.CancelScope()
        self._is_lingering = False
        self._has_ended = False

    async def run(self) -> None:
        """Make the handshake if there is one, then serve until the connection ends or is cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._cut_when_cancelled)
            await self._serve()
            nursery.cancel_scope.cancel()

    async def _cut_when_cancelled(self) -> None:
        """Close the socket beneath Hypercorn's sends, which a cancellation does not reach (trap 6).

        Without this a client that stops reading outlives the drain's limit and a second signal.
        """
        try:
            await trio.sleep_forever()
        finally:
            await trio.aclose_forcefully(getattr(self.stream, "transport_stream", self.stream))

    async def _serve(self) -> None:
        is_tls = isinstance(self.stream, trio.SSLStream)
        try:
            alpn_protocol = await self._handshake() if is_tls else None
            transport = self.stream.transport_stream if is_tls else self.stream
            socket = transport.socket
            client = parse_socket_addr(socket.family, socket.getpeername())
            server = parse_socket_addr(socket.family, socket.getsockname())
            task_group = EdgeTaskGroup(lambda: self.protocol.is_http1)
            async with task_group:
                self._task_group = task_group
                name = "h2" if alpn_protocol == "h2" else "http/1.1"
                self.protocol = _Protocol(self, task_group, is_tls, client, server, name)
                await self.protocol.initiate()
                await self.idle_task.restart(task_group, self._idle_timeout)
                await self._read_data()
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError) as error:
            log.debug("connection lost", error=repr(error))
        finally:
            await self._close()

    async def protocol_send(self, event: Event) -> None:
        """Take what the protocol wants done with the connection."""
        if isinstance(event, Closed) and self.protocol.has_unread_body:
            # Closed now, with bytes unread, the system would reset the connection, and the client might never
            # see its answer (RFC 9112 section 9.6). The read loop discards what comes, and closes.
            self._lingering.deadline = trio.current_time() + LINGER_SECONDS
            self._is_lingering = True
            return
        if isinstance(event, Updated) and self._has_ended:
            return
        # Hypercorn shields the send and not the wait for its turn: cancelled there, the bytes of every
        # stream that were taken from the codec would be lost.
        with trio.CancelScope(shield=isinstance(event, RawData)):
            await super().protocol_send(event)

    async def _read_data(self) -> None:
        with self._lingering:
            while not self._is_lingering:
                data = await self._receive()
                if not self._is_lingering:
                    await self.protocol.handle(RawData(data))
                if not data:
                    break
            while self._is_lingering and await self._receive():
                pass
        # Hypercorn lets the idle timer run on, and the socket stay open for as long.
        self._has_ended = True
        await self.idle_task.stop()
        await self.protocol.handle(Closed())

    async def _receive(self) -> bytes:
        """The next bytes; none at the end, however the connection ended."""
        try:
            return bytes(await self.stream.receive_some(RECEIVE_BYTES))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return b""

    async def _handshake(self) -> str | None:
        with trio.fail_after(self.config.ssl_handshake_timeout):
            await self.stream.do_handshake()
        name: str | None = self.stream.selected_alpn_protocol()
        return name


class _Protocol:
    """What Hypercorn's ProtocolWrapper does, with the edge's protocols and without the h2c upgrade.

    RFC 9113 section 3.1 has withdrawn the upgrade; HTTP/2 without TLS begins with prior knowledge.
    """

    def __init__(
        self,
        connection: EdgeConnection,
        task_group: EdgeTaskGroup,
        is_tls: bool,
        client: tuple[str, int] | None,
        server: tuple[str, int] | None,
        name: str,
    ) -> None:
        arguments: tuple[Any, ...] = (
            connection.app,
            connection.config,
            connection.context,
            task_group,
            ConnectionState({}),
            is_tls,
            client,
            server,
            connection.protocol_send,
        )
        self._new_h2 = partial(EdgeH2Protocol, *arguments)
        self._protocol: EdgeH2Protocol | EdgeH11Protocol
        self._protocol = self._new_h2() if name == "h2" else EdgeH11Protocol(*arguments)

    @property
    def is_http1(self) -> bool:
        return isinstance(self._protocol, EdgeH11Protocol)

    @property
    def has_unread_body(self) -> bool:
        return isinstance(self._protocol, EdgeH11Protocol) and self._protocol.has_unread_body

    async def initiate(self) -> None:
        await self._protocol.initiate()

    async def handle(self, event: Event) -> None:
        try:
            await self._protocol.handle(event)
        except H2ProtocolAssumedError as assumed:
            self._protocol = self._new_h2()
            await self._protocol.initiate()
            await self._protocol.handle(RawData(data=assumed.data))
