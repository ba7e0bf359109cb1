"""The largest value of the last while."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sage_edge.core.recent import RecentMaximum

WINDOW_SECONDS = 30.0


def test_there_is_none_before_the_first() -> None:
    assert RecentMaximum(WINDOW_SECONDS).at(100) == 0


def test_a_value_counts_for_the_window_and_no_longer() -> None:
    recent = RecentMaximum(WINDOW_SECONDS)
    recent.note(6.0, 100)
    recent.note(0.1, 110)
    assert recent.at(100 + WINDOW_SECONDS) == 6.0
    assert recent.at(100.1 + WINDOW_SECONDS) == 0.1
    assert recent.at(110.1 + WINDOW_SECONDS) == 0


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 5)), min_size=1))
def test_it_is_the_largest_of_those_within_the_window(steps: list[tuple[int, int]]) -> None:
    recent, noted, now = RecentMaximum(WINDOW_SECONDS), [], 0
    for pause, value in steps:
        now += pause
        recent.note(value, now)
        noted.append((now, value))
        assert recent.at(now) == max(value for at, value in noted if now - at <= WINDOW_SECONDS)
