"""The command line. The only file that prints or exits.

Which options the commands take is told in `options`. What the commands do is elsewhere; here their
results become text, and errors become an exit code.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from contextvars import copy_context
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn, TextIO

import typer
from typer.core import TyperGroup

from sage_edge import __version__
from sage_edge.core.configuration import Configuration
from sage_edge.core.errors import EdgeError, ExitCode
from sage_edge.core.logger import EdgeLogger
from sage_edge.core.report import (
    Row,
    describe_certificate,
    describe_listeners,
    describe_mounts,
    describe_page,
    describe_redirects,
    describe_routes,
    find_base_url,
    format_configuration,
    format_rows,
)
from sage_edge.core.setting_groups import DEVELOPMENT_CERTIFICATES
from sage_edge.help import DefaultServeGroup, SettingsCommand
from sage_edge.options import with_settings
from sage_edge.server.early_signals import EarlySignals, ignore_signals
from sage_edge.server.forked_children import leave_signals_to_parent
from sage_edge.server.left_running import EXIT_SECONDS, TELL_SECONDS, tell_left_running, terminate_processes

if TYPE_CHECKING:
    from sage_edge.server.preparation import Plan

INTERRUPTED = 128 + 2
"""What shells report of a process that SIGINT ended."""

app = typer.Typer(
    name="sage-edge",
    cls=DefaultServeGroup,
    add_completion=False,
    rich_markup_mode=None,  # Rich's panels cut long names off in a narrow terminal
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
    help="TLS and HTTP/2 edge server that mounts an LLM gateway in-process. "
    "Without a command, the options are those of serve.",
)
certs = typer.Typer(help="Development certificates.")
app.add_typer(certs, name="certs")


def main() -> NoReturn:
    """Run the command line and exit: 0 done, 1 not ready, 2 usage or configuration, 3 start-up failed."""
    _fill_standard_descriptors()
    code = run(sys.argv[1:])
    if any(thread.name == "gateway" and thread.is_alive() for thread in threading.enumerate()):
        # A gateway that blocks its thread for ever: the interpreter could crash, ending beneath it.
        _end_process(code)
    _begin_end(code)
    sys.exit(code)


def _end_process(code: int = ExitCode.OK) -> NoReturn:
    """End beneath what still runs, and does not end."""
    _begin_end(code)
    terminate_processes()
    logging.shutdown()
    os._exit(code)


def _begin_end(code: int) -> None:
    """Say what was to be said. From here on the process ends in time, with this code, whatever the gateway still does.

    That is for threads that are begun now: the interpreter begins none while it waits for others.
    """
    ignore_signals()
    _end_later(EXIT_SECONDS - TELL_SECONDS, code, tell_left_running, terminate_processes)
    _end_later(EXIT_SECONDS, code, terminate_processes)
    for stream in (sys.stdout, sys.stderr):
        _flush(stream)


def _end_later(seconds: float, code: int, *last: Callable[[], None]) -> None:
    """End then, after these, if the interpreter has not by itself. Others do where these hang."""

    def end() -> NoReturn:
        time.sleep(seconds)
        try:
            for act in last:
                act()
        finally:
            os._exit(code)

    with suppress(RuntimeError):  # the system has no more threads
        threading.Thread(target=copy_context().run, args=[end], name="end", daemon=True).start()


def _fill_standard_descriptors() -> None:
    """Give descriptors that were closed a use, so that no socket gets the number that log lines are written to."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number


def _flush(stream: TextIO | None) -> None:
    """Write what is left, or let it go: the interpreter would make an error of it."""
    if stream is None:
        return
    try:
        stream.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def run(arguments: Sequence[str]) -> int:
    """Run a command line.

    Returns:
        The exit code.
    """
    try:
        return app(args=list(arguments), standalone_mode=False) or ExitCode.OK
    except EdgeError as error:
        _print_error(error)
        return error.exit_code
    except typer.TyperException as error:
        print(f"sage-edge: error: {error.format_message()}", file=sys.stderr)
        print(f"sage-edge: hint: {_usage_hint(error)}", file=sys.stderr)
        return ExitCode.CONFIGURATION
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED


def _usage_hint(error: typer.TyperException) -> str:
    context = getattr(error, "ctx", None)
    if context is not None and context.parent is not None and isinstance(context.command, TyperGroup):
        return "use " + " or ".join(f"sage-edge {context.info_name} {name}" for name in context.command.commands)
    return "sage-edge --help lists commands and options"


def _print_error(error: EdgeError) -> None:
    for fault in error.faults:
        if fault.cause is not None and logging.getLogger().isEnabledFor(logging.DEBUG):
            traceback.print_exception(fault.cause)
        print(f"sage-edge: error: {fault.what}", file=sys.stderr)
        if fault.hint:
            print(f"sage-edge: hint: {fault.hint}", file=sys.stderr)


