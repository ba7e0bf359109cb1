"""How late the edge's own loop is, by a clock that jumps while nothing else can happen."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing

from sage_edge.core.metric_families import Metrics
from sage_edge.core.recent import RECENT_SECONDS
from sage_edge.server.loop_watch import LOOK_SECONDS, REPORT_SECONDS, watch_loop
from tests.kit.captured_logs import captured_logs


def lag_seconds(metrics: Metrics) -> Any:
    ((_, number),) = metrics.snapshot()["sage_edge_loop_lag_seconds"]
    return number


async def test_the_longest_delay_of_the_last_while_is_shown(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    metrics = Metrics()
    nursery.start_soon(watch_loop, metrics)
    await trio.sleep(10.03)
    assert lag_seconds(metrics) == pytest.approx(0, abs=1e-6)
    autojump_clock.jump(6)
    assert lag_seconds(metrics) == pytest.approx(6, abs=LOOK_SECONDS), "whoever looks before the watch comes round"
    for _ in range(2):
        await trio.sleep(RECENT_SECONDS / 2 - 1)
        assert lag_seconds(metrics) == pytest.approx(6, abs=LOOK_SECONDS)
    await trio.sleep(3)
    assert lag_seconds(metrics) == pytest.approx(0, abs=1e-6)


async def test_long_delays_are_told_now_and_then(nursery: trio.Nursery, autojump_clock: trio.testing.MockClock) -> None:
    with captured_logs() as logs:
        nursery.start_soon(watch_loop, Metrics())
        await trio.sleep(0.03)
        autojump_clock.jump(0.4)
        await trio.sleep(1)
        assert logs == []
        for _ in range(3):
            autojump_clock.jump(2)
            await trio.sleep(0.5)
        assert [(entry["event"], entry["log_level"]) for entry in logs] == [
            ("the edge's event loop was held up", "warning")
        ]
        assert logs[0]["seconds"] == pytest.approx(2, abs=LOOK_SECONDS)
        await trio.sleep(REPORT_SECONDS)
        autojump_clock.jump(3)
        await trio.sleep(0.5)
        assert [entry["seconds"] for entry in logs[1:]] == [pytest.approx(3, abs=LOOK_SECONDS)]
