"""The life of an edge, read from top to bottom: mounts, start-up, serving, drain, shutdown."""

from __future__ import annotations

import math
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, cast

import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.trio.lifespan import Lifespan
from hypercorn.utils import LifespanFailureError

from sage_edge.app.asgi import ASGIApplication
from sage_edge.app.bridge import ABANDON_SECONDS
from sage_edge.app.dispatch import GuardedDispatcher
from sage_edge.app.lifespan import Mount
from sage_edge.app.request_count import RequestCountLayer
from sage_edge.app.stack import build_stack
from sage_edge.core.errors import EdgeError, ExitCode, Fault
from sage_edge.core.logger import EdgeLogger
from sage_edge.core.metric_families import Metrics
from sage_edge.core.readiness import Phase, Readiness
from sage_edge.core.supervision import vary
from sage_edge.server import worker
from sage_edge.server.certificate_set import Names
from sage_edge.server.collector import Collector
from sage_edge.server.drain import Drain
from sage_edge.server.early_signals import ENDING, HINT, EarlySignals, RepeatedSignals
from sage_edge.server.ending import LAST_TURNS_SECONDS, LIFESPAN_SECONDS, REDIRECT_SECONDS, SPANS_SECONDS
from sage_edge.server.hand_over import hand_over, last_call_seconds
from sage_edge.server.hang_up import reload_on_hang_up
from sage_edge.server.last_resort import LastResort
from sage_edge.server.listener import start_sharing
from sage_edge.server.log_writer import LogWriter
from sage_edge.server.loop_watch import watch_loop
from sage_edge.server.metrics_listener import serve_metrics
from sage_edge.server.metrics_reports import report_metrics
from sage_edge.server.metrics_sources import observe_process
from sage_edge.server.mounts import build_health_mount, open_gateway
from sage_edge.server.notify import Notifier, keep_notified
from sage_edge.server.preparation import Plan
from sage_edge.server.readiness_checks import check_certificate, check_workers
from sage_edge.server.redirect_listener import serve_redirects
from sage_edge.server.status_listener import serve_status
from sage_edge.server.worker_link import Order, WorkerLink

log = EdgeLogger(__name__)


