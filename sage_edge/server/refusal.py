"""Requests that a connection refuses itself, since they are none that an application could be given, and those that
ended before they could begin, as their client left or the time to drain was up: told and counted.

No layer sees them. Each has a line of the access log, is counted, and its answer has an id, as others do, so that the
figures are what clients count, and a client's report leads to a line.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus

from sage_edge.app.access_log import access_log, measure, show_method
from sage_edge.app.asgi import name_client
from sage_edge.app.exchange import Exchange
from sage_edge.app.metrics import NO_STATUS, label_method
from sage_edge.app.request_id import with_request_id
from sage_edge.core.exchange import NO_MOUNT, Cause
from sage_edge.core.printable import shorten
from sage_edge.server.carrier import Host

_CREDENTIALS = re.compile(rb"^((?:[^/?@]*//)?)[^/?]*@")
"""Of a target that is no path, such as http://user:password@host/: who sends it is refused, and need not be told on."""

Field = tuple[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Asked:
    """What is known of a request.

    Attributes:
        method: "-" where it could not be read; None of a WebSocket.
        target: with its query, which is not told; the same.
        fields: of its head.
    """

    method: str | None = "-"
    target: bytes = b"-"
    fields: Sequence[Field] = ()


UNKNOWN = Asked()
NOTHING: Mapping[str, float] = {"received_bytes": 0, "sent_bytes": 0}
"""Of a request that is refused for its head, with an answer without a body. When the head began to come is unknown."""


def note_refusal(
    host: Host,
    protocol: str,
    asked: Asked,
    status: HTTPStatus | None,
    reason: str = "",
    *,
    measured: Mapping[str, float] = NOTHING,
    stream: int | None = None,
) -> Field:
    """Log and count one.

    Args:
        host: of the connection.
        protocol: as ASGI has it: "1.0", "1.1" or "2".
        asked: what is known of the request.
        status: of the answer; None where there is none.
        reason: what was wrong, without what the client sent; what the status says, where nothing more is known.
        measured: how much went to and fro and, where that is known, how long it took.
        stream: its number over HTTP/2.

    Returns:
        The field that tells the client the request's id.
    """
    because = reason or (status.phrase.lower() if status else Cause.REFUSED.value)
    field = _note(host, protocol, asked, status, Cause.REFUSED, measured, stream, reason=because)
    if status is not None and status is not HTTPStatus.SERVICE_UNAVAILABLE:  # that is the server's
        host.metrics.protocol_errors.add(protocol, status.name.lower())
    return field


def _note(
    host: Host,
    protocol: str,
    asked: Asked,
    status: HTTPStatus | None,
    cause: Cause,
    measured: Mapping[str, float],
    stream: int | None,
    **more: str,
) -> Field:
    field, _ = with_request_id(list(asked.fields))
    path = shorten(_CREDENTIALS.sub(rb"\1", asked.target.partition(b"?")[0]).decode("latin-1"))
    numbered = {} if stream is None else {"stream": stream}
    access_log.info(
        "request",
        client=name_client(host.client),
        protocol=f"HTTP/{protocol}",
        method=show_method(asked.method),
        path=path,
        status=status.value if status else "-",
        **measured,
        ending=cause.value,
        **more,
        mount=NO_MOUNT,
        request_id=field[1].decode(),
        **numbered,
    )
    host.metrics.requests.add(
        NO_MOUNT, protocol, label_method(asked.method), str(status.value) if status else NO_STATUS
    )
    return field


def note_unbegun(host: Host, exchange: Exchange) -> None:
    """The same of a request whose application did not begin: its client has gone, it was refused meanwhile, or the time
    to drain was up.

    Args:
        host: of the connection.
        exchange: which no layer has seen, nor will.
    """
    scope, stream = exchange.scope, exchange.stream_id
    version: str = scope["http_version"]
    asked = Asked(scope.get("method"), scope["raw_path"], scope["headers"])
    status = HTTPStatus(exchange.status) if exchange.status else None
    cause = exchange.cause or Cause.REFUSED
    measured = measure(exchange)
    if cause is Cause.REFUSED or status is not None:
        note_refusal(host, version, asked, status, exchange.refusal, measured=measured, stream=stream)
        return
    _note(host, version, asked, None, cause, measured, stream)  # as it would have ended, had it begun
    host.metrics.cancellations.add(NO_MOUNT, cause.label)
