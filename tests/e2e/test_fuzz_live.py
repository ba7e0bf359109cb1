"""Whatever bytes come, on however many connections, the edge stays as it was."""

from __future__ import annotations

import sys
from pathlib import Path
from random import SystemRandom

import pytest

from tests.fuzz.live import fuzz, live_edge

SECONDS = 120.0

pytestmark = pytest.mark.usefixtures("unmeasured_edges")


def test_harmed_connections_leave_nothing_behind(tmp_path: Path) -> None:
    first = SystemRandom().randrange(2**62)
    with live_edge(tmp_path) as edge:
        figures = fuzz(edge, first, SECONDS, sys.stdout.write)
        sys.stdout.write(f"{figures}\n")
        assert not figures.faults, figures
        assert figures.connections > 1000
        assert edge.stop() == 0
