"""How long answers are waited for, those that never come among them: a gateway that hangs is not to look fast."""

from __future__ import annotations

import pytest
import trio

from sage_edge.app.asgi import Receive, Scope, Send
from sage_edge.app.metrics import MetricsLayer
from sage_edge.core.exchange import Cause
from sage_edge.core.metric_families import Metrics
from tests.kit.asgi_calls import request
from tests.kit.exchange import RecordingExchange

MINUTE = 60.0


async def hang(scope: Scope, receive: Receive, send: Send) -> None:
    """A gateway that does."""
    await trio.sleep_forever()


class Requests:
    """Requests to it, and what is counted of them, by a clock that a test sets."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.metrics = Metrics()
        self.now = 0.0
        self._layer = MetricsLayer(hang, self.metrics)
        self._nursery = nursery

    async def begin(self, *, is_whole: bool = True, has_head: bool = False, events: int = 0) -> RecordingExchange:
        """One whose answer has come so far."""
        exchange = RecordingExchange()
        timeline = exchange.timeline
        timeline.clock = lambda: self.now
        timeline.began_at = timeline.received_at = self.now
        exchange.mount = "/"
        exchange.put(request(more_body=not is_whole))
        self._nursery.start_soon(exchange.run, self._layer)
        await trio.testing.wait_all_tasks_blocked()
        if has_head:
            timeline.note_start(is_event_stream=True)
            timeline.meter = self._layer.find_events(exchange)
        for _ in range(events):
            timeline.note_event()
        return exchange

    def values(self, name: str) -> dict[str, float]:
        """A family's values by their last label, but those that are 0."""
        return {row[0][-1]: row[1] for row in self.metrics.snapshot()[name] if row[1]}

    @property
    def longest(self) -> dict[str, float]:
        """The longest wait until now, by what is awaited."""
        return self.values("sage_edge_longest_wait_seconds")

    @property
    def given_up(self) -> dict[str, float]:
        """How many waits were given up, by what was awaited."""
        return self.values("sage_edge_waits_given_up")

    def times(self, name: str) -> tuple[int, float]:
        """How many a histogram has, and their sum."""
        ((_, counts, total),) = self.metrics.snapshot()[f"sage_edge_time_to_{name}_seconds"]
        return sum(counts), total


@pytest.fixture
def requests(nursery: trio.Nursery) -> Requests:
    return Requests(nursery)


async def test_the_longest_wait_until_now_is_told_by_what_is_awaited(requests: Requests) -> None:
    await requests.begin()
    requests.now += MINUTE
    await requests.begin()
    streams = [await requests.begin(has_head=True) for _ in range(2)]
    requests.now += 1
    assert requests.longest == {"head": MINUTE + 1, "first_event": 1}
    streams[0].timeline.note_event()
    requests.now += 1
    assert requests.longest == {"head": MINUTE + 2, "first_event": 2}
    streams[1].timeline.note_event()
    assert requests.longest == {"head": MINUTE + 2}


async def test_nobody_waits_before_the_request_has_come_nor_once_its_client_has_gone(requests: Requests) -> None:
    await requests.begin(is_whole=False)
    left = await requests.begin(has_head=True)
    requests.now += MINUTE
    assert requests.longest == {"first_event": MINUTE}
    left.lose_client()
    assert requests.longest == {}


async def test_a_body_that_the_gateway_does_not_take_is_its_own_wait(requests: Requests) -> None:
    exchange = await requests.begin(is_whole=False)
    requests.now += MINUTE
    exchange.timeline.note_unread()
    requests.now += 1
    assert requests.longest == {"head": 1}
    exchange.lose_client()
    exchange.end()
    assert (requests.given_up, requests.times("first_byte")) == ({"head": 1}, (1, 1))


@pytest.mark.parametrize("cause", [cause for cause in Cause if cause is not Cause.ERROR])
@pytest.mark.parametrize(
    ("has_head", "awaited", "name"), [(False, "head", "first_byte"), (True, "first_event", "first_event")]
)
async def test_a_wait_that_is_given_up_is_counted_and_is_as_long_as_it_was(
    requests: Requests, cause: Cause, has_head: bool, awaited: str, name: str
) -> None:
    exchange = await requests.begin(has_head=has_head)
    requests.now += MINUTE
    exchange.lose_client(cause)
    requests.now += 1  # which the gateway takes to end
    exchange.end()
    assert requests.given_up == {awaited: 1}
    assert requests.times(name) == (1, MINUTE)
    assert requests.values("sage_edge_events") == {}, "none came"


async def test_a_client_that_leaves_gives_up_no_wait_where_there_was_none(requests: Requests) -> None:
    for exchange in (await requests.begin(is_whole=False), await requests.begin(has_head=True, events=2)):
        requests.now += MINUTE
        exchange.lose_client()
        exchange.end()
    assert requests.given_up == {}


async def test_what_the_gateway_itself_fails_is_no_wait_that_was_given_up(requests: Requests) -> None:
    exchange = await requests.begin()
    exchange.note_cause(Cause.ERROR)
    exchange.end()
    assert requests.given_up == {}
    assert requests.times("first_byte") == (0, 0)


async def test_events_are_those_that_came(requests: Requests) -> None:
    await requests.begin(has_head=True, events=3)
    for _ in range(10):
        exchange = await requests.begin(has_head=True)
        exchange.lose_client()
        exchange.end()
    assert requests.values("sage_edge_events") == {"2": 3}
    assert requests.given_up == {"first_event": 10}
