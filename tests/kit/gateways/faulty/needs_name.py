"""A gateway whose module imports a name that is not there."""

from __future__ import annotations

from os import no_such_name

app = no_such_name
