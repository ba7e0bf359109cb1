"""Small ASGI applications that several tests call."""

from __future__ import annotations

from sage_edge.app.asgi import Receive, Scope, Send
from tests.kit.asgi_calls import ANSWER, response_body, response_start


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the body, part by part."""
    await send(response_start())
    more_body = True
    while more_body:
        message = await receive()
        more_body = message["more_body"]
        await send(response_body(message["body"], more_body=more_body))


async def answer(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer at once."""
    for message in ANSWER:
        await send(message)
