"""The edge's own loggers, which share nothing with the gateway's.

Python's `logging` and structlog have one configuration each for a whole process, and a gateway sets them up as it
likes: what the edge says must not go where that sends it, wait for it, or fall silent with it. So each line is handed
to one function (`send_lines`). Nor must it tell what a gateway has bound to structlog's context variables, as one on
trio does in the very task whose end the edge tells: the edge has a variable of its own (`bind_fields`). How lines look
and where they go is `server.logs`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, MutableMapping
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any, Literal

Level = Literal["debug", "info", "warning", "error"]
TakeLine = Callable[[str, Level, dict[str, Any]], None]
"""Takes a logger's name, a level, and the fields, which are the taker's to change; `event` is what happened."""

_bound: ContextVar[Mapping[str, Any]] = ContextVar("sage_edge_log_fields", default=MappingProxyType({}))


class EdgeLogger:
    """Tells what happens in one part of the edge.

    Args:
        name: the module's, as a rule.
    """

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        self._name = name

    def debug(self, event: str, **fields: Any) -> None:
        """Tell what only helps to find a fault."""
        fields["event"] = event
        _take_line(self._name, "debug", fields)

    def info(self, event: str, **fields: Any) -> None:
        """Tell what is as it should be."""
        fields["event"] = event
        _take_line(self._name, "info", fields)

    def warning(self, event: str, **fields: Any) -> None:
        """Tell what someone should look at."""
        fields["event"] = event
        _take_line(self._name, "warning", fields)

    def error(self, event: str, **fields: Any) -> None:
        """Tell what has failed; with an exception as `exc_info`, its traceback, too."""
        fields["event"] = event
        _take_line(self._name, "error", fields)


def bind_fields(**fields: Any) -> None:
    """Have every line of this context say these, too, from now on."""
    _bound.set({**_bound.get(), **fields})


def add_bound_fields(fields: MutableMapping[str, Any]) -> None:
    """Add what is bound, for whoever takes a line: behind what it says itself, which counts."""
    for name, value in _bound.get().items():
        fields.setdefault(name, value)


def send_lines(take_line: TakeLine) -> TakeLine:
    """Have what every logger says taken by this from now on; what took it before."""
    global _take_line
    before, _take_line = _take_line, take_line
    return before


def _leave_to_logging(logger: str, level: Level, fields: dict[str, Any]) -> None:
    """Where nothing has been set up: Python's `logging` knows best what whoever runs this wants to see."""
    logging.getLogger(logger).log(logging.getLevelNamesMapping()[level.upper()], "%s", fields)


_take_line: TakeLine = _leave_to_logging
