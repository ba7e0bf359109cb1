"""Requests that a connection answers itself, since they are none that an application could be given: told and counted.

No layer sees them. They are counted as requests all the same, so that the figures are what clients count.
"""

from __future__ import annotations

from http import HTTPStatus

import structlog

from sage_edge.app.exchange import NO_MOUNT
from sage_edge.app.metrics import OTHER_METHOD
from sage_edge.server.carrier import Host

log = structlog.get_logger(__name__)


def note_refusal(host: Host, protocol: str, status: HTTPStatus, reason: str, *, stream: int | None = None) -> None:
    """Log and count one.

    Args:
        host: of the connection.
        protocol: as ASGI has it: "1.1" or "2".
        status: of the answer.
        reason: what was wrong, without what the client sent.
        stream: its number over HTTP/2.
    """
    numbered = {} if stream is None else {"stream": stream}
    log.info(
        "request refused",
        client=host.client[0] if host.client else "-",
        protocol=f"HTTP/{protocol}",
        status=status.value,
        reason=reason,
        **numbered,
    )
    host.metrics.requests.add(NO_MOUNT, protocol, OTHER_METHOD, str(status.value))
    host.metrics.protocol_errors.add(protocol, status.name.lower())
