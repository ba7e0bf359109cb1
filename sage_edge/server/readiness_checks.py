"""What readiness is told by, beside the phase of the edge's life: a gateway's loop, a certificate, the workers."""

from __future__ import annotations

from datetime import datetime

from sage_edge.core.readiness import Check
from sage_edge.server.certificates import CertificateInfo
from sage_edge.server.worker_link import WorkerLink

LAG_LIMIT_SECONDS = 0.5
"""A gateway's loop that takes longer to answer makes the edge degraded."""


def check_lag(lag_seconds: float) -> Check:
    """Whether a gateway's event loop answers.

    Args:
        lag_seconds: how long it takes, or has taken so far.
    """
    is_ok = lag_seconds <= LAG_LIMIT_SECONDS
    detail = f"the gateway's event loop {'answers' if is_ok else 'does not answer'}"
    return Check(is_ok, detail, {"lag_seconds": round(lag_seconds, 3)})


def check_workers(link: WorkerLink) -> Check:
    """How many workers are ready, as the supervisor has told this one. It is no fault of this one's.

    Only where another has its place it decides: who asks on a connection that is still open asks for those that go on.
    """
    measures = {"worker": link.number, "ready": link.ready, "wanted": link.wanted}
    is_ok = link.ready > 0 or not link.is_replaced
    return Check(is_ok, f"{link.ready} of {link.wanted} workers are ready", measures, decides=link.is_replaced)


def check_certificate(certificate: CertificateInfo, now: datetime) -> Check:
    """Whether a certificate is still good."""
    days_left = certificate.days_left(now)
    is_ok = days_left > 0
    detail = f"{'expires' if is_ok else 'expired'} {certificate.not_after:%Y-%m-%d}"
    return Check(is_ok, detail, {"days_left": round(days_left, 1)})
