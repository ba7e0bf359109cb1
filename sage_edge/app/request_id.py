"""The layer that gives each request an id: the client's where it is sane, otherwise a new one.

The gateway gets it as `x-request-id`, the answer carries it unless the gateway set one, and every log line of the
request has it, the gateway's own among them. `traceparent` (W3C Trace Context) is passed on as it is.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from time import time_ns

from sage_edge.app.asgi import ASGIApplication, Receive, Scope, Send
from sage_edge.app.exchange import EXCHANGE, Exchange
from sage_edge.app.log_context import bind_log_fields
from sage_edge.core.own_random import own_random
from sage_edge.core.request_id import is_sane_request_id, new_request_id

HEADER = b"x-request-id"


Field = tuple[bytes, bytes]


def with_request_id(headers: list[Field]) -> tuple[Field, list[Field]]:
    """The field with a request's id, the client's or a new one, and the headers with it."""
    given = [field for field in headers if field[0] == HEADER]
    if len(given) == 1 and is_sane_request_id(given[0][1]):
        return given[0], headers
    # Random enough: an id is no secret, and its numbers come at a twentieth of the system's price.
    field = (HEADER, new_request_id(time_ns() // 1_000_000, own_random.getrandbits(74)).encode())
    kept = [each for each in headers if each[0] != HEADER] if given else headers
    return field, [*kept, field]


def identify(exchange: Exchange) -> Sequence[Field]:
    """Give a request its id, unless it has one; the fields of its answer, the id's among them.

    It has one already where its connection has refused it before the layer has seen it, if it ever will.
    """
    if not exchange.request_id:
        scope = exchange.scope
        field, scope["headers"] = with_request_id(scope["headers"])
        exchange.request_id = field[1].decode()
        exchange.answer_fields = (field,)
    return exchange.answer_fields


class RequestIdLayer:
    """An ASGI application that calls another with an id for each request."""

    def __init__(self, application: ASGIApplication) -> None:
        self._application = application

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Serve a request or WebSocket; a lifespan is passed through."""
        if scope["type"] != "lifespan":
            exchange: Exchange = scope[EXCHANGE]
            identify(exchange)
            # For the task of this request alone, whose context is its own.
            bind_log_fields(request_id=exchange.request_id)
        return self._application(scope, receive, send)
