"""The life of a worker's place: when another is started in it, what becomes of the one before, and what is said."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any, cast

import pytest
import trio
import trio.testing

from sage_edge.core.supervision import LONGEST_DELAY_SECONDS
from sage_edge.server.place import Place
from sage_edge.server.worker_process import WorkerProcess
from tests.kit.captured_logs import captured_logs
from tests.kit.workers import FakeWorker


class Supervision:
    """A place that is kept, and what happens in it."""

    def __init__(self) -> None:
        self.stop = trio.Event()
        self.started: list[FakeWorker] = []
        self.started_at: list[float] = []
        self.has_started = trio.Event()
        self.told_to_leave: list[tuple[FakeWorker, bool]] = []
        self.place = Place(1, stop=self.stop, start=self._start, leave=self._leave, judge=self._judge)

    async def _start(self, place: Place) -> WorkerProcess | None:
        await trio.lowlevel.checkpoint()
        self.started.append(FakeWorker())
        self.started_at.append(trio.current_time())
        self.has_started.set()
        return cast(WorkerProcess, self.started[-1])

    def _leave(self, worker: Any, is_replaced: bool) -> None:
        worker.is_leaving = True
        self.told_to_leave.append((worker, is_replaced))

    def _judge(self, place: Place, started: WorkerProcess | None) -> float:
        return place.policy.delay_seconds(None)

    async def ready(self) -> FakeWorker:
        """The worker that starts, once it is ready and has the place."""
        await settle()
        worker = self.started[-1].become_ready()
        await settle()
        assert cast(Any, self.place.worker) is worker
        return worker

    def fail(self) -> None:
        """End the worker that starts."""
        assert not self.started[-1].ready.is_set()
        self.started[-1].ended.set()


async def settle() -> None:
    """Until nobody has anything to do but to wait."""
    await trio.testing.wait_all_tasks_blocked()


def tell_to_end(supervision: Supervision, worker: FakeWorker) -> None:
    """What the supervisor does where a worker says that somebody else has told it to end."""
    worker.is_leaving = True
    supervision.place.note_leaving(cast(Any, worker), "it was told to end")


@asynccontextmanager
async def kept() -> AsyncIterator[Supervision]:
    supervision = Supervision()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervision.place.keep)
        await settle()
        yield supervision
        supervision.stop.set()


async def test_the_old_worker_leaves_once_the_new_one_is_ready(autojump_clock: trio.testing.MockClock) -> None:
    async with kept() as supervision:
        old = await supervision.ready()
        with captured_logs() as lines:
            supervision.place.replace(cast(Any, old), "as a test")
            await settle()
            assert [line["event"] for line in lines] == ["worker is to be replaced"]
            assert not old.is_leaving
            new = await supervision.ready()
        assert supervision.told_to_leave == [(old, True)]
        assert lines[-1] == {
            "event": "worker is replaced",
            "log_level": "info",
            "worker": 1,
            "pid": old.pid,
            "by_pid": new.pid,
        }
    assert supervision.told_to_leave == [(old, True), (new, False)]


async def test_where_the_new_worker_does_not_start_the_old_one_stays(autojump_clock: trio.testing.MockClock) -> None:
    async with kept() as supervision:
        old = await supervision.ready()
        supervision.place.replace(cast(Any, old), "as a test")
        await settle()
        with captured_logs() as lines:
            supervision.fail()
            await trio.sleep(100)
        assert [line["event"] for line in lines] == ["the new worker did not start, the old one stays"]
        assert len(supervision.started) == 2
        assert supervision.place.is_ready


async def test_where_the_old_one_has_died_meanwhile_it_is_not_said_to_stay_and_another_starts(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with kept() as supervision:
        old = await supervision.ready()
        supervision.place.replace(cast(Any, old), "as a test")
        await settle()
        with captured_logs() as lines:
            old.ended.set()
            supervision.fail()
            await trio.sleep(1)
        assert lines == []
        assert len(supervision.started) == 3
        await supervision.ready()


async def test_a_worker_that_leaves_by_itself_is_followed_however_often_its_successor_fails(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with kept() as supervision:
        old = await supervision.ready()
        tell_to_end(supervision, old)
        for count in range(2, 5):
            await trio.sleep(LONGEST_DELAY_SECONDS)
            assert len(supervision.started) == count
            supervision.fail()
        await trio.sleep(LONGEST_DELAY_SECONDS)
        new = await supervision.ready()
        assert not old.ended.is_set()
        assert supervision.told_to_leave == [(old, True)]
        assert supervision.place.holder is cast(Any, new)


async def test_workers_that_others_tell_to_end_as_soon_as_they_are_ready_are_followed_later_and_later(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with kept() as supervision:
        delays = []
        for count in range(1, 11):
            worker = await supervision.ready()
            worker.ready_seconds = 1.0
            told_at = trio.current_time()
            tell_to_end(supervision, worker)
            if count % 2:
                worker.ended.set()  # or it goes on with its streams
            supervision.has_started = trio.Event()
            await supervision.has_started.wait()
            delays.append(trio.current_time() - told_at)
            assert len(supervision.started) == count + 1
        assert delays[:4] == pytest.approx([0.1, 0.2, 0.4, 0.8])
        assert delays[-1] == pytest.approx(LONGEST_DELAY_SECONDS)


async def test_a_worker_that_ran_long_is_followed_at_once_where_somebody_tells_it_to_end(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with kept() as supervision:
        for count in range(1, 10):
            worker = await supervision.ready()
            told_at = trio.current_time()
            tell_to_end(supervision, worker)
            await settle()
            assert trio.current_time() == told_at
            assert len(supervision.started) == count + 1


async def test_a_worker_that_leaves_before_it_is_known_to_be_ready_counts_too(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with kept() as supervision:
        delays = []
        for _ in range(4):
            supervision.has_started = trio.Event()
            ready_at = trio.current_time()
            worker = supervision.started[-1].become_ready(for_seconds=0.0)
            tell_to_end(supervision, worker)  # both in one breath
            await supervision.has_started.wait()
            delays.append(trio.current_time() - ready_at)
            await settle()
        assert delays == pytest.approx([0.1, 0.2, 0.4, 0.8])


async def test_a_renewal_does_not_wait_for_the_next_start_after_workers_that_others_tell_to_end(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with kept() as supervision, trio.open_nursery() as nursery:
        worker = await supervision.ready()
        worker.ready_seconds = 0.0
        tell_to_end(supervision, worker)
        await settle()
        assert len(supervision.started) == 1
        began_at = trio.current_time()
        nursery.start_soon(supervision.place.renew, "restart")
        await settle()
        assert trio.current_time() == began_at
        assert len(supervision.started) == 2
        await supervision.ready()


async def test_starts_that_fail_are_tried_again_with_growing_delays(autojump_clock: trio.testing.MockClock) -> None:
    async with kept() as supervision:
        (await supervision.ready()).ended.set()
        supervision.has_started = trio.Event()
        for _ in range(10):
            await supervision.has_started.wait()
            supervision.has_started = trio.Event()
            supervision.fail()
        delays = [after - before for before, after in pairwise(supervision.started_at[1:])]
        assert delays == sorted(delays)
        assert delays[0] < 1
        assert delays[-1] == pytest.approx(LONGEST_DELAY_SECONDS)
        assert supervision.place.policy.is_in_vain
        await supervision.has_started.wait()
        await supervision.ready()
        assert not supervision.place.policy.is_in_vain


async def test_a_renewal_of_a_place_that_waits_is_its_next_start_and_no_other(
    autojump_clock: trio.testing.MockClock,
) -> None:
    renewed: list[bool] = []
    async with kept() as supervision, trio.open_nursery() as nursery:
        worker = await supervision.ready()
        worker.ready_seconds = 0.0
        worker.ended.set()
        await settle()
        assert len(supervision.started) == 1  # it waits for a moment

        async def renew() -> None:
            renewed.append(await supervision.place.renew("restart"))

        began_at = trio.current_time()
        with captured_logs() as lines:
            nursery.start_soon(renew)
            await settle()
            assert trio.current_time() == began_at
            assert len(supervision.started) == 2
            await supervision.ready()
            await trio.sleep(100)
        assert len(supervision.started) == 2
        assert renewed == [True]
        assert lines == []


async def test_a_renewal_does_not_count_a_start_that_began_before_it(autojump_clock: trio.testing.MockClock) -> None:
    renewed: list[bool] = []
    async with kept() as supervision, trio.open_nursery() as nursery:

        async def renew() -> None:
            renewed.append(await supervision.place.renew("restart"))

        nursery.start_soon(renew)
        await settle()
        first = await supervision.ready()
        assert renewed == []
        await supervision.ready()
        assert renewed == [True]
        assert supervision.told_to_leave == [(first, True)]


async def test_a_renewal_amid_a_start_waits_for_it_and_for_whom_that_replaces(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with kept() as supervision, trio.open_nursery() as nursery:
        old = await supervision.ready()
        supervision.place.replace(cast(Any, old), "as a test")
        await settle()
        nursery.start_soon(supervision.place.renew, "restart")
        await settle()
        await supervision.ready()
        await trio.sleep(100)
        assert list(supervision.place.leaving) == [old]
        assert len(supervision.started) == 2  # each is a gateway's memory
        old.ended.set()
        await settle()
        assert list(supervision.place.leaving) == []
        assert len(supervision.started) == 3
        await supervision.ready()


async def test_a_start_while_a_renewal_waits_for_one_that_leaves_is_the_renewal(
    autojump_clock: trio.testing.MockClock,
) -> None:
    renewed: list[bool] = []
    async with kept() as supervision, trio.open_nursery() as nursery:
        leaving = await supervision.ready()
        supervision.place.replace(cast(Any, leaving), "as a test")
        worker = await supervision.ready()

        async def renew() -> None:
            renewed.append(await supervision.place.renew("restart"))

        nursery.start_soon(renew)
        await settle()
        worker.ended.set()
        await settle()
        assert len(supervision.started) == 3
        assert renewed == []
        await supervision.ready()
        assert renewed == [True]
        leaving.ended.set()
        await trio.sleep(100)
        assert len(supervision.started) == 3


async def test_a_renewal_that_fails_says_so(autojump_clock: trio.testing.MockClock) -> None:
    async with kept() as supervision, trio.open_nursery() as nursery:
        await supervision.ready()
        renewed: list[bool] = []

        async def renew() -> None:
            renewed.append(await supervision.place.renew("restart"))

        nursery.start_soon(renew)
        await settle()
        supervision.fail()
        await settle()
        assert renewed == [False]


async def test_at_the_end_a_worker_that_starts_leaves_too(autojump_clock: trio.testing.MockClock) -> None:
    async with kept() as supervision:
        old = await supervision.ready()
        supervision.place.replace(cast(Any, old), "as a test")
        await settle()
        supervision.stop.set()
    assert supervision.told_to_leave == [(supervision.started[-1], True), (old, False)]
