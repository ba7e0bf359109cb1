"""What `serve` does, in the part that its process has: the only one, the supervisor of workers, or a worker.

Prepares, and runs trio. What is prepared is `server.preparation`'s, what runs is `server.run`'s and
`server.supervisor`'s. What is printed, and with which code the process exits, is `sage_edge.cli`'s.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

import trio

from sage_edge.app.log_context import bind_log_fields
from sage_edge.core.configuration import Configuration
from sage_edge.core.errors import EdgeError, ExitCode
from sage_edge.core.logger import EdgeLogger
from sage_edge.server.activation import PassedSockets
from sage_edge.server.early_signals import EarlySignals, EndedBySignal
from sage_edge.server.gateway import name_and_links
from sage_edge.server.log_writer import LogWriter
from sage_edge.server.logs import background_logs, is_on_terminal
from sage_edge.server.notify import EXTENSION_SECONDS, Notifier
from sage_edge.server.orphan_watch import OrphanWatch
from sage_edge.server.preparation import Plan, prepare
from sage_edge.server.run import run
from sage_edge.server.supervisor import Supervisor
from sage_edge.server.worker_command import worker_command
from sage_edge.server.worker_link import TimeLimits, WorkerLink

log = EdgeLogger("sage_edge")

Announce = Callable[[Plan, str | None, Mapping[str, str]], None]
"""Says what is served where, with the gateway's name (None without) and its links by title."""


def serve(
    configuration: Configuration, early_signals: EarlySignals, *, announce: Announce, end_process: Callable[[], None]
) -> ExitCode:
    """Serve until a signal ends it.

    Args:
        configuration: as read.
        early_signals: keeps those that have come already.
        announce: called once connections are accepted.
        end_process: ends it here and now, with 0.

    Returns:
        The exit code. A worker's faults are in the log, between the lines of others, and not raised.

    Raises:
        EdgeError: it cannot start.
    """
    # First, so that nothing that a gateway starts takes what systemd says, or the supervisor, for its own.
    notifier, passed = Notifier.from_environment(os.environ), PassedSockets.from_environment(os.environ)
    link = WorkerLink.from_environment(os.environ)
    if link is not None:
        bind_log_fields(worker=link.number)  # first: whatever it logs is one worker's word
        # From now on it can be sent signals.
        link.say("started", limits=vars(TimeLimits.of(configuration.settings)))
    with background_logs(configuration.settings) as (logs, faults), _logged_early_end():
        early_signals.begin_to_prepare()
        configuration = replace(configuration, faults=(*configuration.faults, *faults))
        process = _Process(configuration, early_signals, logs, notifier, announce, end_process)
        if link is not None:
            return process.serve_as_worker(link)
        notifier.status("loading the gateway")
        notifier.extend_timeout(configuration.settings.startup_seconds + EXTENSION_SECONDS)
        if configuration.settings.workers is not None:
            process.serve_as_supervisor(passed)
        else:
            process.serve_alone(passed)
    return ExitCode.OK


@dataclass(frozen=True)
class _Process:
    """What each part needs; see `serve`."""

    configuration: Configuration
    early_signals: EarlySignals
    logs: LogWriter
    notifier: Notifier
    announce: Announce
    end_process: Callable[[], None]

    def serve_alone(self, passed: PassedSockets) -> None:
        plan = prepare(self.configuration, passed)
        self._run(plan, partial(self.announce, plan, *name_and_links(plan.gateway)))

    def serve_as_supervisor(self, passed: PassedSockets) -> None:
        plan = prepare(self.configuration, passed, loads_gateway=False)
        self.early_signals.begin_to_serve()
        announce = partial(self.announce, plan)
        supervisor = Supervisor(plan, worker_command(), announce, self.notifier, self.logs, self._show_drain)
        trio.run(supervisor.run, self.early_signals)

    def serve_as_worker(self, link: WorkerLink) -> ExitCode:
        orphan_watch = OrphanWatch(link, self._end_with_log)
        try:
            plan = prepare(
                self.configuration,
                sockets=link.listeners,
                redirect_sockets=link.redirect_listeners,
                names_in_use=link.names_in_use,
            )
            name, links = name_and_links(plan.gateway)
            orphan_watch.begin_to_serve()
            self._run(plan, partial(link.say, "serving", gateway=name, links=links), link)
        except EdgeError as error:
            _log_faults(error)
            return error.exit_code
        return ExitCode.OK

    def _run(self, plan: Plan, announce: Callable[[], None], link: WorkerLink | None = None) -> None:
        self.early_signals.begin_to_serve()
        run_edge = partial(
            run,
            logs=self.logs,
            notifier=self.notifier,
            early_signals=self.early_signals,
            end_process=self.end_process,
            show_drain=self._show_drain if link is None else None,
            link=link,
        )
        trio.run(run_edge, plan, announce)

    def _end_with_log(self) -> None:
        self.logs.close()
        self.end_process()

    @property
    def _show_drain(self) -> Callable[[str], None] | None:
        """See `Drain`."""
        is_text = self.configuration.settings.log_format == "text"
        return self.logs.show if is_text and is_on_terminal() and not self.logs.has_file else None


@contextmanager
def _logged_early_end() -> Iterator[None]:
    """Log that a signal has ended the preparation, which is a clean end."""
    try:
        yield
    except EndedBySignal as ended:
        log.info("ending at once", signal=str(ended))


def _log_faults(error: EdgeError) -> None:
    is_debug = logging.getLogger().isEnabledFor(logging.DEBUG)
    for fault in error.faults:
        cause = fault.cause if is_debug else None
        log.error("worker cannot start", reason=fault.what, hint=fault.hint, exc_info=cause)
