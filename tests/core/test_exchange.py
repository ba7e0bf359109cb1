"""Bookkeeping of one request's messages: buffers, credit, and how far the answer is."""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from sage_edge.core.exchange import (
    MESSAGE_COST_BYTES,
    WINDOW_BYTES,
    ClientDisconnectedError,
    Inbox,
    Message,
    ReceiveWindow,
    SendWindow,
    body_bytes,
    message_cost_bytes,
    received_cost_bytes,
)

costs = st.one_of(
    st.integers(MESSAGE_COST_BYTES, 2 * WINDOW_BYTES),
    st.sampled_from([MESSAGE_COST_BYTES, WINDOW_BYTES // 2, WINDOW_BYTES // 2 + 1, WINDOW_BYTES, WINDOW_BYTES + 1]),
)


class Queue(RuleBasedStateMachine):
    """A producer and a consumer with credit that travels late, as between two threads."""

    def __init__(self) -> None:
        super().__init__()
        self.producer = SendWindow()
        self.consumer = ReceiveWindow()
        self.queue: deque[int] = deque()
        self.credits: deque[int] = deque()
        self.unreturned_bytes = 0
        self.largest_bytes = 0

    @precondition(lambda self: not self.producer.is_exhausted)
    @rule(cost=costs)
    def produce(self, cost: int) -> None:
        self.producer.spend(cost)
        self.queue.append(cost)
        self.largest_bytes = max(self.largest_bytes, cost)

    @precondition(lambda self: self.queue)
    @rule()
    def consume(self) -> None:
        cost = self.queue.popleft()
        self.unreturned_bytes += cost
        if credit := self.consumer.consume(cost):
            assert credit == self.unreturned_bytes, "credit is for what was consumed, no more and no less"
            self.credits.append(credit)
            self.unreturned_bytes = 0

    @precondition(lambda self: self.credits)
    @rule()
    def restore(self) -> None:
        self.producer.restore(self.credits.popleft())

    @invariant()
    def what_is_under_way_is_bounded(self) -> None:
        assert sum(self.queue) <= WINDOW_BYTES + self.largest_bytes

    @invariant()
    def the_producer_waits_exactly_while_the_window_is_overstepped(self) -> None:
        under_way = sum(self.queue) + self.unreturned_bytes + sum(self.credits)
        assert self.producer.is_exhausted == (under_way > WINDOW_BYTES)

    @invariant()
    def the_producer_never_waits_when_all_is_consumed(self) -> None:
        if not self.queue and not self.credits:
            assert not self.producer.is_exhausted


TestQueue = Queue.TestCase


def test_credit_returns_in_batches() -> None:
    window = ReceiveWindow()
    returned = [window.consume(MESSAGE_COST_BYTES) for _ in range(4 * WINDOW_BYTES // MESSAGE_COST_BYTES)]
    assert sum(credit > 0 for credit in returned) <= 16


@pytest.mark.parametrize(
    ("message", "cost_bytes"),
    [
        ({"type": "http.request", "body": b"12345"}, 5),
        ({"type": "http.response.body"}, 0),
        ({"type": "http.response.start", "status": 200}, 0),
        ({"type": "websocket.receive", "bytes": b"123", "text": None}, 3),
        ({"type": "websocket.send", "bytes": None, "text": "1234"}, 4),
    ],
)
def test_a_message_counts_for_its_body_and_for_itself(message: Message, cost_bytes: int) -> None:
    assert body_bytes(message) == cost_bytes
    assert message_cost_bytes(message) == MESSAGE_COST_BYTES + cost_bytes


@pytest.mark.parametrize(
    ("message", "cost_bytes"),
    [
        ({"type": "http.request", "body": b"12345"}, 5),
        ({"type": "http.request", "body": b""}, 0),
        ({"type": "http.disconnect"}, 0),
        ({"type": "websocket.connect"}, 0),
        ({"type": "websocket.receive", "text": ""}, MESSAGE_COST_BYTES),
        ({"type": "websocket.receive", "bytes": b"12"}, MESSAGE_COST_BYTES + 2),
    ],
)
def test_what_a_client_sends_counts_for_its_body_and_in_a_websocket_for_itself(
    message: Message, cost_bytes: int
) -> None:
    assert received_cost_bytes(message) == cost_bytes


def test_a_client_that_has_gone_is_an_oserror() -> None:
    assert isinstance(ClientDisconnectedError(), OSError)
    assert str(ClientDisconnectedError()) == "the client disconnected"


HTTP_DISCONNECT: Message = {"type": "http.disconnect"}
WEBSOCKET_DISCONNECT: Message = {"type": "websocket.disconnect", "code": 1001}


class InboxMachine(RuleBasedStateMachine):
    """An inbox against a plain list."""

    kind = "http"
    disconnect = HTTP_DISCONNECT

    def __init__(self) -> None:
        super().__init__()
        self.inbox = Inbox()
        self.expected: list[Message] = []
        self.has_left = False
        self.count = 0

    @rule()
    def put(self) -> None:
        self.count += 1
        message = {"type": f"{self.kind}.request", "number": self.count}
        self.inbox.put(message)
        if not self.has_left:
            self.expected.append(message)

    @rule()
    def leave(self) -> None:
        self.inbox.put(dict(self.disconnect))
        self.has_left = True
        if self.kind == "http":
            self.expected.clear()

    @rule()
    def take(self) -> None:
        if self.expected:
            assert self.inbox.take() == self.expected.pop(0)
        elif self.has_left:
            assert self.inbox.take() == self.disconnect
        else:
            with pytest.raises(IndexError):
                self.inbox.take()

    @invariant()
    def it_says_what_it_has(self) -> None:
        assert self.inbox.has_message == bool(self.expected or self.has_left)
        assert self.inbox.is_disconnected == self.has_left


class WebSocketInboxMachine(InboxMachine):
    kind = "websocket"
    disconnect = WEBSOCKET_DISCONNECT


TestHTTPInbox = InboxMachine.TestCase
TestWebSocketInbox = WebSocketInboxMachine.TestCase


@given(st.integers(1, 20))
def test_the_first_disconnect_is_the_one_that_counts(count: int) -> None:
    inbox = Inbox()
    for code in range(count):
        inbox.put({"type": "websocket.disconnect", "code": code})
    assert inbox.take()["code"] == 0
