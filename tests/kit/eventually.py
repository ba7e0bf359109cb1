"""Waiting for what nobody announces: a file that is written, a process that ends, a figure that is reported."""

from __future__ import annotations

import time
from collections.abc import Callable

from tests.kit.frame_client import PATIENCE_SECONDS


def eventually(condition: Callable[[], bool], seconds: float = PATIENCE_SECONDS) -> bool:
    """Whether something comes true in time; it is asked for again and again."""
    deadline = time.monotonic() + seconds
    while not (is_true := condition()) and time.monotonic() < deadline:
        time.sleep(0.01)
    return is_true
