"""The life of an edge, read from top to bottom: mounts, start-up, serving, drain, shutdown."""

from __future__ import annotations

import math
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Any, cast

import structlog
import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.trio.lifespan import Lifespan
from hypercorn.utils import LifespanFailureError

from sage_edge import __version__
from sage_edge.app.asgi import ASGIApplication
from sage_edge.app.bridge import BridgedApplication
from sage_edge.app.dispatch import GuardedDispatcher
from sage_edge.app.gateway_thread import GatewayThread
from sage_edge.app.health import MountSummary, build_health_app
from sage_edge.app.lifespan import Mount
from sage_edge.app.native import NativeApplication
from sage_edge.app.request_count import RequestCountLayer
from sage_edge.app.stack import build_stack
from sage_edge.core.errors import EdgeError, ExitCode, Fault
from sage_edge.core.metric_families import Metrics
from sage_edge.core.readiness import Check, Phase, Readiness
from sage_edge.core.supervision import vary
from sage_edge.server import worker
from sage_edge.server.certificates import CertificateInfo
from sage_edge.server.collector import Collector
from sage_edge.server.drain import Drain
from sage_edge.server.early_signals import ENDING, EarlySignals
from sage_edge.server.hang_up import reload_on_hang_up
from sage_edge.server.log_writer import LogWriter
from sage_edge.server.metrics_listener import serve_metrics
from sage_edge.server.metrics_reports import report_metrics
from sage_edge.server.metrics_sources import observe_gateway, observe_process
from sage_edge.server.notify import Notifier, keep_notified
from sage_edge.server.preparation import Plan
from sage_edge.server.redirect_listener import serve_redirects
from sage_edge.server.status_listener import serve_status
from sage_edge.server.worker_link import WorkerLink

log = structlog.get_logger(__name__)

THREAD_STOP_SECONDS = 5.0
"""How long a gateway's thread is waited for at the end."""
HASTY_STOP_SECONDS = 1.0
"""The same where it has not started, or blocks its loop: it has had its time."""
SPANS_SECONDS = 3.0
"""How long the last spans of requests may take to be sent."""
LAG_LIMIT_SECONDS = 0.5
"""A gateway's loop that takes longer to answer makes the edge degraded."""


