"""When workers are started again, and when that is given up."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sage_edge.core.supervision import (
    LONGEST_DELAY_SECONDS,
    MOST_FAILED_STARTS,
    STEADY_SECONDS,
    RestartPolicy,
    most_bytes,
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
    assert not policy.is_in_vain


def test_after_a_steady_life_the_delays_begin_anew() -> None:
    policy = RestartPolicy()
    assert [policy.delay_seconds(life) for life in (1.0, 1.0, STEADY_SECONDS, 1.0)] == [0.1, 0.2, 0.0, 0.1]


def test_starts_that_fail_one_after_the_other_are_in_vain_and_go_on_as_late_as_can_be() -> None:
    policy = RestartPolicy()
    for _ in range(MOST_FAILED_STARTS - 1):
        assert policy.delay_seconds(None) < LONGEST_DELAY_SECONDS
        assert not policy.is_in_vain
    assert [policy.delay_seconds(None) for _ in range(10)] == [LONGEST_DELAY_SECONDS] * 10
    assert policy.is_in_vain


def test_a_start_that_works_forgives_those_that_failed() -> None:
    policy = RestartPolicy()
    for _ in range(MOST_FAILED_STARTS - 1):
        policy.delay_seconds(None)
    policy.note_ready()
    policy.delay_seconds(None)
    assert not policy.is_in_vain


@given(st.integers(1, 10**12))
def test_a_varied_limit_stays_close_and_above_nothing(limit: int) -> None:
    varied = vary(limit)
    assert varied >= 1
    assert limit * 0.9 - 1 <= varied <= limit * 1.1 + 1


def test_a_worker_may_have_the_memory_that_was_asked_for_or_a_quarter_more_than_it_needs_to_begin_with() -> None:
    assert most_bytes(100, needed_bytes=80) == 100
    assert most_bytes(100, needed_bytes=100) == 125
    assert most_bytes(100, needed_bytes=120) == 150
