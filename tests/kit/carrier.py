"""What a connection does for one exchange, in memory: a carrier that keeps what it is given."""

from __future__ import annotations

from collections.abc import Iterable

from sage_edge.app.exchange import Exchange


class RecordingCarrier:
    """A carrier whose client reads all there is.

    Attributes:
        status: of the answer.
        fields: of its head.
        pieces: of its body.
        has_ended: the last of them came.
        is_aborted: it was cut.
        exchange: where set, is told what it has taken.
    """

    def __init__(self) -> None:
        self.status = 0
        self.fields: list[tuple[bytes, bytes]] = []
        self.pieces: list[bytes] = []
        self.has_ended = False
        self.is_aborted = False
        self.exchange: Exchange | None = None

    def start(self, status: int, fields: Iterable[tuple[bytes, bytes]], *, is_last: bool) -> None:
        self.status, self.fields, self.has_ended = status, list(fields), is_last

    def write(self, data: bytes, *, is_last: bool) -> None:
        self.pieces.append(data)
        if self.exchange is not None:
            self.exchange.note_waiting(len(data))
            self.exchange.note_written(len(data))
        self.has_ended = is_last

    def trail(self, fields: Iterable[tuple[bytes, bytes]]) -> None:
        self.has_ended = True

    def credit(self, size_bytes: int) -> None:
        pass

    def abort(self) -> None:
        self.is_aborted = True
