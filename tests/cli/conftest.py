"""Command lines run in this process leave it as it was."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.kit.restored_logging import restored_logging


@pytest.fixture(autouse=True)
def as_it_was(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No settings from outside, and logging as before."""
    for name in [name for name in os.environ if name.startswith("SAGE_EDGE_")]:
        monkeypatch.delenv(name)
    with restored_logging():
        yield
