"""What the edge logs in a test's own process."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

from structlog.contextvars import merge_contextvars

from sage_edge.core.logger import Level, send_lines


@contextmanager
def captured_logs(*, has_context: bool = False) -> Iterator[list[MutableMapping[str, Any]]]:
    """The fields of each line, its level among them.

    Args:
        has_context: those that are bound to the context, too.
    """
    entries: list[MutableMapping[str, Any]] = []

    def take_line(logger: str, level: Level, fields: dict[str, Any]) -> None:
        entries.append({**fields, "log_level": level})
        if has_context:
            merge_contextvars(None, level, entries[-1])

    before = send_lines(take_line)
    try:
        yield entries
    finally:
        send_lines(before)
