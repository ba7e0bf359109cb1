"""How log lines look and where they go: the edge's own, the gateway's and libraries' in one place.

The edge's come by a way of their own (`core.logger`). The others come by Python's `logging`, or structlog, which a
gateway may set up otherwise: then it has its own lines elsewhere, and the edge's stay here.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Literal, get_args

import structlog
from structlog.processors import format_exc_info
from structlog.stdlib import ProcessorFormatter
from structlog.typing import EventDict, Processor

from sage_edge.app.access_log import ACCESS_LOG
from sage_edge.core.errors import ExitCode, Fault, reason_of
from sage_edge.core.logger import EdgeLogger, Level, TakeLine, add_bound_fields, send_lines
from sage_edge.core.problems import Problem, Problems, describe_problem, leave_out_arguments
from sage_edge.core.settings import Settings
from sage_edge.server.log_lines import TextRenderer, render_json
from sage_edge.server.log_writer import LogWriter

LEVELS: tuple[Level, ...] = get_args(Level)
"""The least severe first."""

UNFORMATTED = "a log line could not be formatted"
"""What is said in its place."""

add_time = structlog.processors.TimeStamper(fmt="iso", utc=True)


@contextmanager
def background_logs(settings: Settings) -> Iterator[tuple[LogWriter, list[Fault]]]:
    """Write log lines in a thread of its own for as long as this is open; nobody who logs then waits.

    Yields:
        The writer, and what is wrong with its file: with a fault, lines go to stderr as before.
    """
    writer = LogWriter(settings.log_file)
    try:
        writer.start()
    except OSError as error:
        hint = "name a file that this user may write to, in a directory that exists"
        what = f"--log-file: cannot open {settings.log_file}: {reason_of(error)}"
        yield writer, [Fault(what, hint, ExitCode.STARTUP, error, setting="log_file")]
        return
    root = logging.getLogger()
    before = root.handlers[:]
    silent = None if settings.access_log else ACCESS_LOG
    took_lines = configure_logs(settings.log_level, settings.log_format, writer, silent=silent)
    try:
        yield writer, []
    finally:
        root.handlers[:] = before
        send_lines(took_lines)
        writer.close()


def configure_logs(
    level: Level, line_format: Literal["text", "json"], writer: LogWriter | None = None, *, silent: str | None = None
) -> TakeLine:
    """Send every log line to one place in one format.

    Set up before a gateway is imported: `logging.basicConfig` in it then does nothing.

    Args:
        level: the least severe level that is logged.
        line_format: text, coloured on a terminal unless NO_COLOR is set, or json, one object a line.
        writer: takes the lines; None writes them to stderr at once.
        silent: the name of a logger of the edge's whose lines are left out.

    Returns:
        What took the edge's lines before.
    """
    render: Processor = render_json if line_format == "json" else TextRenderer(has_colors=_has_colors(writer))
    _configure_gateways_logs(level, render, writer)
    return send_lines(_EdgeLines(level, render, writer, silent))


def _configure_gateways_logs(level: Level, render: Processor, writer: LogWriter | None) -> None:
    """Have the lines of `logging` and structlog look and go as the edge's, for whoever does not set them up anew."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        _add_edges_fields,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        add_time,
    ]
    formatter = ProcessorFormatter(
        foreign_pre_chain=shared,
        # A traceback is without the values of variables: clients' keys are among them.
        processors=[ProcessorFormatter.remove_processors_meta, format_exc_info, render],
    )
    handler = logging.StreamHandler(sys.stderr) if writer is None else WriterHandler(writer)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler] if writer is None else [handler, ProblemHandler(writer.problems)]
    root.setLevel(level.upper())
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.PositionalArgumentsFormatter(),
            ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )


def _add_edges_fields(_logger: object, _method: str, fields: EventDict) -> EventDict:
    """Where they are missing: many a gateway clears structlog's variables as a request begins, as its guide has it."""
    add_bound_fields(fields)
    return fields