def _print_version(is_asked: bool) -> None:
    if is_asked:
        print(f"sage-edge {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version and exit.")
    ] = False,
) -> None:
    """Hold the options that come before a command."""


@app.command(name="serve", cls=SettingsCommand)
@with_settings
def serve(configuration: Configuration) -> None:
    """Serve the gateway and the health endpoints (the default command)."""
    leave_signals_to_parent()
    early_signals = EarlySignals()
    # What serves is imported by the commands that need it: the others answer sooner.
    from sage_edge.server.serving import serve as serve_edge

    if code := serve_edge(configuration, early_signals, announce=_announce, end_process=_end_process):
        raise typer.Exit(code)


def _announce(plan: Plan, gateway_name: str | None, links: Mapping[str, str]) -> None:
    """Say what is served where: a table for people, a log line for machines."""
    from sage_edge.server.listener import describe_address

    rows = _describe(plan, [describe_address(sock) for sock in plan.sockets], gateway_name, links)
    rows += describe_page("metrics", [describe_address(sock) for sock in plan.metrics_listener.sockets], "/metrics")
    rows += describe_page("status", [describe_address(sock) for sock in plan.admin_listener.sockets], "/")
    rows += describe_redirects([describe_address(sock) for sock in plan.redirect_sockets])
    if plan.settings.log_format == "json":
        EdgeLogger("sage_edge").info("serving", version=__version__, rows=rows)
    else:
        with suppress(OSError):  # nobody reads it, or its file is on a full disk: that is no reason not to serve
            print("\n".join([f"sage-edge {__version__}", *format_rows(rows)]), flush=True)


def _describe(plan: Plan, addresses: Sequence[str], gateway_name: str | None, links: Mapping[str, str]) -> list[Row]:
    settings = plan.settings
    rows = describe_listeners(addresses, is_tls=settings.is_tls)
    base_url = find_base_url(addresses, is_tls=settings.is_tls)
    rows += describe_mounts(settings, gateway_name, links, base_url)
    if settings.workers is not None:
        rows.append(("workers", f"{settings.workers}, under the supervisor with pid {os.getpid()}"))
    for served in plan.certificates.current.certificates if plan.certificates else ():
        info, days_left = served.info, served.info.days_left(datetime.now(UTC))
        rows.append(describe_certificate(served.certfile, info.names, f"{info.not_after:%Y-%m-%d}", days_left))
    return rows


@app.command(name="check", cls=SettingsCommand)
@with_settings
def check(configuration: Configuration) -> None:
    """Check settings, certificate and gateway; open no socket."""
    from sage_edge.server.gateway import name_and_links
    from sage_edge.server.preparation import prepare

    plan = prepare(configuration, is_check=True)
    if plan.certificates is not None:
        plan.certificates.log_warnings()
    rows = _describe(plan, [str(bind) for bind in plan.settings.binds], *name_and_links(plan.gateway))
    rows += describe_redirects([str(bind) for bind in plan.settings.redirect_binds])
    print("\n".join(["sage-edge: everything is in order", *format_rows(rows)]))


@app.command(name="config", cls=SettingsCommand)
@with_settings
def config(configuration: Configuration) -> None:
    """Print the effective settings and their origin, as TOML."""
    print("\n".join(format_configuration(configuration)))
    configuration.raise_faults()


@app.command(name="routes", cls=SettingsCommand)
@with_settings
def routes(configuration: Configuration) -> None:
    """Print which paths are answered by what."""
    configuration.raise_faults()
    print("\n".join(format_rows(describe_routes(configuration.settings))))


@app.command(name="probe", cls=SettingsCommand)
@with_settings
def probe(configuration: Configuration) -> None:
    """Ask the local edge whether it is ready (exit 0 or 1)."""
    from sage_edge.server.probe import ask_readiness

    configuration.raise_faults()
    print(ask_readiness(configuration.settings))


@certs.command(name="create")
def create_certificates(
    directory: Annotated[
        Path, typer.Option("--directory", metavar="DIRECTORY", help="Where to put them.")
    ] = DEVELOPMENT_CERTIFICATES,
    name: Annotated[
        list[str] | None,
        typer.Option("--name", metavar="NAME", help="Host name or address to cover, besides localhost. Repeatable."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Make everything again, the CA too.")] = False,
) -> None:
    """Create a development CA and a certificate for localhost; what is there and valid is kept."""
    from sage_edge.server.development_ca import DEFAULT_NAMES
    from sage_edge.server.development_certificates import create_development_certificates

    names = [*DEFAULT_NAMES, *(name or [])]
    made = create_development_certificates(directory, names, now=datetime.now(UTC), force=force)
    files = [("CA", made.ca), ("CA key", made.ca_key), ("certificate", made.certificate), ("key", made.key)]
    rows = [(title, f"{path}  ({'created' if path in made.created else 'kept'})") for title, path in files]
    print("\n".join(format_rows(rows)))
