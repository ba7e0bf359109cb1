"""The times of one request, by a clock that stands still in between."""

from __future__ import annotations

import pytest

from sage_edge.core.metric_families import GAP_BOUNDS
from sage_edge.core.metrics import Histogram
from sage_edge.core.timeline import EventMeter, Timeline


class Clock:
    """Shows what it is set to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def timeline(clock: Clock) -> Timeline:
    timeline = Timeline(clock)
    timeline.meter = EventMeter(Histogram(GAP_BOUNDS), Histogram(GAP_BOUNDS))
    return timeline


def first_and_gaps(timeline: Timeline) -> tuple[float, float]:
    assert timeline.meter is not None
    return timeline.meter.first_seconds.total, timeline.meter.gap_seconds.total


def test_the_first_event_is_measured_from_when_the_request_had_come_whole(clock: Clock, timeline: Timeline) -> None:
    clock.now += 20
    timeline.note_received()
    clock.now += 2
    timeline.note_start(is_event_stream=True)
    clock.now += 1
    timeline.note_event()
    assert first_and_gaps(timeline) == (3, 0)
    assert (timeline.began_at, timeline.received_at) == (100, 120)


def test_an_answer_is_waited_for_once_its_request_can_come_no_further(clock: Clock, timeline: Timeline) -> None:
    assert timeline.awaited is None
    clock.now += 20
    timeline.note_unread()
    clock.now += 1
    timeline.note_unread()
    assert (timeline.awaited, timeline.awaited_since) == ("head", 120)
    timeline.note_received()
    assert (timeline.awaited, timeline.awaited_since) == ("head", 121)


def test_an_answer_that_begins_meanwhile_is_measured_from_the_head(clock: Clock, timeline: Timeline) -> None:
    clock.now += 20
    timeline.note_unread()
    timeline.note_start(is_event_stream=True)
    assert (timeline.awaited, timeline.awaited_since) == ("first_event", 100)


def test_an_answer_that_begins_before_its_request_has_come_is_measured_from_the_head(
    clock: Clock, timeline: Timeline
) -> None:
    clock.now += 5
    timeline.note_start(is_event_stream=True)
    clock.now += 20
    timeline.note_received()
    timeline.note_event()
    assert first_and_gaps(timeline) == (25, 0)


def test_a_gap_begins_when_its_client_has_room_again(clock: Clock, timeline: Timeline) -> None:
    timeline.note_start(is_event_stream=True)
    timeline.note_event()
    timeline.note_full()
    clock.now += 30
    timeline.note_full()
    assert timeline.waited_since == 100
    assert timeline.note_room(100) == 30
    assert timeline.waited_since is None
    clock.now += 2
    timeline.note_event()
    assert first_and_gaps(timeline) == (0, 2)


def test_without_a_wait_a_gap_is_from_one_event_to_the_next(clock: Clock, timeline: Timeline) -> None:
    timeline.note_start(is_event_stream=True)
    for _ in range(3):
        clock.now += 1
        timeline.note_event()
    assert first_and_gaps(timeline) == (1, 2)
