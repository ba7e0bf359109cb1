"""When a supervisor closes the sockets of its workers: once all of them have that do not hang."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import pytest
import trio
import trio.testing

from sage_edge.server.hand_over import CLOSED_SECONDS
from sage_edge.server.last_call import end_listening
from sage_edge.server.worker_process import QUIET_SECONDS
from tests.kit.workers import FakeWorker

LAST_CALL_SECONDS = 7.0


class FakeListeners:
    """Like `SharedListeners`: it notes what is closed, and when."""

    def __init__(self, *, is_port_shared: bool = False) -> None:
        self.is_port_shared = is_port_shared
        self.began_at = trio.current_time()
        self.done: list[tuple[float, str]] = []

    def __getattr__(self, what: str) -> Any:
        return lambda: self.done.append((trio.current_time() - self.began_at, what))


class Case:
    """Workers whose edge ends, and what becomes of its listeners."""

    def __init__(self, *workers: FakeWorker, is_port_shared: bool = False) -> None:
        self.workers = workers
        self.listeners = FakeListeners(is_port_shared=is_port_shared)

    async def run(self) -> None:
        await end_listening(cast(Any, self.listeners), cast(Sequence[Any], self.workers), LAST_CALL_SECONDS)


def close_after(worker: FakeWorker, seconds: float) -> Any:
    async def close() -> None:
        await trio.sleep(seconds)
        worker.closed.set()

    return close


def ready() -> FakeWorker:
    return FakeWorker().become_ready()


async def test_they_are_closed_once_all_workers_have_closed_theirs(autojump_clock: trio.testing.MockClock) -> None:
    case = Case(first := ready(), second := ready(), FakeWorker())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(close_after(second, LAST_CALL_SECONDS + 0.1))
        nursery.start_soon(close_after(first, LAST_CALL_SECONDS + 0.5))
        nursery.start_soon(case.run)
    assert case.listeners.done == [
        (0.0, "hand_over"),
        (LAST_CALL_SECONDS, "remove_paths"),
        (LAST_CALL_SECONDS + 0.5, "close_edge"),
        (LAST_CALL_SECONDS + 0.5, "leave_redirects"),
    ]


async def test_one_that_has_ended_is_not_waited_for(autojump_clock: trio.testing.MockClock) -> None:
    case = Case(worker := ready())
    worker.ended.set()
    await case.run()
    assert case.listeners.done[2:] == [(LAST_CALL_SECONDS, "close_edge"), (LAST_CALL_SECONDS, "leave_redirects")]


@pytest.mark.parametrize("is_known", [True, False], ids=["known to be silent", "not known yet"])
async def test_one_that_hangs_is_waited_for_in_vain_for_a_while_unless_it_is_known_to(
    autojump_clock: trio.testing.MockClock, is_known: bool
) -> None:
    case = Case(good := ready(), hung := ready())
    hung.is_silent = is_known
    good.closed.set()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(case.run)
        await trio.sleep(100)
        closed_at = LAST_CALL_SECONDS + (0 if is_known else QUIET_SECONDS)
        assert case.listeners.done[2:] == [(closed_at, "close_edge")]
        good.ended.set()
    assert case.listeners.done[3:] == [(100, "close")]


async def test_where_all_are_silent_one_may_yet_accept(autojump_clock: trio.testing.MockClock) -> None:
    case = Case(worker := ready())
    worker.is_silent = True
    async with trio.open_nursery() as nursery:
        nursery.start_soon(close_after(worker, LAST_CALL_SECONDS + 1))
        nursery.start_soon(case.run)
    assert case.listeners.done[2:] == [(LAST_CALL_SECONDS + 1, what) for what in ("close_edge", "leave_redirects")]


async def test_shared_ports_are_closed_a_moment_later(autojump_clock: trio.testing.MockClock) -> None:
    case = Case(worker := ready(), is_port_shared=True)
    worker.closed.set()
    await case.run()
    assert case.listeners.done[2] == (LAST_CALL_SECONDS + CLOSED_SECONDS, "close_edge")