async def run(
    plan: Plan,
    announce: Callable[[], None],
    *,
    logs: LogWriter,
    notifier: Notifier,
    early_signals: EarlySignals,
    end_process: Callable[[], None],
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
        end_process: ends it here and now, with 0; for a native gateway that does not end.
        show_drain: see `Drain`; of a worker, its supervisor shows it.
        link: to the supervisor, where this is a worker; once the supervisor is gone, it drains.

    Raises:
        EdgeError: the gateway failed to start, or the edge to listen on a shared port.
    """
    settings = plan.settings
    last_call = last_call_seconds(settings)
    tell = partial(_tell_streams, link) if link is not None else None
    drain = Drain(delay_seconds=last_call, limit_seconds=settings.drain_seconds, show=show_drain, tell=tell)
    redirect_drain = Drain(
        delay_seconds=last_call if settings.is_redirect_shared else 0.0, limit_seconds=REDIRECT_SECONDS
    )
    life = _Life(plan, logs, notifier, drain, redirect_drain, link, _build_readiness(plan, link), Metrics())
    observe_process(life.metrics, life.readiness, logs, plan.certificates)
    async with open_gateway(plan.gateway, settings, life.readiness, life.metrics) as mounts:
        if link is not None and settings.max_requests is not None:
            mounts = [_count_requests(mount, settings.max_requests, link) for mount in mounts]
        health = build_health_mount(mounts, life.readiness)
        dispatcher = GuardedDispatcher(health, mounts, life.readiness, startup_seconds=settings.startup_seconds)
        stack = build_stack(dispatcher, settings, life.metrics if life.is_measured else None, plan.tracer)
        lifespan = _build_lifespan(stack)
        started, served, collector = trio.Event(), trio.Event(), Collector()
        faults: Sequence[Fault] = ()

        async def give_up() -> None:
            await _give_up(life, lifespan, nursery.cancel_scope, served)
            end_process()

        with _suppress_startup_failure():
            async with LastResort(give_up).watching() as last_resort, trio.open_nursery() as nursery:
                is_native = settings.gateway_loop == "trio"  # otherwise requests and lifespan are given up one by one
                if is_native:
                    drain.when_cut = partial(last_resort.limit, ABANDON_SECONDS)
                _watch(nursery, life, early_signals)
                _show(nursery, life, mounts)
                await nursery.start(lifespan.handle_lifespan)
                async with trio.open_nursery() as serving:
                    serving.start_soon(_serve, life, stack, started, collector)
                    serving.start_soon(_serve_redirects, life, health.application, started)
                    announce()
                    await lifespan.wait_for_startup()
                    if not dispatcher.startup_failures:
                        collector.settle()
                        # First, so that whoever is told may end an edge that the port is shared with.
                        if faults := start_sharing([*plan.sockets, *plan.redirect_sockets]):
                            serving.cancel_scope.cancel()
                        else:
                            life.become_ready()
                            started.set()
                served.set()
                if is_native:
                    last_resort.limit(LIFESPAN_SECONDS)
                await _stop(life, lifespan)
                nursery.cancel_scope.cancel()
    life.readiness.advance(Phase.STOPPED)
    faults = faults or [_explain(name, failure) for name, failure in dispatcher.startup_failures.items()]
    if faults:
        raise EdgeError(*faults)
    log.info("stopped")


@dataclass(frozen=True)
class _Life:
    """What the parts of an edge's life share; see `run`."""

    plan: Plan
    logs: LogWriter
    notifier: Notifier
    drain: Drain
    redirect_drain: Drain
    link: WorkerLink | None
    readiness: Readiness
    metrics: Metrics

    @property
    def is_measured(self) -> bool:
        """Whether somebody can ask for the figures, here or at the supervisor's."""
        return self.plan.is_measured if self.link is None else self.link.is_measured

    @property
    def is_ready(self) -> bool:
        """Whether start-up is over, and the end has not begun."""
        return self.readiness.phase is Phase.READY

    def describe(self) -> str:
        """The line that `systemctl status` shows."""
        if self.drain.has_begun:
            return self.drain.describe()
        report = self.readiness.report()
        failed = "; ".join(check.detail for check in report.checks.values() if not check.is_ok)
        return f"{report.status}: {failed}" if report.status == "degraded" else report.status

    def become_ready(self) -> None:
        """Tell everybody."""
        self.readiness.advance(Phase.READY)
        log.info("ready")
        self.notifier.ready(self.describe())
        if self.link is not None:
            self.link.say("ready")
            if self.plan.certificates is not None:  # now, that it serves them: the next worker has to go by them
                self.plan.certificates.tell_names(self._say_names)

    def _say_names(self, names: Names) -> None:
        if self.link is not None:
            self.link.say("certificates", names=names)

    @property
    def takes_queue(self) -> bool:
        """Whether nobody else will accept what waits in the workers' sockets; see `worker.serve`."""
        return self.link is not None and not self.link.is_replaced

    def begin_drain(self, *, keeps_idle: bool = False) -> None:
        """Begin the end; see `Drain.begin`."""
        self.readiness.advance(Phase.DRAINING)
        if self.plan.settings.reuse_port and self.link is None:  # otherwise it is the supervisor's
            hand_over([*self.plan.sockets, *self.plan.redirect_sockets])
        if self.plan.settings.is_redirect_shared:
            self.redirect_drain.begin()
        for listener in (self.plan.metrics_listener, self.plan.admin_listener):
            listener.give_up()
        self.drain.begin(keeps_idle=keeps_idle)
        if self.link is not None:
            self.link.say("draining")

    def leave_to_another(self) -> None:
        """The same of a worker whose place another has, which tells of health from now on."""
        self.drain.skip_delay()
        self.redirect_drain.skip_delay()
        self.redirect_drain.begin()
        self.begin_drain(keeps_idle=True)

    def end_at_once(self, scope: trio.CancelScope, reason: str) -> None:
        """Cut what is in flight."""
        self.drain.note_cut(reason)
        self.notifier.stopping("ending at once")
        scope.cancel()


def _watch(nursery: trio.Nursery, life: _Life, early_signals: EarlySignals) -> None:
    """Have what comes from outside taken care of, until the nursery is cancelled: signals, files, the supervisor."""
    plan, link = life.plan, life.link
    nursery.start_soon(_watch_signals, life, early_signals, nursery.cancel_scope)
    nursery.start_soon(_watch_rotation, life.logs)
    nursery.start_soon(watch_loop, life.metrics)
    nursery.start_soon(reload_on_hang_up, plan.certificates, life.notifier, life.describe, lambda: life.is_ready, link)
    if plan.certificates is not None:
        nursery.start_soon(plan.certificates.watch)
    if link is not None:
        nursery.start_soon(link.beat)
        nursery.start_soon(_follow_supervisor, life, link, nursery.cancel_scope)


def _show(nursery: trio.Nursery, life: _Life, mounts: Sequence[Mount]) -> None:
    """Have it shown what goes on, until the nursery is cancelled: metrics, the status page, the service manager."""
    plan, metrics, problems = life.plan, life.metrics, life.logs.problems
    limits = plan.settings.limits
    if life.link is None:
        applications = {mount.prefix or "/": mount.name for mount in mounts}
        nursery.start_soon(serve_metrics, metrics.families, metrics.snapshot, plan.metrics_listener, limits)
        nursery.start_soon(serve_status, metrics.snapshot, problems, lambda: applications, plan.admin_listener, limits)
    elif life.is_measured:
        nursery.start_soon(report_metrics, metrics, problems, life.link)
    nursery.start_soon(keep_notified, life.notifier, life.describe, lambda: not life.is_ready)


def _count_requests(mount: Mount, max_requests: int, link: WorkerLink) -> Mount:
    """Have the supervisor told when so many have come to it; those for health do it no harm."""
    layer = RequestCountLayer(mount.application, vary(max_requests), partial(link.say, "recycle"))
    return replace(mount, application=layer)


async def _serve(life: _Life, stack: ASGIApplication, started: trio.Event, collector: Collector) -> None:
    settings, certificates = life.plan.settings, life.plan.certificates
    await worker.serve(
        stack,
        life.plan.sockets,
        certificates.choose if certificates else None,
        limits=settings.limits,
        started=started,
        drain=life.drain,
        link=life.link,
        metrics=life.metrics,
        collector=collector,
        balancers=settings.balancers,
        takes_queue=lambda: life.takes_queue,
    )
    life.redirect_drain.begin()


async def _serve_redirects(life: _Life, health: ASGIApplication, started: trio.Event) -> None:
    plan = life.plan
    await serve_redirects(
        health,
        plan.redirect_sockets,
        plan.sockets,
        settings=plan.settings,
        started=started,
        drain=life.redirect_drain,
        takes_queue=lambda: life.takes_queue,
    )


async def _stop(life: _Life, lifespan: Lifespan) -> None:
    log.info("stopping")
    await lifespan.wait_for_shutdown()
    if life.plan.tracer is not None:
        await life.plan.tracer.close(SPANS_SECONDS)


async def _give_up(life: _Life, lifespan: Lifespan, running: trio.CancelScope, served: trio.Event) -> None:
    """Stop what can be stopped, since the process ends beneath the rest."""
    log.error("the gateway ignores its cancellation and is left behind", requests=life.drain.leave_behind())
    if not served.is_set() and not running.cancel_called:  # otherwise it was tried, or is not to be waited for
        with trio.move_on_after(LIFESPAN_SECONDS):
            await _stop(life, lifespan)
    running.cancel()
    await trio.sleep(LAST_TURNS_SECONDS)  # what else runs closes its sockets, and removes their paths


def _tell_streams(link: WorkerLink, in_flight: int, cut: int) -> None:
    link.say("streams", in_flight=in_flight, cut=cut)


def _build_readiness(plan: Plan, link: WorkerLink | None) -> Readiness:
    readiness = Readiness(llm_prefix=plan.settings.llm_prefix, is_llm_mounted=plan.gateway is not None)
    if (store := plan.certificates) is not None:
        readiness.add_check("certificate", lambda: check_certificate(store.soonest.info, datetime.now(UTC)))
        store.log_warnings()
    if link is not None:
        readiness.add_check("workers", partial(check_workers, link))
    return readiness


def _build_lifespan(stack: ASGIApplication) -> Lifespan:
    config = Config()
    config.startup_timeout = config.shutdown_timeout = math.inf  # the dispatcher has limits of its own
    # Hypercorn types scopes and messages by TypedDicts; here they are dictionaries.
    return Lifespan(ASGIWrapper(cast(Any, stack)), config, {})


async def _watch_signals(life: _Life, early_signals: EarlySignals, scope: trio.CancelScope) -> None:
    is_second = False
    repeated = RepeatedSignals()
    with trio.open_signal_receiver(*ENDING) as signals:
        early_signals.deliver()
        async for number in signals:
            if repeated.note(trio.current_time()):
                continue
            name = signal.Signals(number).name
            if is_second or life.readiness.phase is Phase.STARTING:
                log.info("ending at once", signal=name)
                life.end_at_once(scope, "a second signal")
                return
            is_second = True
            log.info("draining", signal=name, streams=life.drain.count_streams(), hint=HINT)
            life.begin_drain()
            life.notifier.stopping(life.drain.describe())


async def _follow_supervisor(life: _Life, link: WorkerLink, scope: trio.CancelScope) -> None:
    async for order in link.hear():
        if order is Order.END or life.readiness.phase is Phase.STARTING:
            log.info("ending at once", order=order.value)
            life.end_at_once(scope, "the supervisor's order")
        else:
            log.info("draining", order=order.value, streams=life.drain.count_streams())
            if order is Order.LEAVE_TO_ANOTHER:
                life.leave_to_another()
            else:
                life.begin_drain()
    log.error("the supervisor is gone: draining")
    if life.readiness.phase is Phase.STARTING:
        scope.cancel()
    else:
        # A supervisor that is started in its place needs the address.
        life.drain.skip_delay()
        life.redirect_drain.skip_delay()
        life.begin_drain()


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
