"""A gateway whose module needs a package that is not installed."""

from __future__ import annotations

import no_such_dependency

app = no_such_dependency.app
