"""A gateway whose module raises when it is imported."""

from __future__ import annotations

raise RuntimeError("the model is not configured\nsecond line")
