"""Restarts of all workers: one at a time, none forgotten, and what the service manager is told of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, cast

import trio
import trio.testing

from sage_edge.server.place import Place
from sage_edge.server.rolling_restart import RollingRestart
from tests.kit.captured_logs import captured_logs

SECONDS = 10.0


class FakePlace:
    """One that is renewed after a while, or in vain."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.renewals = 0
        self.works = True

    async def renew(self, reason: str) -> bool:
        self.renewals += 1
        await trio.sleep(SECONDS)
        return self.works


class Restarting:
    def __init__(self) -> None:
        self.places = [FakePlace(1), FakePlace(2)]
        self.stop = trio.Event()
        self.told: list[str] = []
        self.restart = RollingRestart(cast(list[Place], self.places), self.stop, self._bracket)

    @contextmanager
    def _bracket(self, what: str) -> Iterator[None]:
        self.told.append(what)
        yield
        self.told.append(self.restart.describe())

    @property
    def renewals(self) -> list[int]:
        return [place.renewals for place in self.places]


@asynccontextmanager
async def restarting() -> AsyncIterator[tuple[Restarting, list[Any]]]:
    case = Restarting()
    with captured_logs() as lines:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(case.restart.run)
            yield case, lines
            nursery.cancel_scope.cancel()


async def test_workers_are_renewed_one_after_the_other(autojump_clock: trio.testing.MockClock) -> None:
    async with restarting() as (case, lines):
        assert case.restart.describe() == "serving"
        case.restart.ask()
        await trio.sleep(SECONDS / 2)
        assert case.renewals == [1, 0]
        assert case.restart.describe() == "restarting worker 1"
        await trio.sleep(SECONDS)
        assert case.renewals == [1, 1]
        assert case.restart.describe() == "restarting worker 2"
        await trio.sleep(100)
        assert case.renewals == [1, 1]
        assert case.told == ["restarting worker 1", "serving"]
    assert [line["event"] for line in lines] == ["restarting workers", "restarted workers"]


async def test_one_that_is_asked_for_amid_another_follows_it_and_once(autojump_clock: trio.testing.MockClock) -> None:
    async with restarting() as (case, lines):
        case.restart.ask()
        await trio.sleep(1.5 * SECONDS)
        for _ in range(3):
            case.restart.ask()
        await trio.sleep(100)
        assert case.renewals == [2, 2]
        assert case.told == ["restarting worker 1", "serving"] * 2
    assert "another restart follows the one that is under way" in [line["event"] for line in lines]


async def test_one_that_fails_ends_there_and_says_so_until_the_next(autojump_clock: trio.testing.MockClock) -> None:
    async with restarting() as (case, lines):
        case.places[0].works = False
        case.restart.ask()
        await trio.sleep(100)
        assert case.renewals == [1, 0]
        assert case.told == ["restarting worker 1", "serving, restart failed at worker 1"]
        assert lines[-1]["event"] == "the restart has ended early"
        case.places[0].works = True
        case.restart.ask()
        await trio.sleep(100)
        assert case.told[2:] == ["restarting worker 1", "serving"]


async def test_while_the_edge_ends_none_is_begun_and_none_is_said_to_be_under_way(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with restarting() as (case, lines):
        case.stop.set()
        case.restart.ask()
        await trio.sleep(100)
        assert case.renewals == [0, 0]
    assert [line["event"] for line in lines] == ["no worker is restarted: the edge ends"]
