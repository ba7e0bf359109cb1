"""What clients' addresses take of the loop's turns."""

from __future__ import annotations

from collections.abc import Callable

import trio
import trio.testing
from trio.testing import wait_all_tasks_blocked

from sage_edge.core.budgets import ClientAccount
from sage_edge.server.fairness import (
    FIRST_READ_BYTES,
    LEAST_READ_BYTES,
    MOST_EXPIRING,
    MOST_READ_BYTES,
    SHARE_SECONDS,
    STARTS,
    Fairness,
    Share,
)
from tests.kit.captured_logs import captured_logs

MUCH_SECONDS = 2 * SHARE_SECONDS


async def run_jobs(costs: dict[str, tuple[int, float]]) -> list[str]:
    """Have jobs done of each name: so many, of so many seconds each. All wait at once; returns their order."""
    fairness = Fairness()
    accounts = {name: ClientAccount(1) for name in costs}
    done: list[str] = []

    async def work(name: str, seconds: float) -> None:
        await fairness.wait(accounts[name])
        fairness.charge(accounts[name], seconds)
        done.append(name)

    async with trio.open_nursery() as running:
        running.start_soon(fairness.run)
        async with trio.open_nursery() as jobs:
            for name, (count, seconds) in costs.items():
                for _ in range(count):
                    jobs.start_soon(work, name, seconds)
        running.cancel_scope.cancel()
    return done


async def test_a_dear_address_does_one_thing_in_a_turn_and_a_cheap_one_all_it_has() -> None:
    done = await run_jobs({"dear": (50, MUCH_SECONDS), "cheap": (10, SHARE_SECONDS / 100)})
    assert sorted(done[:11]) == ["cheap"] * 10 + ["dear"]
    assert len(done) == 60


async def test_everything_is_done_where_nobody_else_wants_the_loop() -> None:
    assert await run_jobs({"only": (300, MUCH_SECONDS)}) == ["only"] * 300


async def test_who_waits_and_is_cancelled_keeps_nobody_from_the_next_turn() -> None:
    fairness, account = Fairness(), ClientAccount(1)
    fairness.charge(account, MUCH_SECONDS)
    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as scope:
            scope.cancel()
            await fairness.wait(account)
        nursery.start_soon(fairness.wait, account)
        await wait_all_tasks_blocked()
        assert nursery.child_tasks  # it waits: nothing begins turns yet
        nursery.start_soon(fairness.run)
        await wait_all_tasks_blocked()
        assert {task.coro.__qualname__ for task in nursery.child_tasks} == {"Fairness.run"}
        nursery.cancel_scope.cancel()


async def test_reads_become_small_where_they_are_dear_and_large_where_they_are_cheap() -> None:
    clock = [0.0]
    share = Share(Fairness(), ClientAccount(1), clock=lambda: clock[0])
    assert share.read_bytes == FIRST_READ_BYTES
    for _ in range(10):
        await share.begin()
        share.end()
    assert share.read_bytes == MOST_READ_BYTES
    share = Share(Fairness(), ClientAccount(1), clock=lambda: clock[0])
    for _ in range(10):
        clock[0] += 0.003
        share.end()
    assert share.read_bytes == LEAST_READ_BYTES


def start(fairness: Fairness, account: ClientAccount, begin: Callable[[], None]) -> None:
    """As a connection does it."""
    if fairness.may_start(account):
        begin()
    else:
        fairness.start_later(account, begin)


async def test_what_many_start_is_begun_in_turn() -> None:
    fairness = Fairness()
    many, few = ClientAccount(1), ClientAccount(1)
    begun: list[str] = []
    for _ in range(3 * STARTS):
        start(fairness, many, lambda: begun.append("many"))
    assert len(begun) == STARTS
    start(fairness, few, lambda: begun.append("few"))
    assert begun[STARTS:] == ["few"]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(fairness.run)
        await wait_all_tasks_blocked()
        assert len(begun) == 3 * STARTS + 1
        start(fairness, many, lambda: begun.append("later"))
        await wait_all_tasks_blocked()
        assert begun[-1] == "later"
        nursery.cancel_scope.cancel()


async def test_who_has_started_enough_is_read_all_the_same(autojump_clock: trio.testing.MockClock) -> None:
    fairness, account = Fairness(), ClientAccount(1)
    for _ in range(2 * STARTS):
        start(fairness, account, lambda: None)
    with trio.fail_after(1):  # nothing begins turns here: to wait for one would be for ever
        await fairness.wait(account)


async def test_who_has_left_much_behind_starts_no_more_until_it_has_ended(
    autojump_clock: trio.testing.MockClock,
) -> None:
    fairness, account = Fairness(), ClientAccount(1)
    begun: list[int] = []
    account.expiring = MOST_EXPIRING
    start(fairness, account, lambda: begun.append(1))
    start(fairness, ClientAccount(1), lambda: begun.append(2))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(fairness.run)
        await trio.sleep(10)
        assert begun == [2]
        account.expiring -= 1
        await trio.sleep(1)
        assert begun == [2, 1]
        nursery.cancel_scope.cancel()


async def test_health_does_not_wait_for_others_to_end(autojump_clock: trio.testing.MockClock) -> None:
    fairness, account = Fairness(), ClientAccount(1)
    account.expiring = MOST_EXPIRING
    while fairness.may_start_for_health(account):
        assert not fairness.may_start(account)
    start(fairness, account, lambda: None)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(fairness.run)
        await trio.sleep(1)
        assert not fairness.may_start(account)
        assert fairness.may_start_for_health(account), "it is another turn"
        nursery.cancel_scope.cancel()


async def test_what_is_queued_at_the_end_is_begun_whatever_is_left_behind_or_fails() -> None:
    begun: list[int] = []
    accounts = [ClientAccount(1), ClientAccount(1)]

    def fail() -> None:
        raise RuntimeError("on purpose")

    fairness = Fairness()
    for account in accounts:
        account.expiring = MOST_EXPIRING
        start(fairness, account, lambda: begun.append(1))
        start(fairness, account, fail)
        start(fairness, account, lambda: begun.append(2))
    with captured_logs() as lines:
        fairness.close()
        fairness.close()
    assert begun == [1, 2, 1, 2]
    assert [line["event"] for line in lines] == ["a request failed to start"] * 2
