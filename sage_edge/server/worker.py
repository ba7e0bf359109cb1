"""Serves an application on listening sockets until it is told to stop, then drains.

Accepting, keeping time and draining only: what a connection is comes from `server.connection`, what
is served from `app.stack`.
"""

from __future__ import annotations

import errno
import itertools
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from functools import partial

import trio

from sage_edge.app.asgi import ASGIApplication
from sage_edge.core.budgets import Accounts
from sage_edge.core.forwarded import TrustedProxies
from sage_edge.core.limits import Limits
from sage_edge.core.logger import EdgeLogger
from sage_edge.core.metric_families import Metrics
from sage_edge.server.certificate_set import ContextChooser
from sage_edge.server.collector import Collector
from sage_edge.server.connection import Connection
from sage_edge.server.drain import Drain
from sage_edge.server.fairness import Fairness
from sage_edge.server.flusher import Flusher
from sage_edge.server.listener import (
    accept_queued,
    close_listeners,
    describe_address,
    is_shared,
    remove_paths,
    start_listening,
)
from sage_edge.server.service import Service
from sage_edge.server.worker_link import WorkerLink

log = EdgeLogger(__name__)

ACCEPTED_AT_ONCE = 8
"""Of those that wait, before others have their turn: one client's many stand in the queue before another's one."""
TICK_SECONDS = 0.5
"""How often limits of time are looked at."""
EXHAUSTED_SECONDS = 0.1
"""How long to wait where the system cannot give another connection: no descriptors, no memory, a socket shut down."""
REPORT_SECONDS = 10.0
"""How often, at most, refused connections are reported."""

KEEPALIVE = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4}
"""Seconds of silence, seconds between probes, and probes: a client that vanished is known of after two minutes."""

_unix_clients = itertools.count(1)

UNSENT_BYTES = 128 * 1024
"""What the system holds for a client beyond what is on the wire: more would only stand in a small answer's way."""


async def serve(
    application: ASGIApplication,
    sockets: Sequence[socket.socket],
    tls: ContextChooser | None,
    *,
    limits: Limits,
    started: trio.Event,
    drain: Drain,
    metrics: Metrics,
    link: WorkerLink | None = None,
    collector: Collector | None = None,
    balancers: TrustedProxies | None = None,
    takes_queue: Callable[[], bool] = bool,
) -> None:
    """Accept and serve connections until `drain` has begun, and end as it says.

    Draining closes the listeners and idle connections, lets requests in flight go on for
    a while, and cuts what is left. What had been accepted by the system is served too.
    Cancelled, it closes the listeners at once, and leaves shared ports to others, as after a drain.

    Args:
        application: the stack.
        sockets: listening, or bound where they are shared (`listener.is_shared`).
        tls: chooses what a client is shown; None for plaintext.
        limits: of each connection.
        started: from when on shared sockets are accepted from; others are at once.
        drain: begun from elsewhere.
        link: to the supervisor, where there are other workers, whose sockets are covered while they are away.
        metrics: where what happens is counted.
        collector: of the process, where these connections are what it is to go by.
        balancers: whose connections begin with a header of the PROXY protocol; None where nobody's do.
        takes_queue: at the end: whether nobody else will accept what waits in an inherited socket's queue.
    """
    with closing(Fairness()) as fairness:
        worker = Worker(Service(application, limits, tls, Flusher(), fairness, metrics, balancers))
        await worker.run(sockets, started, drain, link, collector, takes_queue)


