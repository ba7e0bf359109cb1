"""Prometheus' own tool, where it is installed."""

from __future__ import annotations

import shutil
import subprocess

import pytest

PROMTOOL = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="promtool is not here (Debian: prometheus)")


def run_promtool(*arguments: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run it, with a text to read."""
    command = [PROMTOOL or "promtool", *arguments]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=False)
