"""One accepted connection: its socket, its tasks and its clock.

What the bytes mean is the protocol's, HTTP/2 or http/1.1, which knows nothing of trio. Here:
reading, when to write, running applications, and the end. Whatever arrives, only this connection
ends by it. What comes before a protocol is `server.opening`'s, how it is written `server.outgoing`'s.
"""

from __future__ import annotations

import contextvars
import itertools
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

import trio

from sage_edge.app.exchange import Event, Exchange, is_health
from sage_edge.app.log_context import bind_log_fields
from sage_edge.core.budgets import ClientAccount
from sage_edge.core.exchange import Cause
from sage_edge.core.logger import EdgeLogger
from sage_edge.server.carrier import ConnectionProtocol
from sage_edge.server.client_socket import ClientSocket
from sage_edge.server.fairness import Share
from sage_edge.server.http1.connection import HTTP1Connection
from sage_edge.server.http2.connection import HTTP2Connection
from sage_edge.server.opening import Opening
from sage_edge.server.outgoing import Outgoing
from sage_edge.server.postponed_work import PostponedWork
from sage_edge.server.refusal import note_unbegun
from sage_edge.server.running_applications import RunningApplications
from sage_edge.server.service import Service
from sage_edge.server.transport import UNSENT_LIMIT_BYTES, Plaintext, Transport

log = EdgeLogger(__name__)

LINGER_SECONDS = 2.0
"""How long more of what a client still sends is awaited, and discarded, before a connection is closed on it."""

_identifiers = itertools.count(1)


