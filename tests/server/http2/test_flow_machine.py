"""Any order of what clients and applications do: windows hold, and every byte arrives in order and once.

The client checks each frame against its windows as it comes (`tests.kit.http2_client`).
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from sage_edge.app.exchange import Exchange
from tests.kit.http2_client import Answer, HTTP2Client
from tests.kit.http2_frames import (
    CANCEL,
    FRAME_BYTES,
    INITIAL_WINDOW_SIZE,
    INTERNAL_ERROR,
    NO_ERROR,
    data_frame,
    headers_frame,
    ping_frame,
    reset_frame,
    settings_frame,
    window_frame,
)
from tests.kit.protocol_host import body, read_body, start

PATTERN = Random(9113).randbytes(2**20)  # noqa: S311
"""What every body is a beginning of, so that a byte lost, doubled or moved is seen."""
STREAM_WINDOW_BYTES = 70_000
CONNECTION_WINDOW_BYTES = 150_000
MAX_STREAMS = 4

sizes = st.sampled_from([0, 1, 7, 1000, 16_384, 16_385, 40_000])
increments = st.sampled_from([1, 100, 16_384, 60_000])
whims = st.integers(0, 2**16)


@dataclass
class Call:
    """A stream, from both ends."""

    stream_id: int
    exchange: Exchange
    uploaded_bytes: int = 0
    read: bytes = b""
    written_bytes: int = 0
    has_client_ended: bool = False
    has_started: bool = False
    has_answered: bool = False
    has_trailers: bool = False
    has_application_ended: bool = False
    is_reset: bool = False
    was_cut: bool = False


class FlowMachine(RuleBasedStateMachine):
    """A connection with a few streams."""

    def __init__(self) -> None:
        super().__init__()
        self.client = HTTP2Client(
            stream_window_bytes=STREAM_WINDOW_BYTES,
            connection_window_bytes=CONNECTION_WINDOW_BYTES,
            max_streams=MAX_STREAMS,
        )
        self.calls: list[Call] = []

    def answer(self, call: Call) -> Answer:
        return self.client.answers.get(call.stream_id, Answer())

    def is_open(self, call: Call) -> bool:
        """Whether the client may still send on it."""
        return not (call.has_client_ended or call.is_reset or self.answer(call).reset_code is not None)

    def is_running(self, call: Call) -> bool:
        return not (call.has_application_ended or call.exchange.is_client_gone)

    def choose(self, calls: list[Call], whim: int) -> Call | None:
        return calls[whim % len(calls)] if calls else None

    def has_room(self) -> bool:
        """Whether one more stream would be served; applications that outlive theirs take no place."""
        return sum(self.is_open(call) or self.is_answering(call) for call in self.calls) < MAX_STREAMS

    def is_answering(self, call: Call) -> bool:
        answer = self.answer(call)
        return not (call.is_reset or answer.has_ended or answer.reset_code is not None)

    # The client.

    @precondition(lambda self: self.has_room())
    @rule(has_body=st.booleans())
    def open(self, has_body: bool) -> None:
        self.client.take()  # so that both ends know what is open
        stream_id, exchange = self.client.ask(method=b"POST", end=not has_body)
        self.calls.append(Call(stream_id, exchange, has_client_ended=not has_body))

    @rule(whim=whims, size=sizes, end=st.booleans(), pad=st.sampled_from([None, None, 0, 200]))
    def upload(self, whim: int, size: int, end: bool, pad: int | None) -> None:
        self.client.take()
        call = self.choose([call for call in self.calls if self.is_open(call)], whim)
        if call is None:
            return
        padding = 0 if pad is None else pad + 1
        room = min(self.client.room_bytes, self.client.rooms[call.stream_id], FRAME_BYTES) - padding
        size = min(size, room)
        if size < 0 or (not size and not end):
            return
        data = PATTERN[call.uploaded_bytes :][:size]
        call.uploaded_bytes += size
        call.has_client_ended = end
        self.client.send(data_frame(call.stream_id, data, end=end, pad=pad))

    @rule(whim=whims)
    def end_upload_with_trailers(self, whim: int) -> None:
        self.client.take()
        if call := self.choose([call for call in self.calls if self.is_open(call)], whim):
            call.has_client_ended = True
            self.client.send(headers_frame(call.stream_id, b"\x00\x01a\x01b"))

    @rule(whim=whims, increment=increments)
    def credit_stream(self, whim: int, increment: int) -> None:
        if call := self.choose(self.calls, whim):
            self.client.send(window_frame(call.stream_id, increment))

    @rule(increment=increments)
    def credit_connection(self, increment: int) -> None:
        self.client.send(window_frame(0, increment))

    @rule(size=st.sampled_from([0, 1, 1000, 65_535, 100_000]))
    def change_windows(self, size: int) -> None:
        self.client.send(settings_frame((INITIAL_WINDOW_SIZE, size)))

    @rule(whim=whims)
    def reset(self, whim: int) -> None:
        if call := self.choose([call for call in self.calls if not call.is_reset], whim):
            call.is_reset = True
            self.client.send(reset_frame(call.stream_id, CANCEL))

    @rule()
    def ping(self) -> None:
        self.client.send(ping_frame())

    @rule(limit=st.sampled_from([1, 20_000, 65_536]))
    def take(self, limit: int) -> None:
        self.client.take(limit, is_once=True)

    # Applications.

    @rule(whim=whims)
    def read(self, whim: int) -> None:
        if call := self.choose([call for call in self.calls if self.is_running(call)], whim):
            call.read += read_body(call.exchange)

    @rule(whim=whims, size=sizes, end=st.booleans(), trailers=st.booleans())
    def write(self, whim: int, size: int, end: bool, trailers: bool) -> None:
        call = self.choose([call for call in self.calls if self.is_running(call) and not call.has_answered], whim)
        if call is None:
            return
        if not call.has_started:
            call.has_started = True
            call.has_trailers = trailers
            call.exchange.write(start(trailers=trailers))
        data = PATTERN[call.written_bytes :][:size]
        call.written_bytes += size
        call.exchange.write(body(data, more=not end))
        if end and call.has_trailers:
            call.exchange.write({"type": "http.response.trailers", "headers": [(b"a", b"b")]})
        call.has_answered = end

    @rule(whim=whims)
    def end_application(self, whim: int) -> None:
        if call := self.choose([call for call in self.calls if not call.has_application_ended], whim):
            call.has_application_ended = True
            call.was_cut = not call.has_answered and not call.exchange.is_client_gone
            self.client.connection.end(call.exchange)

    # What always holds.

    @invariant()
    def windows_and_accounts_hold(self) -> None:
        client = self.client
        assert not client.connection.wants_close
        assert 0 <= client.room_bytes <= CONNECTION_WINDOW_BYTES
        assert client.host.account.buffered_bytes >= 0
        for call in self.calls:
            answer = self.answer(call)
            assert len(answer.body) <= call.written_bytes
            assert answer.reset_code in (None, NO_ERROR, INTERNAL_ERROR)
            assert answer.reset_code != INTERNAL_ERROR or call.was_cut
            assert len(call.read) <= call.uploaded_bytes

    def teardown(self) -> None:
        """Let all that is under way come to its end, and count."""
        client = self.client
        client.send(settings_frame((INITIAL_WINDOW_SIZE, 2**30)), window_frame(0, 2**30))
        client.take()
        for call in self.calls:
            if self.is_open(call):
                call.has_client_ended = True
                client.send(data_frame(call.stream_id, b"", end=True))
            if self.is_running(call):
                call.read += read_body(call.exchange)
                if not call.has_started:
                    call.exchange.write(start())
                if not call.has_answered:
                    call.exchange.write(body())
                    if call.has_trailers:
                        call.exchange.write({"type": "http.response.trailers", "headers": []})
                    call.has_answered = True
                assert call.read == PATTERN[: call.uploaded_bytes] or self.answer(call).has_ended or call.is_reset
            if not call.has_application_ended:
                client.connection.end(call.exchange)
        client.take()
        for call in self.calls:
            answer = self.answer(call)
            assert answer.body == PATTERN[: len(answer.body)]
            assert call.read == PATTERN[: len(call.read)]
            if not call.is_reset and not call.was_cut:
                assert answer.has_ended
                assert len(answer.body) == call.written_bytes
                assert (answer.trailers is not None) == call.has_trailers
        assert client.connection.is_idle
        assert client.host.account.buffered_bytes == 0
        assert client.room_bytes > CONNECTION_WINDOW_BYTES * 3 // 4, "credit was kept back"
        assert client.goaway_code() is None


TestFlow = FlowMachine.TestCase
TestFlow.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
