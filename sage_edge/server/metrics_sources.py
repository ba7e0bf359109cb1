"""Gauges that are read from their subjects whenever somebody asks for the metrics."""

from __future__ import annotations

import platform

from sage_edge import __version__
from sage_edge.app.gateway_thread import GatewayThread
from sage_edge.core.exchange import Cause
from sage_edge.core.metric_families import AWAITED, Metrics
from sage_edge.core.readiness import Phase, Readiness
from sage_edge.server.certificate_store import CertificateStore
from sage_edge.server.log_writer import LogWriter
from sage_edge.server.process_figures import observe_resources


def observe_process(
    metrics: Metrics, readiness: Readiness, logs: LogWriter, certificates: CertificateStore | None
) -> None:
    """Report what runs and what it takes, where in its life it is, what of its log is lost, and its certificates."""
    metrics.build_info.of(__version__, platform.python_version()).number = 1
    observe_resources(metrics)

    def refresh() -> None:
        metrics.dropped_log_lines.of().number = logs.dropped
        for phase in Phase:
            metrics.phase.of(phase.name.lower()).number = int(phase is readiness.phase)
        for name, check in readiness.report().checks.items():
            if check.decides:
                metrics.readiness_check.of(name).number = int(check.is_ok)
        if certificates is not None:
            metrics.certificate_expiry_seconds.of().number = certificates.soonest.info.not_after.timestamp()
            metrics.certificate_reloads.of("done").number = certificates.reloads
            metrics.certificate_reloads.of("refused").number = certificates.failed_reloads

    metrics.refresh_with(refresh)


def observe_mount(metrics: Metrics, mount: str) -> None:
    """Have the first request of a mount that is cut, or given up, seen as an increase."""
    for cause in Cause:
        metrics.cancellations.of(mount, cause.label)
    for awaited in AWAITED:
        metrics.waits_given_up.of(mount, awaited)
        metrics.longest_wait_seconds.of(mount, awaited)


def observe_gateway(metrics: Metrics, mount: str, thread: GatewayThread) -> None:
    """Report a gateway's event loop, and what waits on its way there and back.

    Args:
        metrics: where.
        mount: the gateway's prefix, "/" for the root.
        thread: the gateway's.
    """

    def refresh() -> None:
        to_gateway, to_edge = thread.waiting_calls
        metrics.gateway_lag_seconds.of(mount).number = thread.longest_lag_seconds
        metrics.bridge_queue.of(mount, "to_gateway").number = to_gateway
        metrics.bridge_queue.of(mount, "to_edge").number = to_edge

    metrics.refresh_with(refresh)
