"""The last things that went wrong, for the status page: a few short lines.

Of what clients sent, the edge's own lines have a request's path, without its query, and no more. The gateway's say
what it logs, but for what its patterns are filled with.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Self

from sage_edge.core.printable import escape_unprintable

KEPT = 50
"""So many are remembered; as many wait to be told to the supervisor."""
LONGEST_TEXT = 300

_CONVERSION = re.compile(r"%(?:\(\w++\))?[-#0 +]*+(?:\d++|\*)?(?:\.(?:\d++|\*))?[hlL]?[a-zA-Z%]")
"""Of printf's style. It never tries a second way to match (possessive repeats): a gateway's pattern may hold what a
client sent."""


@dataclass(frozen=True)
class Problem:
    """One warning or error of the log.

    Attributes:
        at: Unix time, in seconds.
        level: warning, error or critical.
        text: the line's event, and its reason.
        worker: the number of the worker it comes from, or is about; None for the edge itself. Never what a gateway
            calls so.
        count: how many times; the time is the latest.
    """

    at: float
    level: str
    text: str
    worker: int | None = None
    count: int = 1

    def as_message(self) -> Mapping[str, Any]:
        """As JSON has it."""
        return asdict(self)

    @classmethod
    def from_message(cls, message: Mapping[str, Any]) -> Self:
        """From JSON, whatever else a later version says in it."""
        known = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in message.items() if name in known})


class Problems:
    """The latest of a process, or of all workers."""

    def __init__(self) -> None:
        self._latest: deque[Problem] = deque(maxlen=KEPT)
        self._untold: deque[Problem] = deque(maxlen=KEPT)

    @property
    def latest(self) -> Sequence[Problem]:
        """The latest first, those that say the same as one."""
        merged: dict[tuple[str, str, int | None], Problem] = {}
        for problem in sorted(self._latest, key=lambda problem: problem.at):
            what = (problem.level, problem.text, problem.worker)
            before = merged.pop(what, None)
            merged[what] = problem if before is None else replace(problem, count=before.count + problem.count)
        return list(reversed(merged.values()))

    def note(self, problem: Problem) -> None:
        """Remember one. Any thread may."""
        self._latest.append(problem)
        self._untold.append(problem)

    def take_untold(self) -> Sequence[Problem]:
        """Those since the last time."""
        taken = []
        while self._untold:
            taken.append(self._untold.popleft())
        return taken


def leave_out_arguments(pattern: str) -> str:
    """The pattern of a line of the `logging` module, without what is filled in: that may be a client's."""
    return _CONVERSION.sub(lambda match: "%" if match[0] == "%%" else "…", pattern)


def describe_problem(event: str, values: Mapping[str, Any]) -> str:
    """The text of a log line: what happened, why, and on which path. Nothing else of it: the log has the rest."""
    reason = values.get("reason")
    error = values.get("exc_info")
    if reason is None and isinstance(error, BaseException):
        reason = type(error).__name__  # what it says may be a client's
    text = event if reason is None else f"{event}: {reason}"
    if "path" in values:
        text += f" ({values['path']})"
    text = escape_unprintable(text)
    return text if len(text) <= LONGEST_TEXT else text[: LONGEST_TEXT - 1] + "…"
