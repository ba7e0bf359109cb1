"""What the connections of a worker have in common. What one does with it is `server.connection`'s."""

from __future__ import annotations

from dataclasses import dataclass

from sage_edge.app.asgi import ASGIApplication
from sage_edge.core.forwarded import TrustedProxies
from sage_edge.core.limits import Limits
from sage_edge.core.metric_families import Metrics
from sage_edge.server.certificate_set import ContextChooser
from sage_edge.server.fairness import Fairness
from sage_edge.server.flusher import Flusher


@dataclass(frozen=True)
class Service:
    """What all connections of a worker share.

    Attributes:
        application: the stack.
        limits: of each.
        tls: chooses what a client is shown; None for plaintext.
        flusher: writes for them.
        fairness: between their clients.
        metrics: where what happens is counted.
        balancers: whose connections begin with a header of the PROXY protocol; None where nobody's do.
    """

    application: ASGIApplication
    limits: Limits
    tls: ContextChooser | None
    flusher: Flusher
    fairness: Fairness
    metrics: Metrics
    balancers: TrustedProxies | None = None
