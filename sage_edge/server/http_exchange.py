"""The HTTP side of an exchange: ASGI's response messages, turned into calls of its carrier.

What an answer may be is checked here, for both protocols, and for a request's answer as for a WebSocket's denial.
How it is framed is its carrier's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from time import time

from sage_edge.app.asgi import Scope
from sage_edge.app.exchange import Event, Exchange
from sage_edge.core.exchange import Cause, Message
from sage_edge.server.carrier import Carrier, NoCarrier

Fields = list[tuple[bytes, bytes]]

NO_CARRIER = NoCarrier()

LARGEST_STATUS = 599
"""Those above are invalid (RFC 9110 section 15)."""
LENGTHLESS_STATUSES = frozenset({204, 205})
"""Those without a body whose length is not the application's to say: 204 has none (RFC 9110 section 8.6), that of 205
is 0."""
TRAILERS_BYTES = 64 * 1024
"""How much is kept of trailers of which more are to come."""
TRAILER_OVERHEAD_BYTES = 32
"""What one counts for beside its bytes."""


class AnsweringExchange(Exchange):
    """What is answered by HTTP.

    Args:
        scope: ASGI's.
        new_event: what waits for it waits by.
        carrier: of the answer.
    """

    lowest_status = 200
    """Of a final answer; what is below is interim."""

    def __init__(self, scope: Scope, new_event: Callable[[], Event], carrier: Carrier) -> None:
        super().__init__(scope, new_event)
        self._carrier: Carrier = carrier

    def _begin_answer(self, message: Message) -> None:
        status = int(message["status"])
        if not self.lowest_status <= status <= LARGEST_STATUS:
            raise ValueError(f"{status} is not the status of a final response")
        fields, names = complete_named_fields(message.get("headers", ()), self.answer_fields)
        self.progress.note(message)
        self.status = status
        if status in LENGTHLESS_STATUSES:
            fields = [field for field in fields if bytes(field[0]).lower() != b"content-length"]
            if (
                status == HTTPStatus.RESET_CONTENT
            ):  # RFC 9112 section 6.3 does not end it at its head: its length is said
                fields.append((b"content-length", b"0"))
        if not self.is_client_gone:
            self._start(status, fields, names)

    def _write_between_events(self, data: bytes) -> None:
        if not (self.waiting_bytes or self.is_client_gone or self.progress.is_body_complete):
            self._carrier.write(data, is_last=False)

    def _start(self, status: int, fields: Fields, names: Mapping[bytes, bytes]) -> None:
        is_bodiless = self.progress.is_bodiless
        try:
            self._carrier.start(status, fields, is_last=is_bodiless)
        except Exception:
            self.progress.unstart()  # nothing was sent: the answer may be another
            self.status = 0
            raise
        if is_bodiless:
            self.expect_end()
        is_event_stream = not is_bodiless and _is_event_stream(names)
        self.timeline.note_start(is_event_stream=is_event_stream)
        if is_event_stream:
            if self.meter is not None:
                self.timeline.meter = self.meter.find_events(self)
            is_closed = b"content-encoding" in names or b"content-length" in names
            for callback in self._when_event_stream:
                callback(self, None if is_closed else self._write_between_events)

    def _write_body(self, message: Message) -> None:
        progress = self.progress
        progress.note_body(message)
        data = message.get("body", b"")
        if self.is_client_gone or progress.is_bodiless:
            return
        is_last = progress.is_complete
        if missing_bytes := progress.missing_bytes:
            if missing_bytes < 0:
                self._abort()
                raise ValueError("the body is longer than its content-length")
            if is_last:
                self._abort()  # its end would be a lie
                return
        if data or is_last:
            try:
                self._carrier.write(data, is_last=is_last)
            except Exception:
                self._abort()  # it may be noted as complete, and nobody would end it
                raise
            if data and self.timeline.is_event_stream:
                self.timeline.note_event()
                if self.note_event is not None:
                    self.note_event(data)

    def _trail(self, fields: Fields) -> None:
        if self.progress.missing_bytes:
            self._abort()  # its end would be a lie
            return
        try:
            self._carrier.trail(fields)
        except Exception:
            self._abort()
            raise

    def _abort(self) -> None:
        self.note_cause(Cause.ERROR)
        self._carrier.abort()


class HTTPExchange(AnsweringExchange):
    """A request, answered by ASGI's messages of an HTTP response."""

    def __init__(self, scope: Scope, new_event: Callable[[], Event], carrier: Carrier) -> None:
        super().__init__(scope, new_event, carrier)
        self._trailers: Fields | None = None  # those that came, where more are to come

    def write(self, message: Message) -> None:
        """Take a message of the answer."""
        kind = message["type"]
        if self.is_abandoned:
            return
        if kind == "http.response.body":
            self._write_body(message)
        elif kind == "http.response.start":
            self._begin_answer(message)
        elif kind == "http.response.trailers":
            self.progress.note(message)
            if not (self.is_client_gone or self.progress.is_bodiless):
                self._add_trailers(message.get("headers", ()))
        else:
            raise ValueError(f"{kind} is not a message of an HTTP response")
        if self.progress.is_complete:
            self.finish()

    def deliver_body(self, data: bytes, *, is_last: bool) -> None:
        """Take a piece of the request's body."""
        if is_last:
            self.timeline.note_received()
        self.deliver({"type": "http.request", "body": data, "more_body": not is_last})

    def end(self) -> None:
        """The application has ended; an incomplete answer is cut."""
        progress = self.progress
        if not (progress.is_complete or progress.is_bodiless or self.is_client_gone):
            self._abort()
        self.finish()
        self._carrier = NO_CARRIER

    def consume(self, size_bytes: int) -> None:
        """The application has taken so much of the body."""
        self.timeline.unread_since = None
        self._carrier.credit(size_bytes)

    def _add_trailers(self, fields: Fields) -> None:
        fields = [*(self._trailers or ()), *fields]
        if self.progress.is_complete:
            self._trail(fields)
        elif sum(TRAILER_OVERHEAD_BYTES + len(name) + len(value) for name, value in fields) > TRAILERS_BYTES:
            self._abort()
            raise ValueError("the trailers are too large")
        else:
            self._trailers = fields


def complete_fields(given: Fields, added: Sequence[tuple[bytes, bytes]] = ()) -> Fields:
    """An answer's fields with what is added where the application set none (RFC 9110 section 6.6.1).

    Args:
        given: by the application.
        added: more such fields, of the layers; their names are in lower case.
    """
    return complete_named_fields(given, added)[0]


def complete_named_fields(
    given: Fields, added: Sequence[tuple[bytes, bytes]] = ()
) -> tuple[Fields, Mapping[bytes, bytes]]:
    """The same, with the application's own by their names in lower case, the last of each."""
    fields = list(given)
    names = {bytes(name).lower(): value for name, value in fields}
    if b"date" not in names:
        fields.append((b"date", _date(int(time()))))
    fields += [field for field in added if field[0] not in names]
    if _is_event_stream(names):
        # A proxy in front must not collect events.
        if b"cache-control" not in names:
            fields.append((b"cache-control", b"no-cache"))
        if b"x-accel-buffering" not in names:
            fields.append((b"x-accel-buffering", b"no"))
    return fields, names


def _is_event_stream(names: Mapping[bytes, bytes]) -> bool:
    media_type, _, _ = bytes(names.get(b"content-type", b"")).partition(b";")
    return media_type.strip().lower() == b"text/event-stream"  # RFC 9110 section 8.3.1: in letters of any case


@lru_cache(maxsize=2)
def _date(seconds: int) -> bytes:
    return formatdate(seconds, usegmt=True).encode()
