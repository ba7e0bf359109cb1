"""Fields that each log line of a task has: the edge's own, and the gateway's where structlog makes them.

They are bound twice. What structlog has, the gateway may change, clear and add to; the edge's lines take none of it.
"""

from __future__ import annotations

from structlog.contextvars import bind_contextvars

from sage_edge.core.logger import bind_fields


def bind_log_fields(**fields: str | int) -> None:
    """Have every line of this context, and of those that are copied from it, say these from now on."""
    bind_fields(**fields)
    bind_contextvars(**fields)
