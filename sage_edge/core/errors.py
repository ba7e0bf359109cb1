"""Every error a user can meet: what went wrong, what to do about it, and the exit code.

Foreign exceptions become one of these in exactly one place, next to the call that raises them.
Nothing here prints or exits; `sage_edge.cli` does.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum


class ExitCode(IntEnum):
    """The documented exit codes of every `sage-edge` command."""

    OK = 0
    NOT_READY = 1
    """`sage-edge probe`: the edge answered that it is not ready, or did not answer."""
    CONFIGURATION = 2
    STARTUP = 3


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong, with what to do about it.

    Attributes:
        what: the error in one line, naming the option or file concerned.
        hint: what to do about it, in one line; empty where `what` says it all.
        code: the exit code this fault asks for.
        cause: the exception behind it, shown at log level debug.
        setting: the settings field it concerns, if any; one fault is reported per field.
        involved: other settings without which it would be none; where one of those is faulty, this is not reported.
    """

    what: str
    hint: str = ""
    code: ExitCode = ExitCode.CONFIGURATION
    cause: BaseException | None = None
    setting: str | None = None
    involved: frozenset[str] = frozenset()


class EdgeError(Exception):
    """One or more faults that stop the edge from starting or a command from doing its work."""

    def __init__(self, *faults: Fault) -> None:
        if not faults:
            raise ValueError("an EdgeError needs at least one fault")
        super().__init__("; ".join(fault.what for fault in faults))
        self.faults: Sequence[Fault] = faults

    @property
    def exit_code(self) -> ExitCode:
        """CONFIGURATION (2) if any fault is one of usage or configuration, else STARTUP (3)."""
        return min(fault.code for fault in self.faults)


def reason_of(error: OSError) -> str:
    """Say in a few lower-case words why the system refused something."""
    if error.errno == errno.ENOENT:
        return "no such file"
    return (error.strerror or str(error)).lower()
