"""Five hundred streams that end, are reset and are left: the edge is as it was, and what finished is whole."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.fuzz.soak import soak, soaked_edge

pytestmark = pytest.mark.usefixtures("unmeasured_workers")

SECONDS = 20.0


def test_streams_leave_no_task_descriptor_or_memory_behind(tmp_path: Path) -> None:
    with soaked_edge(tmp_path) as soaked:
        figures = soak(soaked, 1, SECONDS)
        sys.stdout.write(f"{figures}\n")
        assert not figures.faults, figures
        assert figures.finished > 200
        assert figures.left > 200
        assert soaked.edge.stop() == 0


def test_restarts_and_certificates_that_are_swapped_cut_none_of_them(tmp_path: Path) -> None:
    with soaked_edge(tmp_path, workers=2, has_certificates=True) as soaked:
        figures = soak(soaked, 1, SECONDS)
        sys.stdout.write(f"{figures}\n")
        assert not figures.faults, figures
        assert figures.finished > 0
        assert figures.restarts > 0
        assert figures.swaps > 1
        assert soaked.edge.stop() == 0
