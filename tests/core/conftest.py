"""How hypothesis goes about its work here."""

from __future__ import annotations

from hypothesis import settings

# A loaded machine is no fault of the code.
settings.register_profile("sage-edge", deadline=None)
settings.load_profile("sage-edge")
