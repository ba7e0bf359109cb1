"""The layer that turns an error below into one answer and one log line.

An error before the answer has started becomes a 500. After that nothing truthful can be sent:
the layer returns with the answer incomplete, and the server ends the stream (RST_STREAM over
HTTP/2, a closed connection over HTTP/1.1), so that the client sees that it was cut. A WebSocket that
was not accepted is denied with the 500; one that was is closed with 1011.
"""

from __future__ import annotations

from http import HTTPStatus

from sage_edge.app.asgi import ASGIApplication, Receive, Scope, Send, send_error
from sage_edge.app.exchange import EXCHANGE, Exchange
from sage_edge.core.exchange import Cause
from sage_edge.core.logger import EdgeLogger
from sage_edge.core.printable import shorten

log = EdgeLogger(__name__)


class RescueLayer:
    """An ASGI application that calls another and raises none of the errors of its requests and WebSockets."""

    def __init__(self, application: ASGIApplication) -> None:
        self._application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request or WebSocket; a lifespan is passed through unguarded."""
        if scope["type"] == "lifespan":
            await self._application(scope, receive, send)
            return
        exchange: Exchange = scope[EXCHANGE]
        try:
            await self._application(scope, receive, send)
        except Exception as error:
            if exchange.is_abandoned and exchange.cause is not Cause.ERROR:  # nobody is left to be told
                log.debug("request ended after its client left", error=repr(error))
                return
            log.error("request failed", path=shorten(scope["path"]), exc_info=error)
        else:
            if reason := _find_omission(scope, exchange):
                log.error("request failed", path=shorten(scope["path"]), reason=reason)
        if not exchange.progress.has_started and not exchange.is_client_gone:
            detail = "The gateway failed to answer this request."
            await send_error(scope, send, HTTPStatus.INTERNAL_SERVER_ERROR, detail)


def _find_omission(scope: Scope, exchange: Exchange) -> str:
    """What a gateway that has returned left out, though its client was there; "" where nothing is missing."""
    progress = exchange.progress
    if not progress.has_started:
        return "" if exchange.is_client_gone else "the gateway returned without an answer"
    if scope["type"] != "http":
        return ""  # a WebSocket is closed for it
    is_cut = (
        exchange.cause is Cause.ERROR
    )  # a body that is not as long as was announced, and whose connection has ended
    if is_cut or not (progress.is_delivered or exchange.is_client_gone):
        return "the gateway returned before its answer was complete"
    return ""