class _EdgeLines:
    """Takes what the edge's loggers say, and makes lines of it.

    Each request has one: a record of the `logging` module costs more than all else.

    Args:
        level: the least severe that is wanted.
        render: makes a line.
        writer: takes it; None for stderr.
        silent: the name of a logger that is left out.
    """

    def __init__(self, level: Level, render: Processor, writer: LogWriter | None, silent: str | None) -> None:
        self._wanted = frozenset(LEVELS[LEVELS.index(level) :])
        self._render = render
        self._put: Callable[[str], None] = _write_to_stderr if writer is None else writer.put
        self._problems = None if writer is None else writer.problems
        self._silent = silent

    def __call__(self, logger: str, level: Level, fields: dict[str, Any]) -> None:
        """Take one. Raises nothing: who logs has a connection to serve, say."""
        if level not in self._wanted or logger == self._silent:
            return
        try:
            self._take(logger, level, fields)
        except Exception as error:
            with suppress(Exception):
                self._take(logger, "error", {"event": UNFORMATTED, "reason": type(error).__name__})

    def _take(self, logger: str, level: Level, fields: dict[str, Any]) -> None:
        add_bound_fields(fields)
        if self._problems is not None and level in ("warning", "error"):
            text = describe_problem(str(fields["event"]), fields)
            self._problems.note(Problem(time.time(), level, text, fields.get("worker")))
        fields["level"], fields["logger"] = level, logger
        add_time(None, level, fields)
        if "exc_info" in fields:
            _show_exception(fields)
        self._put(str(self._render(None, level, fields)))


def _show_exception(fields: dict[str, Any]) -> None:
    """Tell a traceback as text. An exception of a gateway's may do anything when it is looked at."""
    error = fields["exc_info"]
    try:
        format_exc_info(None, "", fields)
    except Exception:
        fields["exception"] = f"{type(error).__name__}, which cannot be shown"


def _write_to_stderr(line: str) -> None:
    if sys.stderr is not None:
        with suppress(OSError):  # a full disk, or nobody who reads
            sys.stderr.write(f"{line}\n")
            sys.stderr.flush()


class WriterHandler(logging.Handler):
    """Has lines of the `logging` module written in the background.

    Whoever configures that module anew closes all handlers; the writer goes on.

    Args:
        writer: takes them.
    """

    def __init__(self, writer: LogWriter) -> None:
        super().__init__()
        self._writer = writer

    def emit(self, record: logging.LogRecord) -> None:
        """Queue a record's line, or say in its place what was wrong with it."""
        try:
            line = self.format(record)
        except Exception as error:  # the standard way would print a traceback, and wait for that
            at = f"{record.filename}:{record.lineno}"
            EdgeLogger(record.name).warning(UNFORMATTED, reason=type(error).__name__, at=at)
        else:
            self._writer.put(line)


class ProblemHandler(logging.Handler):
    """Remembers warnings and errors for the status page.

    Args:
        problems: where.
    """

    def __init__(self, problems: Problems) -> None:
        super().__init__(logging.WARNING)
        self._problems = problems

    def emit(self, record: logging.LogRecord) -> None:
        """Take a line. One that cannot be told raises nothing where it was logged: the log has it, or says so."""
        with suppress(Exception):
            self._problems.note(Problem(time.time(), record.levelname.lower(), _describe(record)))


def _describe(record: logging.LogRecord) -> str:
    """Structlog's lines have fields, others are text. A worker in them is none of the edge's."""
    if isinstance(record.msg, dict) and hasattr(record, "_logger"):  # as structlog's formatter knows its own
        return describe_problem(str(record.msg["event"]), record.msg)
    text = str(record.msg)
    return describe_problem(leave_out_arguments(text) if record.args else text, {})


def is_on_terminal() -> bool:
    """Whether stderr is a terminal, and one that does what escape sequences say."""
    return sys.stderr is not None and sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


def _has_colors(writer: LogWriter | None) -> bool:
    """Unless whoever sits there wants none (https://no-color.org)."""
    return (writer is None or not writer.has_file) and is_on_terminal() and not os.environ.get("NO_COLOR")