class Connection:
    """A connection; the host of its protocol (`server.carrier`).

    Args:
        service: what it shares with others.
        sock: as accepted, not blocking. Closed at the end.
        account: of the client's address.
        when_left: called once, when nothing is left of the client (`server.running_applications`).
    """

    def __init__(
        self, service: Service, sock: socket.socket, account: ClientAccount, when_left: Callable[[], None]
    ) -> None:
        self.limits = service.limits
        self.metrics = service.metrics
        self.account = account
        self._share = Share(service.fairness, account)
        self._postponed = PostponedWork(self._share)
        self.has_time = self._share.has_time
        self._socket = ClientSocket(sock, self._share)
        self.client = self._socket.client
        self.server = self._socket.server
        self.is_tls = service.tls is not None
        self.tls: Mapping[str, Any] | None = None
        self.new_event: Callable[[], Event] = trio.Event
        self.is_dirty = self.is_gathering = False  # the flusher's marks
        self.flushed_at = -1.0
        self._service = service
        self._applications = RunningApplications(
            service.application, account, self.limits.cancel_grace_seconds, when_left
        )
        self._transport: Transport = Plaintext()
        self._protocol: ConnectionProtocol
        self._has_protocol = False
        self._nursery: trio.Nursery
        self._context: contextvars.Context
        self._opening = Opening(self._socket, self._share, self.limits.handshake_seconds, self.metrics)
        self._reading = trio.CancelScope()
        self._outgoing = Outgoing(self._socket)
        self._resumed: trio.Event | None = None
        self._cause = Cause.CLIENT_LEFT  # of the end of requests that are not answered
        self._identifier = next(_identifiers)
        self._end_protocol: Callable[[ConnectionProtocol], None] | None = None  # how, once that is asked for
        self._has_input_ended = False
        self._is_ending = False
        self._ending_since = 0.0

    async def run(self) -> None:
        """Serve until the connection ends. Raises nothing of its own faults: they are logged, once."""
        # Every log line of the connection's tasks has its number, a gateway's own lines among them.
        bind_log_fields(connection=self._identifier)
        self._context = contextvars.copy_context()
        try:
            await self._serve()
        except (OSError, trio.TooSlowError, trio.ClosedResourceError) as error:
            log.debug("connection lost", error=repr(error))
        except Exception as error:
            log.error("connection failed", exc_info=error)
        finally:
            self._cut()
            self._let_go()

    async def _serve(self) -> None:
        name = None
        balancers = self._service.balancers
        if balancers is not None and balancers.trusts(self.client[0] if self.client else None):
            header = await self._opening.take_proxy_header()
            self.client = header.client or self.client  # its own, where it speaks for itself
            self.server = header.server or self.server
        if self._service.tls is not None:
            self._transport, self.tls = await self._opening.shake_hands(self._service.tls)
            name = self._transport.alpn_protocol
        self._become(HTTP2Connection(self) if name == "h2" else HTTP1Connection(self))
        async with trio.open_nursery() as self._nursery:
            self.wake()
            try:
                with self._reading:
                    await self._read()
            except (OSError, trio.ClosedResourceError) as error:
                log.debug("connection lost", error=repr(error))
            except trio.Cancelled:  # the worker's: the time to drain is up
                self._cause = Cause.DRAINED
                self._protocol.go_away()
                self.flush()
                raise
            finally:
                self._cut()  # its applications go on, for a while

    # The protocol's side: `Host`.

    def clock(self) -> float:
        """Seconds of trio's clock."""
        return trio.current_time()

    def run_exchange(self, exchange: Exchange) -> None:
        """Run the application for an exchange, in a task of its own, when its client's address has its turn."""
        exchange.connection_id = self._identifier
        self._applications.add(exchange)
        if self._share.may_start() or (is_health(exchange) and self._share.may_start_for_health()):
            self._start(exchange)
        else:
            self._share.start_later(partial(self._start, exchange))

    def go_on_later(self, step: Callable[[], None]) -> None:
        """Do something in a later turn, and read no more before that is done."""
        if self._postponed.add(step):
            self._run_here(self._nursery.start_soon, self._go_on)  # it may be asked for in another task

    async def _go_on(self) -> None:
        await self._postponed.run()
        if self._resumed is not None:
            self._resumed.set()

    def _start(self, exchange: Exchange) -> None:
        if not exchange.is_client_gone:
            exchange.has_begun = True
            self._run_here(self._nursery.start_soon, self._applications.run, exchange, self._protocol.end)
            return
        self._run_here(note_unbegun, self, exchange)  # its turn may have come in another task
        if self._has_protocol:
            self._protocol.end(exchange)
        else:  # the connection is over
            exchange.end()
        self._applications.remove(exchange)

    def wake(self) -> None:
        """Have what is ready written, once all that is runnable has run."""
        if not self.is_dirty:
            self.is_dirty = True
            self._service.flusher.add(self)

    def wake_later(self) -> None:
        """The same for a piece of an answer that goes on: it may wait for others, for a moment."""
        if not self.is_dirty and not self.is_gathering:
            self._service.flusher.add_later(self)

    def become_http2(self, data: bytes) -> None:
        """Go on with HTTP/2, whose preface came in plaintext (RFC 9113 section 3.3)."""
        self._become(HTTP2Connection(self))
        self._protocol.receive(data)
        self.wake()

    # The worker's side.

    def flush(self) -> None:
        """Write what is ready, as far as the socket takes it, and read on where there is room for more.

        There may be while the socket takes nothing: an application may read in one task and write in another, and a
        client may read only once it has sent all.
        """
        if self._socket.is_closed or not self._has_protocol:
            return
        if not self._outgoing.is_blocked:
            self._write()
        if self._resumed is not None and self._may_go_on:
            self._resumed.set()

    def check_time(self, now: float) -> None:
        """End what has waited for too long."""
        self._run_here(self._check_time, now)

    @property
    def requests_in_flight(self) -> int:
        """How many requests are being answered."""
        return self._protocol.requests_in_flight if self._has_protocol else 0

    @property
    def applications(self) -> RunningApplications:
        """Those that run, or are about to, whether their client is still there or not."""
        return self._applications

    def prepare_drain(self) -> None:
        """Serve as before, but let the client know that it may go elsewhere."""
        self._have_protocol(lambda protocol: protocol.prepare_drain())

    def drain(self, *, keeps_idle: bool = False) -> None:
        """Take no new requests, and end once those in flight are over; see `ConnectionProtocol`."""
        if not keeps_idle:
            self._opening.hurry()
        self._have_protocol(lambda protocol: protocol.drain(keeps_idle=keeps_idle))

    def end_if_idle(self) -> None:
        """End at once if no request is in flight: its descriptor is needed."""
        if self._has_protocol and self._protocol.is_idle and self._postponed.is_empty and not self._has_output:
            self.drain()
            self.flush()
            self.cut()

    def cut(self) -> None:
        """End now."""
        self._reading.cancel()
        self._cut()

    def fail(self, error: Exception) -> None:
        """End now, for a fault of the edge, which is logged as the connection's."""
        self._run_here(partial(log.error, "connection failed", exc_info=error))
        self.cut()

    def _run_here(self, function: Callable[..., object], *arguments: object) -> None:
        """Have what it logs, and the tasks it starts, belong to this connection, whoever asks, and from wherever."""
        self._context.copy().run(function, *arguments)

    def _become(self, protocol: ConnectionProtocol) -> None:
        self._protocol = protocol
        self._has_protocol = True
        if self._end_protocol is not None:
            self._end_protocol(protocol)

    def _have_protocol(self, end: Callable[[ConnectionProtocol], None]) -> None:
        self._end_protocol = end
        if self._has_protocol:
            end(self._protocol)

    async def _read(self) -> None:
        """Take what comes until the end. Never waits for an application."""
        await self._share.begin()
        data, self._has_input_ended = self._transport.receive_pending()
        while True:
            if data and not self._is_ending:
                self._protocol.receive(data)
            self._share.end()
            while not self._may_go_on:
                self._resumed = trio.Event()
                await self._resumed.wait()
                self._resumed = None
            if self._has_input_ended:
                await self._write_last()
                return
            data = await self._socket.receive()
            data, self._has_input_ended = self._transport.receive(data)
            if self._is_ending:
                self._linger()
            if self._transport.answer_bytes:
                self.wake()

    @property
    def _may_go_on(self) -> bool:
        """Whether more can be read or, where there is no more, whether the protocol can be told of that."""
        if self._has_input_ended:
            return self._postponed.is_empty
        has_room = self._postponed.is_empty and self._transport.answer_bytes < UNSENT_LIMIT_BYTES
        return self._is_ending or (has_room and self._protocol.may_read)

    @property
    def _has_output(self) -> bool:
        return self._outgoing.has_unsent or self._protocol.has_output

    async def _write_last(self) -> None:
        """The client has ended its side, and may still read what was answered."""
        await self._share.begin()
        self._protocol.end_input()
        self._share.end()
        if self._has_output or not self._protocol.wants_close:
            self.wake()
            await trio.sleep_forever()  # until it is written, or the client takes nothing for too long

    def _write(self) -> None:
        protocol = self._protocol
        try:
            is_all = self._outgoing.write(protocol, self._transport)
        except OSError:  # of the socket, or of TLS
            self._lose()
            self._reading.cancel()
            return
        if self._outgoing.is_blocked:
            self._nursery.start_soon(self._wait_for_room)
        elif not is_all:
            self.wake()  # the others' turn
        elif protocol.wants_close:
            self._end()

    async def _wait_for_room(self) -> None:
        if await self._outgoing.wait_for_room():
            self.flush()

    def _check_time(self, now: float) -> None:
        if not self._has_protocol or self._socket.is_closed:
            return
        if self._outgoing.is_stalled(now, self.limits.stall_seconds):
            log.debug("client does not read")
            self._cause = Cause.STALLED
            self._socket.give_up_unsent()
            self.cut()
            return
        if self._resumed is not None:
            if self._socket.has_hung_up and self._postponed.is_empty and not self._protocol.is_behind:
                self._protocol.end_input()  # behind what is not read
            self.wake()  # others of its address may have made room
        if self._is_ending and now - self._ending_since < self.limits.stall_seconds and self._socket.unsent_bytes:
            self._reading.deadline = now + LINGER_SECONDS  # a slow reader is still at its last answer
        self._protocol.check_time(now)

    def _lose(self) -> None:
        if self._has_protocol:
            self._share.begin_at_once()  # for what came last
            self._protocol.lose(self._cause)
            self._share.end()

    def _linger(self) -> None:
        """More of a body came, to discard: who sends one may look for its answer only behind it."""
        if self._protocol.discards_body:
            latest = self._ending_since + self.limits.body_seconds
            self._reading.deadline = max(self._reading.deadline, min(self.clock() + LINGER_SECONDS, latest))

    def _end(self) -> None:
        """End this side, and discard what the client still sends, for a while.

        Closed at once, with bytes unread, the system would reset the connection, and the client might never
        see its answer (RFC 9112 section 9.6).
        """
        if self._is_ending:
            return
        self._is_ending = True
        self._ending_since = self.clock()
        try:
            if last := self._transport.end():
                with suppress(BlockingIOError):  # the answer matters more than TLS's own word for the end
                    self._socket.sock.send(last)
            self._socket.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self._reading.cancel()
            return
        self._lose()
        if self._has_input_ended:
            self.cut()
            return
        self._reading.deadline = trio.current_time() + LINGER_SECONDS
        if self._resumed is not None:
            self._resumed.set()

    def _cut(self) -> None:
        """Close the socket, with whatever is still unsent."""
        if self._socket.is_closed:
            return
        self._socket.close()
        self._lose()
        self._applications.close()

    def _let_go(self) -> None:
        """Hold on to nothing that holds on to this: what is left is freed at once, without the collector."""
        self._transport = Plaintext()
        if self._has_protocol:
            self._has_protocol = False
            self._protocol.let_go()
            del self._protocol
