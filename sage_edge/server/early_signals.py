"""SIGTERM and SIGINT while nobody receives them: before the edge's loop runs, and after it has.

What they mean to an edge that serves is `server.run`'s and `server.supervisor`'s.
"""

from __future__ import annotations

import signal
from types import FrameType

ENDING = (signal.SIGTERM, signal.SIGINT)


class EndedBySignal(BaseException):  # not an Exception, so that a gateway's module lets it pass
    """Raised in the middle of whatever is being prepared; its text is the signal's name."""


class EarlySignals:
    """Handles these signals from here on, for the main thread.

    From `begin_to_prepare` until `begin_to_serve` they raise `EndedBySignal`: nothing has been served that could be
    finished. Before that they are kept for it, and afterwards for the loop, which has them delivered once it receives
    signals. After the loop they are kept and do nothing, since the process ends already, with an exit code that is not
    to be the signal's.
    """

    def __init__(self) -> None:
        self._is_preparing = False
        self._kept: signal.Signals | None = None
        for number in ENDING:
            signal.signal(number, self._handle)

    def begin_to_prepare(self) -> None:
        """Raise them; called once the log can tell of it.

        Raises:
            EndedBySignal: one has come already.
        """
        self._is_preparing = True
        if self._kept is not None:
            raise EndedBySignal(self._kept.name)

    def begin_to_serve(self) -> None:
        """Raise no more."""
        self._is_preparing = False

    def deliver(self) -> None:
        """Have a signal that was kept received. Called once somebody does."""
        kept, self._kept = self._kept, None
        if kept is not None:
            signal.raise_signal(kept)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._kept = signal.Signals(number)  # also where it is raised: a gateway's module may swallow anything
        if self._is_preparing:
            raise EndedBySignal(self._kept.name)


def ignore_ending_signals() -> None:
    """For the very end: the interpreter puts handlers of Python's back to what ends a process."""
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)
