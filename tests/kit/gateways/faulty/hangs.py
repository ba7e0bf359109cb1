"""A gateway whose module never finishes its import."""

from __future__ import annotations

import threading

threading.Event().wait()
