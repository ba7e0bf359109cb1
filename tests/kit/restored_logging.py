"""The process's logging, put back as it was."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from sage_edge.core.logger import send_lines


@contextmanager
def restored_logging() -> Iterator[None]:
    """Undo what `configure_logs` does to the process."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    took_lines = send_lines(lambda *_: None)
    yield
    send_lines(took_lines)
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()
