"""How a connection opens: what comes before its protocol, within its limit of time, counted and told where it fails.

What comes, and what is answered, is `server.handshake`'s.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import trio

from sage_edge.app.asgi import name_client
from sage_edge.core.logger import EdgeLogger
from sage_edge.core.metric_families import Metrics
from sage_edge.server.certificate_set import ContextChooser
from sage_edge.server.client_socket import ClientSocket
from sage_edge.server.fairness import Share
from sage_edge.server.handshake import read_proxy_header, shake_hands
from sage_edge.server.metrics_handshake import measured_handshake
from sage_edge.server.proxy_protocol import ProxyHeader, ProxyProtocolError
from sage_edge.server.transport import TLSTransport

log = EdgeLogger(__name__)

LAST_OPENING_SECONDS = 3.0
"""How long a connection has to come to its protocol once all of them are to end."""


class Opening:
    """One connection's.

    Args:
        client: its socket.
        share: of the loop's turn, for what is computed.
        limit_seconds: for each thing that comes.
        metrics: where what fails is counted.
    """

    def __init__(self, client: ClientSocket, share: Share, limit_seconds: float, metrics: Metrics) -> None:
        self._client = client
        self._share = share
        self._limit_seconds = limit_seconds
        self._metrics = metrics
        self._scope = trio.CancelScope()

    def hurry(self) -> None:
        """The edge ends: there is less time from now on."""
        self._limit_seconds = min(self._limit_seconds, LAST_OPENING_SECONDS)
        self._scope.deadline = min(self._scope.deadline, trio.current_time() + LAST_OPENING_SECONDS)

    async def take_proxy_header(self) -> ProxyHeader:
        """Whom a balancer speaks for.

        Raises:
            TooSlowError: nothing came in time.
            OSError: what came is no header, or the balancer left.
        """
        try:
            with self._limited():
                return await read_proxy_header(self._client)
        except ProxyProtocolError as error:
            self._refuse_balancer("malformed_header", str(error))
            raise ConnectionAbortedError from error
        except trio.TooSlowError:
            self._refuse_balancer("timeout", "none came in time")
            raise

    async def shake_hands(self, choose: ContextChooser) -> tuple[TLSTransport, Mapping[str, Any]]:
        """The TLS handshake; see `server.handshake`.

        Raises:
            TooSlowError: it took too long.
            OSError: it failed.
        """
        with measured_handshake(self._metrics), self._limited():
            return await shake_hands(self._client, self._share, choose)

    @contextmanager
    def _limited(self) -> Iterator[None]:
        with trio.fail_after(self._limit_seconds) as self._scope:
            yield

    def _refuse_balancer(self, kind: str, reason: str) -> None:
        self._metrics.protocol_errors.add("proxy", kind)
        client = name_client(self._client.client)
        log.info("connection refused", client=client, reason=f"no PROXY protocol header: {reason}")
