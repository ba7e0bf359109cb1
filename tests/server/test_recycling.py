"""Workers that are replaced for what they have served, or eaten: one at a time, and not for what they cannot help."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import trio
import trio.testing

from sage_edge.server.recycling import EARLY_SECONDS, MEMORY_SECONDS, Recycling
from tests.kit.captured_logs import captured_logs
from tests.kit.workers import FakePlace, FakeWorker

LIMIT = 100 * 2**20


class Case:
    """One place with a worker that is ready."""

    def __init__(self, memory_bytes: int = 0, limit_bytes: int | None = None) -> None:
        self.worker = FakeWorker(memory_bytes=memory_bytes).become_ready()
        self.place = FakePlace(1, self.worker)
        self.recycling = Recycling(cast(Any, [self.place]), limit_bytes)
        self.recycling.note_ready(cast(Any, self.worker))

    def replace(self, *, for_seconds: float = 60.0) -> FakeWorker:
        """Put another in its place; the one that leaves."""
        leaving = self.worker
        leaving.is_leaving = True
        self.worker = self.place.worker = FakeWorker().become_ready(for_seconds=for_seconds)
        self.place.leaving.append(leaving)
        return leaving

    def end(self, worker: FakeWorker) -> None:
        worker.ended.set()
        self.place.leaving = [each for each in self.place.leaving if each is not worker]
        self.recycling.note_end(cast(Any, worker))


@asynccontextmanager
async def watched(case: Case) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(case.recycling.watch_memory)
        yield
        nursery.cancel_scope.cancel()


def test_one_that_has_served_its_number_of_requests_is_replaced() -> None:
    case = Case()
    case.recycling.note_served(cast(Any, case.worker))
    assert case.place.reasons == ["it has served its number of requests"]


def test_it_waits_until_the_one_before_has_left() -> None:
    case = Case()
    leaving = case.replace()
    case.recycling.note_served(cast(Any, case.worker))
    assert case.place.reasons == []
    case.end(leaving)
    assert case.place.reasons == ["it has served its number of requests"]


def test_one_that_is_silent_when_the_one_before_leaves_is_replaced_once_it_answers_again() -> None:
    case = Case()
    leaving = case.replace()
    case.recycling.note_served(cast(Any, case.worker))
    case.worker.is_silent = True
    case.end(leaving)
    assert case.place.reasons == []
    case.worker.is_silent = False
    case.recycling.note_answering(cast(Any, case.worker))
    assert case.place.reasons == ["it has served its number of requests"]


def test_another_end_than_of_one_that_leaves_asks_for_nothing() -> None:
    case = Case()
    case.recycling.note_served(cast(Any, case.worker))
    successor = FakeWorker()
    case.end(successor)  # it did not start
    assert len(case.place.reasons) == 1


async def test_one_with_too_much_memory_is_replaced(autojump_clock: trio.testing.MockClock) -> None:
    case = Case(LIMIT // 2, LIMIT)
    async with watched(case):
        await trio.sleep(3 * MEMORY_SECONDS)
        assert case.place.reasons == []
        case.worker.memory_bytes = 2 * LIMIT
        await trio.sleep(1.5 * MEMORY_SECONDS)
        assert case.place.reasons[0] == "it has 200 MB of memory"


async def test_for_its_memory_too_it_waits_until_the_one_before_has_left(
    autojump_clock: trio.testing.MockClock,
) -> None:
    case = Case(LIMIT // 2, LIMIT)
    leaving = case.replace()
    case.worker.memory_bytes = 2 * LIMIT
    async with watched(case):
        await trio.sleep(10 * MEMORY_SECONDS)
        assert case.place.reasons == []
        case.end(leaving)
        await trio.sleep(1.5 * MEMORY_SECONDS)
        assert case.place.reasons[0] == "it has 200 MB of memory"


async def test_one_that_needs_more_than_the_limit_is_said_to_once_and_stays_until_it_has_grown(
    autojump_clock: trio.testing.MockClock,
) -> None:
    with captured_logs() as lines:
        case = Case(2 * LIMIT, LIMIT)
        async with watched(case):
            await trio.sleep(100 * MEMORY_SECONDS)
            assert case.place.reasons == []
            case.worker.memory_bytes = 3 * LIMIT
            await trio.sleep(1.5 * MEMORY_SECONDS)
            assert case.place.reasons[0] == "it has 300 MB of memory"
    assert lines == [
        {
            "event": "the memory limit is below what the gateway needs",
            "log_level": "error",
            "worker": 1,
            "max_memory_bytes": LIMIT,
            "needed_bytes": 2 * LIMIT,
        }
    ]


async def test_where_two_in_a_row_pass_the_limit_soon_the_second_is_said_to_need_it_and_stays_until_it_has_grown(
    autojump_clock: trio.testing.MockClock,
) -> None:
    case = Case(LIMIT // 2, LIMIT)
    async with watched(case):
        case.worker.become_ready(for_seconds=EARLY_SECONDS - 1).memory_bytes = 2 * LIMIT
        with captured_logs() as lines:
            await trio.sleep(3.5 * MEMORY_SECONDS)  # the replacement fails, and is tried again
            assert case.place.reasons == ["it has 200 MB of memory"] * 3
            assert lines == []
            case.end(case.replace(for_seconds=EARLY_SECONDS - 1))
            case.worker.memory_bytes = 2 * LIMIT
            await trio.sleep(10 * MEMORY_SECONDS)
            case.worker.become_ready(for_seconds=EARLY_SECONDS)
            await trio.sleep(10 * MEMORY_SECONDS)
            assert len(case.place.reasons) == 3
            case.worker.memory_bytes = 3 * LIMIT
            await trio.sleep(MEMORY_SECONDS)
            assert case.place.reasons[3:] == ["it has 300 MB of memory"]
    assert [line["needed_bytes"] for line in lines] == [2 * LIMIT]


async def test_once_one_has_lasted_the_next_that_passes_the_limit_soon_is_replaced(
    autojump_clock: trio.testing.MockClock,
) -> None:
    case = Case(LIMIT // 2, LIMIT)
    async with watched(case):
        case.worker.become_ready(for_seconds=EARLY_SECONDS - 1).memory_bytes = 2 * LIMIT
        await trio.sleep(1.5 * MEMORY_SECONDS)
        case.end(case.replace(for_seconds=EARLY_SECONDS))
        await trio.sleep(MEMORY_SECONDS)
        case.end(case.replace(for_seconds=EARLY_SECONDS - 1))
        case.worker.memory_bytes = 3 * LIMIT
        await trio.sleep(MEMORY_SECONDS)
        assert case.place.reasons == ["it has 200 MB of memory", "it has 300 MB of memory"]
