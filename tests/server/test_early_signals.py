"""Which ending signal is a second one."""

from __future__ import annotations

from sage_edge.server.early_signals import REPEAT_SECONDS, RepeatedSignals


def test_signals_right_behind_the_first_are_the_same_one() -> None:
    repeated = RepeatedSignals()
    assert not repeated.note(1000.0)
    assert repeated.note(1000.0)
    assert repeated.note(1000.0 + 0.9 * REPEAT_SECONDS)
    assert not repeated.note(1000.0 + 1.1 * REPEAT_SECONDS), "counted from the first"
