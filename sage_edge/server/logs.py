"""How log lines look and where they go: the edge's own, the gateway's and libraries' in one place."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import structlog
from structlog.stdlib import ProcessorFormatter
from structlog.typing import EventDict, Processor, ProcessorReturnValue

from sage_edge.app.access_log import ACCESS_LOG
from sage_edge.core.errors import ExitCode, Fault, reason_of
from sage_edge.core.problems import Problem, Problems, describe_problem, leave_out_arguments
from sage_edge.core.settings import Settings
from sage_edge.server.log_lines import TextRenderer, render_json
from sage_edge.server.log_writer import LogWriter


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
    configure_logs(settings.log_level, settings.log_format, writer)
    access_log = logging.getLogger(ACCESS_LOG)
    access_log.disabled = not settings.access_log
    try:
        yield writer, []
    finally:
        access_log.disabled = False
        root.handlers[:] = before
        writer.close()


def configure_logs(level: str, line_format: Literal["text", "json"], writer: LogWriter | None = None) -> None:
    """Send every log line to one place in one format.

    Set up before a gateway is imported: `logging.basicConfig` in it then does nothing.

    Args:
        level: the least severe level that is logged: debug, info, warning or error.
        line_format: text, coloured on a terminal, or json, one object a line.
        writer: takes the lines; None writes them to stderr at once.
    """
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    render: Processor = render_json if line_format == "json" else TextRenderer(has_colors=_is_terminal(writer))
    formatter = ProcessorFormatter(
        foreign_pre_chain=shared,
        # A traceback is without the values of variables: clients' keys are among them.
        processors=[ProcessorFormatter.remove_processors_meta, structlog.processors.format_exc_info, render],
    )
    handler = logging.StreamHandler(sys.stderr) if writer is None else writer
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler] if writer is None else [handler, ProblemHandler(writer.problems)]
    root.setLevel(level.upper())
    wrap = ProcessorFormatter.wrap_for_formatter if writer is None else _Shortcut(writer, render, root)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.PositionalArgumentsFormatter(),
            wrap,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


class _Shortcut:
    """The last step of a line of the edge's: to the `logging` module, or for one of the access log, to the writer.

    Each request has one, and a record of that module costs more than all else. Whoever else listens there gets it.

    Args:
        writer: one of the root's handlers.
        render: makes the line, as the writer's formatter does.
        root: whose handlers are ours.
    """

    def __init__(self, writer: LogWriter, render: Processor, root: logging.Logger) -> None:
        self._writer = writer
        self._render = render
        self._root = root
        self._handlers = root.handlers[:]

    def __call__(self, logger: Any, method: str, fields: EventDict) -> ProcessorReturnValue:
        """Take a line that is to be logged."""
        if (
            logger.name != ACCESS_LOG
            or method != "info"
            or logger.filters
            or logger.handlers
            or self._root.handlers != self._handlers
        ):
            return ProcessorFormatter.wrap_for_formatter(logger, method, fields)
        self._writer.put(str(self._render(logger, method, fields)))
        raise structlog.DropEvent


class ProblemHandler(logging.Handler):
    """Remembers warnings and errors for the status page.

    Args:
        problems: where.
    """

    def __init__(self, problems: Problems) -> None:
        super().__init__(logging.WARNING)
        self._problems = problems

    def emit(self, record: logging.LogRecord) -> None:
        """Take a line: the edge's own have fields, others are text."""
        if isinstance(record.msg, dict):
            fields = record.msg
            text = describe_problem(str(fields["event"]), fields)
            worker = fields.get("worker")
        else:
            text, worker = str(record.msg), None
            text = describe_problem(leave_out_arguments(text) if record.args else text, {})
        self._problems.note(Problem(record.created, record.levelname.lower(), text, worker))


def _is_terminal(writer: LogWriter | None) -> bool:
    return (writer is None or not writer.has_file) and sys.stderr is not None and sys.stderr.isatty()
