"""All is gone through in a quiet moment, or when memory grows for no reason; never because many streams are open."""

from __future__ import annotations

import gc
import os
import weakref
from collections.abc import Iterator

import pytest
import trio
import trio.testing

from sage_edge.server.collector import ENDED_COUNT, NEVER, UNEXPLAINED_BYTES, WORTH_BYTES, Collector, Leftovers, is_due
from sage_edge.server.memory import resident_bytes

MIB = 2**20
SIZE_BYTES = 50_000


@pytest.mark.parametrize(
    ("young_collections", "open_count", "grown_bytes", "expected"),
    [
        (10, 0, 0, True),
        (10, 200, 0, True),
        (9, 0, 0, False),
        (1000, 201, 0, False),
        (1000, 5000, 150 * MIB, False),
        (1000, 5000, 300 * MIB, True),
        (1000, 201, UNEXPLAINED_BYTES, False),
        (1000, 201, UNEXPLAINED_BYTES + 7 * MIB, True),
        (9, 201, 10 * UNEXPLAINED_BYTES, False),
    ],
)
def test_when_it_is_due(young_collections: int, open_count: int, grown_bytes: int, expected: bool) -> None:
    given = is_due(young_collections=young_collections, open_count=open_count, grown_bytes=grown_bytes, is_rested=True)
    assert given is expected


def test_it_is_left_alone_for_long_where_it_took_long_unless_memory_grows() -> None:
    assert not is_due(young_collections=100, open_count=0, grown_bytes=0, is_rested=False)
    assert is_due(young_collections=100, open_count=0, grown_bytes=UNEXPLAINED_BYTES + 1, is_rested=False)


class Knot:
    """Garbage that only the collector finds."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture
def thresholds() -> Iterator[None]:
    """What the collector goes by, put back afterwards."""
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)
    gc.unfreeze()


@pytest.mark.usefixtures("thresholds")
async def test_python_goes_through_the_young_alone() -> None:
    Collector().settle()
    assert gc.get_threshold()[2] == NEVER
    assert gc.get_freeze_count() > 0


@pytest.mark.usefixtures("thresholds")
async def test_old_garbage_is_found_in_a_quiet_moment(autojump_clock: trio.testing.MockClock) -> None:
    collector, settled, open_count = Collector(), trio.Event(), 1000
    collector.count_open = lambda: open_count
    collector.settle()
    knot = Knot()
    gc.collect(1)
    gc.collect(1)  # by now it is old
    found = weakref.ref(knot)
    del knot
    for _ in range(10):
        gc.collect(1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(collector.run, settled)
        await trio.sleep(60)
        assert found() is not None, "it is not settled"
        settled.set()
        await trio.sleep(60)
        assert found() is not None, "many streams are open"
        open_count = 0
        await trio.sleep(60)
        assert found() is None
        nursery.cancel_scope.cancel()


@pytest.mark.usefixtures("thresholds")
async def test_free_memory_is_given_back_in_a_quiet_moment(autojump_clock: trio.testing.MockClock) -> None:
    collector, settled = Collector(), trio.Event()
    settled.set()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(collector.run, settled)
        await trio.testing.wait_all_tasks_blocked()
        pieces = [b"x" * SIZE_BYTES for _ in range(2_000)]
        most_bytes = resident_bytes(os.getpid())
        del pieces[:-1]  # what is kept lies behind the rest, which therefore does not go by itself
        await trio.sleep(60)
        nursery.cancel_scope.cancel()
    assert resident_bytes(os.getpid()) < most_bytes - 1_500 * SIZE_BYTES


def test_memory_is_given_back_when_it_has_grown_in_a_quiet_moment() -> None:
    leftovers = Leftovers(100 * MIB)
    assert not leftovers.are_worth_it(100 * MIB + WORTH_BYTES - 1, 0)
    assert leftovers.are_worth_it(100 * MIB + WORTH_BYTES, 0)
    assert not leftovers.are_worth_it(200 * MIB, 201)


def test_memory_is_given_back_when_those_have_ended_who_had_it_the_last_time() -> None:
    leftovers = Leftovers(100 * MIB)
    leftovers.note(150)
    leftovers.settle(200 * MIB, 150)  # all of it was in use
    assert not leftovers.are_worth_it(200 * MIB, 150)
    assert not leftovers.are_worth_it(200 * MIB, 150 - ENDED_COUNT + 1)
    assert leftovers.are_worth_it(200 * MIB, 150 - ENDED_COUNT)
    leftovers.settle(102 * MIB, 0)
    leftovers.note(150)
    assert not leftovers.are_worth_it(103 * MIB, 0), "there is nothing to be gained"
