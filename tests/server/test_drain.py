"""A drain's time: when listeners close, what is told while streams go on, and the cut."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from sage_edge.server.drain import Drain
from tests.kit.captured_logs import captured_logs


def counting_down(drain: Drain, *, until: float) -> None:
    """One stream that is in flight until then."""
    drain.count_streams = lambda: int(trio.current_time() < until)


@pytest.mark.parametrize("delay_seconds", [0.0, 4.0])
async def test_listeners_close_after_the_delay(autojump_clock: trio.testing.MockClock, delay_seconds: float) -> None:
    drain = Drain(delay_seconds=delay_seconds, limit_seconds=10)
    assert not drain.has_begun
    drain.begin()
    await drain.wait_for_last_call()
    assert trio.current_time() == pytest.approx(delay_seconds)


async def test_the_end_that_is_asked_for_twice_comes_no_later(autojump_clock: trio.testing.MockClock) -> None:
    drain = Drain(delay_seconds=2, limit_seconds=3)
    drain.begin()
    await trio.sleep(1)
    drain.begin()
    await drain.wait_for_last_call()
    with trio.CancelScope() as connections:
        await drain.limit(connections)
    assert trio.current_time() == pytest.approx(5)


async def test_what_is_left_is_told_each_second_and_cut_at_the_limit(
    autojump_clock: trio.testing.MockClock,
) -> None:
    drain = Drain(delay_seconds=2, limit_seconds=3)
    counting_down(drain, until=1000)
    with captured_logs() as lines:
        drain.begin()
        await drain.wait_for_last_call()
        with trio.CancelScope() as connections:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(drain.limit, connections)
                await trio.sleep_forever()
    assert trio.current_time() == pytest.approx(5)
    told = [line["seconds_left"] for line in lines if line["event"] == "streams in flight"]
    assert told == [4, 3, 2, 1, 0]
    assert lines[-1]["event"] == "streams cut"
    assert lines[-1]["streams"] == 1


async def test_a_terminal_has_one_line_that_is_wiped_at_the_end(autojump_clock: trio.testing.MockClock) -> None:
    shown: list[str] = []
    drain = Drain(delay_seconds=0, limit_seconds=5, show=shown.append)
    counting_down(drain, until=1.5)
    with captured_logs() as lines:
        drain.begin()
        await drain.wait_for_last_call()
        with trio.move_on_after(2.5):
            await drain.limit(trio.CancelScope())
    assert shown == [
        "draining: 1 stream in flight, 4 s left",
        "draining: 0 streams in flight, 3 s left",
        "",
    ]
    assert lines == []


async def test_a_supervisor_is_told_from_the_beginning_each_second_and_what_is_cut(
    autojump_clock: trio.testing.MockClock,
) -> None:
    told: list[tuple[int, int]] = []
    drain = Drain(delay_seconds=1, limit_seconds=2, tell=lambda in_flight, cut: told.append((in_flight, cut)))
    counting_down(drain, until=1000)
    with captured_logs() as lines:
        drain.begin()
        assert told == [(1, 0)]
        await drain.wait_for_last_call()
        await drain.limit(trio.CancelScope())
    assert told == [(1, 0), (1, 0), (1, 0), (1, 0), (0, 0), (0, 1)]
    assert [line["event"] for line in lines] == ["streams cut"]


async def test_a_supervisor_is_told_that_nothing_is_left(autojump_clock: trio.testing.MockClock) -> None:
    told: list[tuple[int, int]] = []
    drain = Drain(delay_seconds=0, limit_seconds=9, tell=lambda in_flight, cut: told.append((in_flight, cut)))
    counting_down(drain, until=1000)
    drain.begin()
    with trio.move_on_after(0.5):  # all connections have ended
        await drain.limit(trio.CancelScope())
    assert told == [(1, 0), (0, 0)]


async def test_nothing_is_logged_where_nothing_is_cut(autojump_clock: trio.testing.MockClock) -> None:
    drain = Drain(delay_seconds=0, limit_seconds=3)
    with captured_logs() as lines:
        drain.begin()
        await drain.limit(trio.CancelScope())
    assert lines == []


async def test_the_delay_is_skipped_where_another_has_the_place(autojump_clock: trio.testing.MockClock) -> None:
    drain = Drain(delay_seconds=60, limit_seconds=10)
    drain.begin()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(drain.wait_for_last_call)
        await trio.sleep(5)
        drain.skip_delay()
    assert trio.current_time() == pytest.approx(5)
    await drain.limit(trio.CancelScope())
    assert trio.current_time() == pytest.approx(15)


async def test_a_delay_that_was_skipped_before_the_end_was_asked_for_is_not_waited(
    autojump_clock: trio.testing.MockClock,
) -> None:
    drain = Drain(delay_seconds=60, limit_seconds=10)
    drain.skip_delay()
    drain.begin()
    await drain.wait_for_last_call()
    assert trio.current_time() == pytest.approx(0)
    await drain.limit(trio.CancelScope())
    assert trio.current_time() == pytest.approx(10)
