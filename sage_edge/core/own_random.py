"""Random numbers of the edge's own: Python's common ones are the gateway's as well.

A gateway that seeds them has to find the sequence that it asked for, and must not make the ids of one worker those of
another. Each process is started as a new program, and seeded by the system. Nothing here is secret.
"""

from __future__ import annotations

from random import Random

own_random = Random()  # noqa: S311
