"""What the edge logs in a test's own process."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

from sage_edge.core.logger import Level, add_bound_fields, send_lines


@contextmanager
def captured_logs(*, has_context: bool = False) -> Iterator[list[MutableMapping[str, Any]]]:
    """The fields of each line, its level among them.

    Args:
        has_context: those that the edge has bound to the context, too.
    """
    entries: list[MutableMapping[str, Any]] = []

    def take_line(logger: str, level: Level, fields: dict[str, Any]) -> None:
        if has_context:
            add_bound_fields(fields)
        entries.append({**fields, "log_level": level})

    before = send_lines(take_line)
    try:
        yield entries
    finally:
        send_lines(before)
