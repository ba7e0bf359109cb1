"""The request path: the ordered list of layers, the outermost first, and nothing else.

A layer that only looks at a request as it begins, or asks its exchange to be called back, returns what the next one
returns: a coroutine of its own would be passed through whenever the application waits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from sage_edge.app.access_log import AccessLogLayer
from sage_edge.app.asgi import ASGIApplication
from sage_edge.app.dispatch import GuardedDispatcher
from sage_edge.app.forwarded import ForwardedLayer
from sage_edge.app.heartbeat import HeartbeatLayer
from sage_edge.app.hsts import HSTSLayer
from sage_edge.app.metrics import MetricsLayer
from sage_edge.app.redirect import RedirectApplication
from sage_edge.app.request_id import RequestIdLayer
from sage_edge.app.rescue import RescueLayer
from sage_edge.app.tracing import Tracer, TracingLayer
from sage_edge.core.metric_families import Metrics
from sage_edge.core.settings import Settings

_Layer = Callable[[ASGIApplication], ASGIApplication]


def build_stack(
    dispatcher: GuardedDispatcher, settings: Settings, metrics: Metrics | None, tracer: Tracer | None = None
) -> ASGIApplication:
    """Put the layers around the dispatcher.

    Args:
        dispatcher: the innermost.
        settings: what the layers go by.
        metrics: where requests are counted; None where they are not.
        tracer: makes their spans; None where they have none.
    """
    layers: list[_Layer] = [
        partial(ForwardedLayer, trusted=settings.trusted),  # the client is who a trusted proxy says it is
        RequestIdLayer,  # every line and answer below has the request's id
        # The gateway's spans are children of this one, and lines below have the trace's id.
        *([partial(TracingLayer, tracer=tracer)] if tracer is not None else []),
        *([partial(MetricsLayer, metrics=metrics)] if metrics is not None else []),
        # One line for each request, errors' answers included.
        *_access_log(settings),
        *([partial(HSTSLayer, seconds=settings.hsts_seconds)] if settings.hsts_seconds is not None else []),
        # Silent event streams get a comment now and then.
        *(
            [partial(HeartbeatLayer, seconds=settings.sse_heartbeat_seconds)]
            if settings.sse_heartbeat_seconds is not None
            else []
        ),
        RescueLayer,  # an error below becomes one answer and one log line
    ]
    return _wrap(dispatcher, layers)


def build_redirect_stack(redirect: RedirectApplication, settings: Settings) -> ASGIApplication:
    """Put those around the application of the plaintext port that say who asked it for what."""
    layers: list[_Layer] = [
        partial(ForwardedLayer, trusted=settings.trusted),
        RequestIdLayer,
        *_access_log(settings),
    ]
    return _wrap(redirect, layers)


def _access_log(settings: Settings) -> list[_Layer]:
    is_wanted = settings.access_log and settings.log_level in ("debug", "info")
    return [partial(AccessLogLayer, has_query=settings.access_log_query)] if is_wanted else []


def _wrap(application: ASGIApplication, layers: Sequence[_Layer]) -> ASGIApplication:
    for layer in reversed(layers):
        application = layer(application)
    return application