class Worker:
    """The connections of one process.

    Args:
        service: what they share.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        limits = service.limits
        self._accounts = Accounts(
            max_connections=limits.max_connections,
            max_connections_per_client=limits.max_connections_per_client,
            max_buffered_bytes=limits.max_buffered_bytes,
        )
        self._connections: set[Connection] = set()
        self._end_one: Callable[[Connection], None] | None = None  # how a connection ends, once they are to
        self._metrics = service.metrics
        self._metrics.refresh_with(self._count_connections)
        self._metrics.connections_limit.of().number = limits.max_connections
        self._refused = 0
        self._reported_at = -REPORT_SECONDS

    async def run(
        self,
        sockets: Sequence[socket.socket],
        started: trio.Event,
        drain: Drain,
        link: WorkerLink | None = None,
        collector: Collector | None = None,
        takes_queue: Callable[[], bool] = bool,
    ) -> None:
        """Serve until `drain` has begun, and end as it says."""
        drain.count_streams = self._count_streams
        drain.leave_behind = self._leave_behind
        async with trio.open_nursery() as helping:
            helping.start_soon(self._service.flusher.run)
            helping.start_soon(self._service.fairness.run)
            helping.start_soon(self._keep_time)
            if collector is not None:
                collector.count_open = self._count_open
                helping.start_soon(collector.run, started)
            async with trio.open_nursery() as connections:
                await self._listen(sockets, started, drain, link, takes_queue, connections)
                if link is not None:
                    link.say("closed")
                helping.start_soon(drain.limit, connections.cancel_scope)
                self._end(partial(Connection.drain, keeps_idle=True))
                helping.start_soon(self._say_farewell, drain)
            helping.cancel_scope.cancel()

    async def _listen(
        self,
        sockets: Sequence[socket.socket],
        started: trio.Event,
        drain: Drain,
        link: WorkerLink | None,
        takes_queue: Callable[[], bool],
        connections: trio.Nursery,
    ) -> None:
        """Accept until the last call is over, then what waits; the sockets are closed, also where this is cancelled."""
        # Those of other places, too: of the processes that close a socket, the last is to leave nobody in it.
        listeners = [*sockets, *(link.all_other_listeners() if link is not None else ())]
        try:
            async with trio.open_nursery() as accepting:
                for listener in sockets:
                    accepting.start_soon(self._accept, listener, started, connections)
                if link is not None:
                    for place, others in link.other_listeners.items():
                        accepting.start_soon(self._cover, link, place, others, started, connections)
                await drain.wait_for_begin()
                self._end(Connection.prepare_drain)
                await drain.wait_for_last_call()
                remove_paths(sockets)  # first: nobody is to find a path that nobody serves
                accepting.cancel_scope.cancel()
            is_last = takes_queue()
            for listener in listeners:
                for sock, address in accept_queued(listener, is_last=is_last):
                    self._open(sock, address, connections)
                close_listeners([listener])
        finally:
            close_listeners(listeners)

    async def _cover(
        self,
        link: WorkerLink,
        place: int,
        sockets: Sequence[socket.socket],
        started: trio.Event,
        connections: trio.Nursery,
    ) -> None:
        """Accept in place of another worker, whenever it is away: nobody waits for its return."""
        while True:
            await link.wait_until(lambda: place in link.absent)
            async with trio.open_nursery() as accepting:
                for listener in sockets:
                    accepting.start_soon(self._accept, listener, started, connections)
                await link.wait_until(lambda: place not in link.absent)
                accepting.cancel_scope.cancel()

    async def _accept(self, listener: socket.socket, started: trio.Event, connections: trio.Nursery) -> None:
        if is_shared(listener):
            await started.wait()
            start_listening(listener)
        accepted = 0
        while True:
            try:
                sock, address = listener.accept()
            except BlockingIOError:
                await trio.lowlevel.wait_readable(listener)
                continue
            except OSError as error:
                if error.errno == errno.ECONNABORTED:  # the client has left before it was accepted
                    await trio.lowlevel.checkpoint()
                else:
                    await self._wait_for_resources(error)
                continue
            self._open(sock, address, connections)
            accepted += 1
            if accepted % ACCEPTED_AT_ONCE == 0:
                await trio.lowlevel.checkpoint()

    def _open(self, sock: socket.socket, address: object, connections: trio.Nursery) -> None:
        self._metrics.connections_accepted.add()
        client = str(address[0]) if isinstance(address, tuple) else f"unix:{next(_unix_clients)}"
        account = self._accounts.open(client)
        if account is None:
            self._metrics.connections_refused.add("limit" if self._accounts.is_full else "client_limit")
            self._refuse(sock, client)
            return
        try:
            sock.setblocking(False)
            _tune(sock)
            connection = Connection(self._service, sock, account, partial(self._accounts.close, account))
        except OSError:  # the client has left already
            sock.close()
            self._accounts.close(account)
            return
        connections.start_soon(self._run, connection)

    async def _run(self, connection: Connection) -> None:
        self._connections.add(connection)
        if self._end_one is not None:
            self._end_one(connection)
        try:
            await connection.run()
        finally:
            self._connections.discard(connection)

    def _end(self, end_one: Callable[[Connection], None]) -> None:
        self._end_one = end_one
        for connection in list(self._connections):
            end_one(connection)

    async def _say_farewell(self, drain: Drain) -> None:
        await drain.wait_for_farewell()
        self._end(Connection.drain)

    def _count_streams(self) -> int:
        return sum(connection.requests_in_flight for connection in self._connections)

    def _leave_behind(self) -> int:
        for connection in self._connections:
            connection.applications.leave_behind()
        return sum(len(connection.applications) for connection in self._connections)

    def _count_open(self) -> int:
        """Connections and requests that there are objects of. Applications outlive their clients by a while."""
        connections = self._connections
        return len(connections) + sum(max(each.requests_in_flight, len(each.applications)) for each in connections)

    async def _keep_time(self) -> None:
        while True:
            await trio.sleep(TICK_SECONDS)
            now = trio.current_time()
            for connection in list(self._connections):
                try:
                    connection.check_time(now)
                except Exception as error:
                    connection.fail(error)

    def _refuse(self, sock: socket.socket, client: str) -> None:
        self._refused += 1
        now = trio.current_time()
        if now - self._reported_at >= REPORT_SECONDS:
            where = _name_listener(sock)
            limit = "--max-connections" if self._accounts.is_full else "--max-connections-per-client"
            log.warning(
                "connections refused: too many are open",
                count=self._refused,
                latest_client=client,
                latest_limit=limit,
                **where,
            )
            self._reported_at = now
            self._refused = 0
        sock.close()

    def _count_connections(self) -> None:
        self._metrics.connections_open.of().number = self._accounts.connections

    async def _wait_for_resources(self, error: OSError) -> None:
        self._metrics.connections_refused.add("no_resources")
        now = trio.current_time()
        if now - self._reported_at >= REPORT_SECONDS:
            log.warning("cannot accept connections", reason=error.strerror, open=len(self._connections))
            self._reported_at = now
        for connection in list(self._connections):
            connection.end_if_idle()
        await trio.sleep(EXHAUSTED_SECONDS)


def _name_listener(sock: socket.socket) -> Mapping[str, object]:
    """Which of this process's listeners a connection came to: metrics and status page have limits of their own."""
    try:
        name = sock.getsockname()
    except OSError:  # the client has left already
        return {}
    return {"port": name[1]} if isinstance(name, tuple) else {"path": describe_address(sock).removeprefix("unix:")}


def _tune(sock: socket.socket) -> None:
    if sock.family == socket.AF_UNIX:
        return
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in KEEPALIVE.items():
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    if hasattr(socket, "TCP_NOTSENT_LOWAT"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)
