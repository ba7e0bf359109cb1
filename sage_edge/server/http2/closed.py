"""Streams that have ended, for as long as frames may still arrive on them (RFC 9113 section 5.1)."""

from __future__ import annotations

from collections import OrderedDict
from enum import Enum, auto

REMEMBERED_STREAMS = 256
"""How many are told apart."""


class Ending(Enum):
    """How a stream came to its end, and so what a frame means that still arrives on it."""

    BOTH_ENDED = auto()
    CLIENT_RESET = auto()
    SERVER_RESET = auto()


class ClosedStreams:
    """The latest of one connection's."""

    def __init__(self) -> None:
        self._endings: OrderedDict[int, Ending] = OrderedDict()

    def note(self, stream_id: int, ending: Ending) -> None:
        """A stream has ended."""
        self._endings[stream_id] = ending
        if len(self._endings) > REMEMBERED_STREAMS:
            self._endings.popitem(last=False)

    def find(self, stream_id: int) -> Ending | None:
        """How it has ended; None where that is forgotten, or it was never opened."""
        return self._endings.get(stream_id)
