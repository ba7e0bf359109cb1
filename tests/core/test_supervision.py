"""When workers are started again, and when that is given up."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sage_edge.core.supervision import (
    LONGEST_DELAY_SECONDS,
    MOST_FAILED_STARTS,
    STEADY_SECONDS,
    RestartPolicy,
    vary,
)


def test_a_worker_that_was_steady_is_replaced_at_once_however_often() -> None:
    policy = RestartPolicy()
    assert [policy.delay_seconds(STEADY_SECONDS) for _ in range(20)] == [0.0] * 20


def test_workers_that_do_not_last_come_back_later_and_later_and_never_not_at_all() -> None:
    policy = RestartPolicy()
    delays = [policy.delay_seconds(1.0) for _ in range(50)]
    assert delays[:3] == [0.1, 0.2, 0.4]
    assert delays[-1] == LONGEST_DELAY_SECONDS
    assert None not in delays


def test_after_a_steady_life_the_delays_begin_anew() -> None:
    policy = RestartPolicy()
    assert [policy.delay_seconds(life) for life in (1.0, 1.0, STEADY_SECONDS, 1.0)] == [0.1, 0.2, 0.0, 0.1]


def test_starts_that_fail_one_after_the_other_are_given_up() -> None:
    policy = RestartPolicy()
    delays = [policy.delay_seconds(None) for _ in range(MOST_FAILED_STARTS)]
    assert delays[-1] is None
    assert None not in delays[:-1]


def test_a_start_that_works_forgives_those_that_failed() -> None:
    policy = RestartPolicy()
    for _ in range(MOST_FAILED_STARTS - 1):
        assert policy.delay_seconds(None) is not None
    assert policy.delay_seconds(0.0) is not None
    assert policy.delay_seconds(None) is not None


@given(st.integers(1, 10**12))
def test_a_varied_limit_stays_close_and_above_nothing(limit: int) -> None:
    assert max(1, limit * 0.9) <= vary(limit) + 1
    assert vary(limit) == pytest.approx(limit, rel=0.1, abs=1)
