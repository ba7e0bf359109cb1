"""An exchange by itself: what the server puts in, what the application's side is given, and who waits when."""

from __future__ import annotations

import weakref
from typing import Any

import pytest
import trio
import trio.testing

from sage_edge.app.exchange import EXCHANGE, HIGH_WATER_BYTES, LOW_WATER_BYTES, take_exchange
from sage_edge.core.exchange import ClientDisconnectedError, Message, UnexpectedMessageError
from tests.kit.asgi_calls import (
    ANSWER,
    HTTP_DISCONNECT,
    WEBSOCKET_DISCONNECT,
    http_scope,
    request,
    response_body,
    response_start,
    websocket_scope,
)
from tests.kit.exchange import UNSENDABLE, RecordingExchange

MESSAGES: list[Message] = [{"type": "websocket.receive", "text": text} for text in "abc"]


class Sink:
    """A sink that keeps what it is given."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.restored_bytes: list[int] = []

    def deliver(self, message: Message) -> None:
        self.messages.append(message)

    def restore(self, size_bytes: int) -> None:
        self.restored_bytes.append(size_bytes)


class Task:
    """A call that runs beside a test."""

    def __init__(self, nursery: trio.Nursery, function: Any, *arguments: Any) -> None:
        self.has_returned = False
        self.result: Any = None
        nursery.start_soon(self._run, function, *arguments)

    async def _run(self, function: Any, *arguments: Any) -> None:
        try:
            self.result = await function(*arguments)
        except OSError as error:
            self.result = error
        self.has_returned = True


async def settle() -> None:
    await trio.testing.wait_all_tasks_blocked()


class TestScope:
    def test_the_layers_find_the_exchange_in_the_scope_and_an_application_does_not(self) -> None:
        scope = http_scope()
        exchange = RecordingExchange(scope=scope)
        assert scope[EXCHANGE] is exchange.scope[EXCHANGE] is exchange
        local, taken = take_exchange(scope)
        assert taken is exchange
        assert local == http_scope()
        assert scope[EXCHANGE] is exchange, "the layers above still need it"

    def test_a_caller_that_is_no_server_of_the_edge_has_none(self) -> None:
        scope = http_scope()
        local, taken = take_exchange(scope)
        assert taken is None
        assert local == scope
        assert local is not scope


class TestReceive:
    async def test_messages_come_in_order_and_are_consumed_as_they_are_taken(self) -> None:
        exchange = RecordingExchange(request(b"ab", more_body=True), request(b"cde"))
        assert await exchange.receive() == request(b"ab", more_body=True)
        assert exchange.consumed_bytes == 2
        assert await exchange.receive() == request(b"cde")
        assert exchange.consumed_bytes == 5

    async def test_a_message_without_a_body_costs_nothing(self) -> None:
        def fail(size_bytes: int) -> None:
            raise AssertionError

        exchange = RecordingExchange(request())
        exchange.consume = fail  # type: ignore[method-assign]
        assert await exchange.receive() == request()

    async def test_it_waits_for_a_message(self, nursery: trio.Nursery) -> None:
        exchange = RecordingExchange()
        receiving = Task(nursery, exchange.receive)
        await settle()
        assert not receiving.has_returned
        exchange.put(request(b"a"))
        await settle()
        assert receiving.result == request(b"a")

    async def test_each_message_goes_to_one_of_those_who_wait(self, nursery: trio.Nursery) -> None:
        exchange = RecordingExchange()
        receiving = [Task(nursery, exchange.receive) for _ in range(3)]
        await settle()
        exchange.put(request(b"a", more_body=True))
        await settle()
        assert sum(task.has_returned for task in receiving) == 1
        exchange.put(request(b"b", more_body=True), request(b"c"))
        await settle()
        assert sorted(task.result["body"] for task in receiving) == [b"a", b"b", b"c"]

    async def test_the_disconnect_overtakes_a_body_and_can_be_taken_any_number_of_times(self) -> None:
        exchange = RecordingExchange(request(b"a", more_body=True), HTTP_DISCONNECT)
        assert [await exchange.receive() for _ in range(3)] == [HTTP_DISCONNECT] * 3

    async def test_a_websockets_messages_come_before_its_disconnect(self) -> None:
        exchange = RecordingExchange(*MESSAGES, WEBSOCKET_DISCONNECT, scope=websocket_scope())
        received = [await exchange.receive() for _ in range(5)]
        assert received == [*MESSAGES, WEBSOCKET_DISCONNECT, WEBSOCKET_DISCONNECT]

    async def test_after_a_complete_answer_there_is_a_disconnect_and_no_more_of_the_body(self) -> None:
        exchange = RecordingExchange(request(b"a"))
        for message in ANSWER:
            await exchange.send(message)
        assert [await exchange.receive() for _ in range(2)] == [HTTP_DISCONNECT, HTTP_DISCONNECT]

    async def test_who_waits_when_the_answer_becomes_complete_is_given_a_disconnect(
        self, nursery: trio.Nursery
    ) -> None:
        exchange = RecordingExchange()
        receiving = Task(nursery, exchange.receive)
        await settle()
        for message in ANSWER:
            exchange.write(message)
        await settle()
        has_returned = receiving.has_returned
        nursery.cancel_scope.cancel()
        assert has_returned
        assert receiving.result == HTTP_DISCONNECT

    async def test_polling_for_a_disconnect_leaves_nothing_behind(self) -> None:
        # As Starlette's is_disconnected() does, between two tokens of an answer.
        events: weakref.WeakSet[trio.Event] = weakref.WeakSet()

        def new_event() -> trio.Event:
            event = trio.Event()
            events.add(event)
            return event

        exchange = RecordingExchange(new_event=new_event)
        for _ in range(100):
            with trio.CancelScope() as polling:
                polling.cancel()
                await exchange.receive()
        assert len(events) <= 1

    async def test_a_body_that_its_client_withholds_is_asked_for_once(self, nursery: trio.Nursery) -> None:
        asked: list[bool] = []
        exchange = RecordingExchange(request(b"a", more_body=True))
        exchange.want = lambda: asked.append(True)
        await exchange.receive()
        assert asked == [], "there was something to take"
        for _ in range(3):
            receiving = Task(nursery, exchange.receive)
            await settle()
            exchange.put(request(b"b", more_body=True))
            await settle()
            assert receiving.has_returned
        assert asked == [True]


class TestSend:
    async def test_a_message_is_written_at_once(self) -> None:
        exchange = RecordingExchange()
        await exchange.send(response_start())
        assert exchange.types == ["http.response.start"]

    @pytest.mark.parametrize(("size_bytes", "waits"), [(HIGH_WATER_BYTES, False), (HIGH_WATER_BYTES + 1, True)])
    async def test_it_waits_while_more_than_the_high_water_mark_waits(
        self, nursery: trio.Nursery, size_bytes: int, waits: bool
    ) -> None:
        exchange = RecordingExchange()
        exchange.block()
        await exchange.send(response_start())
        sending = Task(nursery, exchange.send, response_body(bytes(size_bytes), more_body=True))
        await settle()
        assert sending.has_returned is not waits
        exchange.unblock()
        await settle()
        assert sending.has_returned

    @pytest.mark.parametrize(("left_bytes", "goes_on"), [(LOW_WATER_BYTES + 1, False), (LOW_WATER_BYTES, True)])
    async def test_it_goes_on_at_the_low_water_mark(
        self, nursery: trio.Nursery, left_bytes: int, goes_on: bool
    ) -> None:
        exchange = RecordingExchange()
        await exchange.send(response_start())
        exchange.note_waiting(HIGH_WATER_BYTES + 1)
        sending = Task(nursery, exchange.send, response_body(b"a", more_body=True))
        await settle()
        assert exchange.body == b"", "what waited before it comes first"
        exchange.note_written(HIGH_WATER_BYTES + 1 - left_bytes)
        await settle()
        assert sending.has_returned is goes_on
        exchange.note_written(left_bytes)
        await settle()
        assert sending.has_returned

    async def test_all_who_wait_go_on(self, nursery: trio.Nursery) -> None:
        exchange = RecordingExchange()
        await exchange.send(response_start())
        exchange.note_waiting(HIGH_WATER_BYTES + 1)
        sending = [Task(nursery, exchange.send, response_body(b"a", more_body=True)) for _ in range(3)]
        await settle()
        exchange.note_written(HIGH_WATER_BYTES + 1)
        await settle()
        assert all(task.has_returned for task in sending)
        assert exchange.body == b"aaa"

    async def test_a_message_that_is_given_up_while_it_waits_was_sent_and_the_next_one_waits(
        self, nursery: trio.Nursery
    ) -> None:
        exchange = RecordingExchange()
        exchange.block()
        await exchange.send(response_start())
        with trio.CancelScope() as sending:
            sending.cancel()
            await exchange.send(response_body(bytes(HIGH_WATER_BYTES + 1), more_body=True))
        following = Task(nursery, exchange.send, response_body(b"next"))
        await settle()
        assert exchange.sent_bytes == HIGH_WATER_BYTES + 1
        exchange.unblock()
        await settle()
        assert following.has_returned
        assert exchange.body == bytes(HIGH_WATER_BYTES + 1) + b"next"

    async def test_who_waits_when_the_client_leaves_is_told(self, nursery: trio.Nursery) -> None:
        exchange = RecordingExchange()
        exchange.block()
        await exchange.send(response_start())
        sending = Task(nursery, exchange.send, response_body(bytes(HIGH_WATER_BYTES + 1), more_body=True))
        await settle()
        exchange.lose_client()
        await settle()
        assert isinstance(sending.result, ClientDisconnectedError)

    async def test_who_waits_with_the_end_of_an_answer_of_announced_length_when_the_client_leaves_is_not(
        self, nursery: trio.Nursery
    ) -> None:
        exchange = RecordingExchange()
        exchange.block()
        length = HIGH_WATER_BYTES + 1
        await exchange.send(response_start(headers=[(b"content-length", b"%d" % length)]))
        sending = Task(nursery, exchange.send, response_body(bytes(length), more_body=True))
        await settle()
        exchange.lose_client()
        await settle()
        assert sending.has_returned
        assert sending.result is None
        await exchange.send(response_body())

    async def test_it_raises_oserror_once_the_client_has_gone(self) -> None:
        exchange = RecordingExchange(HTTP_DISCONNECT)
        with pytest.raises(OSError, match="the client disconnected"):
            await exchange.send(response_start())

    async def test_after_a_delivered_answer_a_client_that_has_gone_is_no_error(self) -> None:
        exchange = RecordingExchange()
        await exchange.send(response_start(headers=[(b"content-length", b"1")]))
        await exchange.send(response_body(b"a", more_body=True))
        exchange.lose_client()
        await exchange.send(response_body())
        assert exchange.types == ["http.response.start", "http.response.body"]

    async def test_what_is_out_of_order_or_cannot_be_sent_is_refused(self) -> None:
        exchange = RecordingExchange()
        with pytest.raises(UnexpectedMessageError):
            await exchange.send(response_body())
        with pytest.raises(ValueError, match="cannot be sent"):
            await exchange.send(UNSENDABLE)
        await exchange.send(response_start(500))
        assert exchange.status == 500


class TestAttach:
    def test_a_sink_is_given_what_has_come_and_all_that_will(self) -> None:
        exchange, sink = RecordingExchange(request(b"a", more_body=True)), Sink()
        exchange.attach(sink)
        assert sink.messages == [request(b"a", more_body=True)]
        exchange.put(request(b"b"), HTTP_DISCONNECT)
        assert sink.messages == [request(b"a", more_body=True), request(b"b"), HTTP_DISCONNECT]

    def test_a_client_that_left_before_is_told_of_once_and_instead_of_its_body(self) -> None:
        exchange, sink = RecordingExchange(request(b"a"), HTTP_DISCONNECT), Sink()
        exchange.attach(sink)
        assert sink.messages == [HTTP_DISCONNECT]

    def test_all_that_a_websocket_sent_before_it_left_comes_before_its_disconnect(self) -> None:
        exchange, sink = RecordingExchange(*MESSAGES, WEBSOCKET_DISCONNECT, scope=websocket_scope()), Sink()
        exchange.attach(sink)
        assert sink.messages == [*MESSAGES, WEBSOCKET_DISCONNECT]

    def test_it_is_told_of_all_that_is_written(self) -> None:
        exchange, sink = RecordingExchange(), Sink()
        exchange.attach(sink)
        exchange.note_waiting(10)
        exchange.note_written(3)
        exchange.note_written(7)
        assert sink.restored_bytes == [3, 7]

    def test_attaching_consumes_nothing(self) -> None:
        exchange = RecordingExchange(request(b"a"))
        exchange.attach(Sink())
        assert exchange.consumed_bytes == 0, "that is the sink's to say"


class TestWhenDone:
    def test_those_who_asked_are_called_once_in_order_when_the_answer_is_complete(self) -> None:
        calls: list[int] = []
        exchange = RecordingExchange()
        exchange.when_done(lambda _: calls.append(1))
        exchange.when_done(lambda _: calls.append(2))
        exchange.write(response_start())
        assert calls == []
        exchange.write(response_body())
        assert calls == [1, 2]
        exchange.end()
        assert calls == [1, 2]

    def test_those_who_asked_are_called_at_the_end_where_the_answer_is_not_complete(self) -> None:
        calls: list[int] = []
        exchange = RecordingExchange()
        exchange.when_done(lambda _: calls.append(1))
        exchange.lose_client()
        assert calls == [], "the application may still go on"
        exchange.end()
        assert calls == [1]

    def test_a_callback_may_ask_again(self) -> None:
        calls: list[int] = []
        exchange = RecordingExchange()
        exchange.when_done(lambda _: exchange.when_done(lambda _: calls.append(1)))
        exchange.finish()
        assert calls == []
        exchange.finish()
        assert calls == [1]


class TestLoseClient:
    @pytest.mark.parametrize(
        ("sent", "is_abandoned"),
        [
            ([], True),
            ([response_start()], True),
            ([response_start(), response_body(b"a", more_body=True)], True),
            ([response_start(headers=[(b"content-length", b"1")]), response_body(b"a", more_body=True)], False),
            (ANSWER, False),
        ],
    )
    def test_an_application_whose_answer_is_not_delivered_is_cancelled_later(
        self, sent: list[Message], is_abandoned: bool
    ) -> None:
        cancelled: list[bool] = []
        exchange = RecordingExchange()
        exchange.cancel_later = lambda: cancelled.append(True)
        for message in sent:
            exchange.write(message)
        assert not exchange.is_abandoned
        exchange.lose_client()
        assert exchange.is_client_gone
        assert exchange.is_abandoned == is_abandoned
        assert exchange.has_ended_well is not is_abandoned
        assert cancelled == [True] * is_abandoned

    def test_a_client_leaves_once(self) -> None:
        cancelled: list[bool] = []
        exchange, sink = RecordingExchange(), Sink()
        exchange.attach(sink)
        exchange.cancel_later = lambda: cancelled.append(True)
        exchange.lose_client()
        exchange.lose_client()
        assert cancelled == [True]
        assert sink.messages == [HTTP_DISCONNECT]

    def test_without_anybody_who_runs_the_application_nobody_is_told(self) -> None:
        exchange = RecordingExchange()
        exchange.lose_client()
        assert exchange.is_abandoned

    def test_what_is_written_afterwards_is_dropped(self) -> None:
        exchange = RecordingExchange()
        exchange.lose_client()
        exchange.write(response_start())
        assert exchange.sent == []
