"""The request path: the ordered list of layers, the outermost first, and nothing else."""

from __future__ import annotations

from collections.abc import Callable

from sage_edge.app.access_log import AccessLogLayer
from sage_edge.app.asgi import ASGIApplication
from sage_edge.app.dispatch import GuardedDispatcher
from sage_edge.app.rescue import RescueLayer


def build_stack(dispatcher: GuardedDispatcher, *, has_access_log: bool) -> ASGIApplication:
    """Put the layers around the dispatcher."""
    application: ASGIApplication = dispatcher
    layers: list[Callable[[ASGIApplication], ASGIApplication]] = [
        *([AccessLogLayer] if has_access_log else []),  # one line for each request, errors' answers included
        RescueLayer,  # an error below becomes one answer and one log line
    ]
    for layer in reversed(layers):
        application = layer(application)
    return application
