"""The edge's signals: which SIGTERM or SIGINT is a second one, and what all of them do while nobody receives them.

That is before the edge's loop runs, and after it has. What they mean to an edge that serves is `server.run`'s,
`server.hang_up`'s and `server.supervisor`'s.
"""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType

ENDING = (signal.SIGTERM, signal.SIGINT)
NOT_ENDING = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
"""What asks something of an edge that serves, and nothing of any other."""
REPEAT_SECONDS = 0.3
"""For how long after the first one others are the same: `timeout` signals its child and then the child's group, and
what wraps a command on a terminal passes on the interrupt that the terminal has sent to all. Far longer than between
these, and shorter than a person takes to ask again."""
HINT = "a second signal ends at once"
"""What the log says of the first."""


class EndedBySignal(BaseException):  # not an Exception, so that a gateway's module lets it pass
    """Raised in the middle of whatever is being prepared; its text is the signal's name."""


class RepeatedSignals:
    """Tells a second signal from a first that comes several times."""

    def __init__(self) -> None:
        self._first_at: float | None = None

    def note(self, now: float) -> bool:
        """Whether one that comes now is the first again, and so means nothing more.

        Args:
            now: seconds of a monotonic clock.
        """
        if self._first_at is None:
            self._first_at = now
            return False
        return now - self._first_at < REPEAT_SECONDS


class EarlySignals:
    """Handles the edge's signals from here on, for the main thread.

    SIGTERM and SIGINT raise `EndedBySignal` from `begin_to_prepare` until `begin_to_serve`: nothing has been served
    that could be finished. Before that they are kept for it, and afterwards for the loop, which has them delivered once
    it receives signals. After the loop they are kept and do nothing, since the process ends already, with an exit code
    that is not to be the signal's. The others do nothing where no loop receives them.
    """

    def __init__(self) -> None:
        self._is_preparing = False
        self._kept: signal.Signals | None = None
        self._repeated = RepeatedSignals()
        for number in ENDING:
            signal.signal(number, self._handle)
        for number in NOT_ENDING:  # a handler, and not SIG_IGN, which a gateway's children would inherit
            signal.signal(number, lambda *_: None)

    def begin_to_prepare(self) -> None:
        """Raise SIGTERM and SIGINT; called once the log can tell of it.

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
        is_repeated = self._repeated.note(time.monotonic())
        self._kept = signal.Signals(number)  # also where it is raised: a gateway's module may swallow anything
        if self._is_preparing and not is_repeated:  # what it was raised in may be ending now
            raise EndedBySignal(self._kept.name)


def ignore_signals() -> None:
    """For the very end: the interpreter puts handlers of Python's back to what ends a process."""
    if threading.current_thread() is threading.main_thread():  # no other may, nor meets a signal
        for number in ENDING + NOT_ENDING:
            signal.signal(number, signal.SIG_IGN)
