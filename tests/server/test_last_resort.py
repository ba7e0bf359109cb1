"""When an end that does not come is given up."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from sage_edge.server.last_resort import LastResort


class GivenUp:
    """When it was given up, by trio's clock."""

    def __init__(self) -> None:
        self.at: list[float] = []

    async def __call__(self) -> None:
        await trio.sleep(1)
        self.at.append(trio.current_time())


async def test_what_has_no_limit_yet_is_never_given_up(autojump_clock: trio.testing.MockClock) -> None:
    given_up = GivenUp()
    async with LastResort(given_up).watching():
        await trio.sleep(10_000)
    assert given_up.at == []


async def test_what_ends_in_time_is_not_given_up(autojump_clock: trio.testing.MockClock) -> None:
    given_up = GivenUp()
    async with LastResort(given_up).watching() as last_resort:
        last_resort.limit(5)
        await trio.sleep(4)
    assert trio.current_time() == pytest.approx(4)
    assert given_up.at == []


async def test_what_ignores_its_cancellation_is_given_up_at_the_limit(autojump_clock: trio.testing.MockClock) -> None:
    given_up = GivenUp()
    with trio.CancelScope() as running:
        async with LastResort(given_up).watching() as last_resort:
            last_resort.limit(5)
            running.cancel()
            with trio.CancelScope(shield=True):
                await trio.sleep(10)
    assert given_up.at == [pytest.approx(6)]


async def test_a_later_limit_takes_the_place_of_the_one_before(autojump_clock: trio.testing.MockClock) -> None:
    given_up = GivenUp()
    async with LastResort(given_up).watching() as last_resort:
        last_resort.limit(5)
        await trio.sleep(4)
        last_resort.limit(5)
        await trio.sleep(10)
    assert given_up.at == [pytest.approx(10)]
