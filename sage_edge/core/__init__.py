"""Decisions: no web framework, no event loop, no server. Clocks are passed in."""
