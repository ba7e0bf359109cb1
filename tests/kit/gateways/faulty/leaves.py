"""A gateway whose module ends the process when it is imported."""

from __future__ import annotations

import sys

sys.exit("set MODEL_PATH first")