async def run(
    plan: Plan,
    announce: Callable[[], None],
    *,
    logs: LogWriter,
    notifier: Notifier,
    early_signals: EarlySignals,
    show_drain: Callable[[str], None] | None = None,
    link: WorkerLink | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT; a second one ends at once.

    Health is answered as soon as the listeners accept, while the gateway still starts.

    Args:
        plan: from `server.preparation.prepare`; its sockets are closed at the end.
        announce: called once the listeners accept connections; those that are shared with another process do once
            the edge is ready.
        logs: writes the log; SIGUSR1 has it open its file anew.
        notifier: the service manager's.
        early_signals: keeps those that came before they are received here.
        show_drain: see `Drain`.
        link: to the supervisor, where this is a worker; once the supervisor is gone, it drains.

    Raises:
        EdgeError: the gateway failed to start.
    """
    settings = plan.settings
    readiness, metrics = _build_readiness(plan), Metrics()
    observe_process(metrics, readiness, logs, plan.certificates)
    async with _open_mounts(plan, readiness, metrics) as mounts:
        health = _build_health_mount(mounts, readiness)
        dispatcher = GuardedDispatcher(health, mounts, readiness, startup_seconds=settings.startup_seconds)
        is_measured = bool(plan.metrics_sockets or plan.admin_sockets) if link is None else settings.is_measured
        stack = build_stack(dispatcher, settings, metrics if is_measured else None, plan.tracer)
        lifespan = _build_lifespan(stack)
        started, collector = trio.Event(), Collector()
        drain = Drain(delay_seconds=settings.drain_delay_seconds, limit_seconds=settings.drain_seconds, show=show_drain)
        describe_status = partial(_describe_status, readiness, drain)
        if link is not None:
            readiness.add_check("workers", partial(_check_workers, link))
        with _suppress_startup_failure():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_watch_signals, early_signals, drain, readiness, notifier, nursery.cancel_scope)
                nursery.start_soon(_watch_rotation, logs)
                nursery.start_soon(
                    reload_on_hang_up,
                    plan.certificates,
                    notifier,
                    describe_status,
                    lambda: readiness.phase is Phase.READY,
                    link,
                )
                if plan.certificates is not None:
                    nursery.start_soon(plan.certificates.watch)
                if link is not None:
                    nursery.start_soon(_follow_supervisor, link, drain, readiness, nursery.cancel_scope)
                    nursery.start_soon(_leave_place, link, drain)
                    if is_measured:
                        nursery.start_soon(report_metrics, metrics, logs.problems, link)
                else:
                    nursery.start_soon(
                        serve_metrics, metrics.families, metrics.snapshot, plan.metrics_sockets, settings.limits
                    )
                    applications = {mount.prefix or "/": mount.name for mount in mounts}
                    nursery.start_soon(
                        serve_status,
                        metrics.snapshot,
                        logs.problems,
                        lambda: applications,
                        plan.admin_sockets,
                        settings.limits,
                    )
                nursery.start_soon(
                    keep_notified,
                    notifier,
                    describe_status,
                    lambda: readiness.phase is not Phase.READY,
                )
                serve_plaintext = partial(serve_redirects, limits=settings.limits, started=started)
                nursery.start_soon(serve_plaintext, health.application, plan.redirect_sockets, plan.sockets)
                await nursery.start(lifespan.handle_lifespan)
                async with trio.open_nursery() as serving:
                    serving.start_soon(_serve, plan, stack, started, drain, metrics, collector, link)
                    announce()
                    await lifespan.wait_for_startup()
                    if not dispatcher.startup_failures:
                        collector.settle()
                        _become_ready(readiness)
                        notifier.ready(describe_status())
                        started.set()
                        if link is not None:
                            link.say("ready")
                log.info("stopping")
                await lifespan.wait_for_shutdown()
                if plan.tracer is not None:
                    await plan.tracer.close(SPANS_SECONDS)
                nursery.cancel_scope.cancel()
    readiness.advance(Phase.STOPPED)
    if dispatcher.startup_failures:
        raise EdgeError(*(_explain(name, failure) for name, failure in dispatcher.startup_failures.items()))
    log.info("stopped")


def _build_readiness(plan: Plan) -> Readiness:
    readiness = Readiness(llm_prefix=plan.settings.llm_prefix, is_llm_mounted=plan.gateway is not None)
    if (store := plan.certificates) is not None:
        readiness.add_check("certificate", lambda: _check_certificate(store.soonest.info, datetime.now(UTC)))
        store.log_expiry()
    return readiness


@asynccontextmanager
async def _open_mounts(plan: Plan, readiness: Readiness, metrics: Metrics) -> AsyncIterator[list[Mount]]:
    """The gateway as a mount, with its thread for as long as this is open."""
    if plan.gateway is None:
        yield []
        return
    gateway, settings = plan.gateway, plan.settings
    build_mount = partial(Mount, settings.mount_prefix, gateway.reference, links=gateway.links)
    if settings.gateway_loop == "trio":
        native = NativeApplication(gateway.application)
        yield [build_mount(application=native)]
        return
    thread = GatewayThread()
    await thread.start()
    readiness.add_check("gateway_responsive", lambda: _check_lag(thread.lag_seconds))
    observe_gateway(metrics, settings.mount_prefix or "/", thread)
    async with trio.open_nursery() as watching:
        watching.start_soon(thread.watch)
        try:
            bridged = BridgedApplication(gateway.application, thread)
            yield [build_mount(application=bridged)]
        finally:
            watching.cancel_scope.cancel()
            with trio.CancelScope(shield=True):
                may_be_slow = readiness.phase > Phase.STARTING and not thread.is_blocked
                if not await thread.stop(THREAD_STOP_SECONDS if may_be_slow else HASTY_STOP_SECONDS):
                    log.error("the gateway blocks its thread and is left behind")


def _build_health_mount(mounts: list[Mount], readiness: Readiness) -> Mount:
    summaries = [
        MountSummary(
            mount.prefix or "/", mount.name, {title: mount.prefix + path for title, path in mount.links.items()}
        )
        for mount in mounts
    ]
    # Quart types scopes and messages by TypedDicts, as Hypercorn does; here they are dictionaries.
    app: Any = build_health_app(readiness, version=__version__, mounts=summaries)
    return Mount("", "health", NativeApplication(app))


def _build_lifespan(stack: ASGIApplication) -> Lifespan:
    config = Config()
    config.startup_timeout = config.shutdown_timeout = math.inf  # the dispatcher has limits of its own
    # Hypercorn types scopes and messages by TypedDicts; here they are dictionaries.
    return Lifespan(ASGIWrapper(cast(Any, stack)), config, {})


async def _serve(
    plan: Plan,
    stack: ASGIApplication,
    started: trio.Event,
    drain: Drain,
    metrics: Metrics,
    collector: Collector,
    link: WorkerLink | None,
) -> None:
    if link is not None and plan.settings.max_requests is not None:
        stack = RequestCountLayer(stack, vary(plan.settings.max_requests), partial(link.say, "recycle"))
    await worker.serve(
        stack,
        plan.sockets,
        plan.certificates.choose if plan.certificates else None,
        limits=plan.settings.limits,
        started=started,
        drain=drain,
        link=link,
        metrics=metrics,
        collector=collector,
        balancers=plan.settings.trusted if plan.settings.proxy_protocol else None,
    )


def _become_ready(readiness: Readiness) -> None:
    readiness.advance(Phase.READY)
    log.info("ready")


async def _watch_signals(
    early_signals: EarlySignals, drain: Drain, readiness: Readiness, notifier: Notifier, scope: trio.CancelScope
) -> None:
    with trio.open_signal_receiver(*ENDING) as signals:
        early_signals.deliver()
        async for number in signals:
            name = signal.Signals(number).name
            if drain.has_begun or readiness.phase is Phase.STARTING:
                log.info("ending at once", signal=name)
                drain.log_cut("a second signal")
                notifier.stopping("ending at once")
                scope.cancel()
                return
            log.info("draining", signal=name, streams=drain.count_streams())
            readiness.advance(Phase.DRAINING)
            drain.begin()
            notifier.stopping(drain.describe())


def _describe_status(readiness: Readiness, drain: Drain) -> str:
    """The line that `systemctl status` shows."""
    if drain.has_begun:
        return drain.describe()
    report = readiness.report()
    failed = "; ".join(check.detail for check in report.checks.values() if not check.is_ok)
    return f"{report.status}: {failed}" if report.status == "degraded" else report.status


async def _leave_place(link: WorkerLink, drain: Drain) -> None:
    await link.replaced.wait()
    drain.skip_delay()


async def _follow_supervisor(link: WorkerLink, drain: Drain, readiness: Readiness, scope: trio.CancelScope) -> None:
    await link.run()
    log.error("the supervisor is gone: draining")
    if readiness.phase is Phase.STARTING:
        scope.cancel()
    else:
        readiness.advance(Phase.DRAINING)
        drain.begin()


async def _watch_rotation(logs: LogWriter) -> None:
    with trio.open_signal_receiver(signal.SIGUSR1, signal.SIGUSR2) as signals:
        async for number in signals:
            if number == signal.SIGUSR1:
                logs.reopen()
            else:
                log.warning("only the supervisor of --workers restarts: nothing is done", signal="SIGUSR2")


@contextmanager
def _suppress_startup_failure() -> Iterator[None]:
    """Hypercorn raises on a failed start-up; the dispatcher has the reasons, mount by mount."""
    try:
        yield
    except* LifespanFailureError:
        pass


def _explain(name: str, failure: str) -> Fault:
    hint = "--log-level debug shows more; the gateway's own log lines are above"
    if "not complete within" in failure:
        hint = "raise --startup-seconds, or find out what the gateway waits for"
    return Fault(f"gateway {name} failed to start: {failure}", hint, ExitCode.STARTUP, setting="gateway")


def _check_lag(lag_seconds: float) -> Check:
    is_ok = lag_seconds <= LAG_LIMIT_SECONDS
    detail = f"the gateway's event loop {'answers' if is_ok else 'does not answer'}"
    return Check(is_ok, detail, {"lag_seconds": round(lag_seconds, 3)})


def _check_workers(link: WorkerLink) -> Check:
    measures = {"worker": link.number, "ready": link.ready, "wanted": link.wanted}
    return Check(True, f"{link.ready} of {link.wanted} workers are ready", measures)


def _check_certificate(certificate: CertificateInfo, now: datetime) -> Check:
    days_left = certificate.days_left(now)
    is_ok = days_left > 0
    detail = f"{'expires' if is_ok else 'expired'} {certificate.not_after:%Y-%m-%d}"
    return Check(is_ok, detail, {"days_left": round(days_left, 1)})
