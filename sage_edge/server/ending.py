"""How long a process may take to end, once its drain is over: the limits of what is done then, one after the other."""

from __future__ import annotations

from sage_edge.app.bridge import ABANDON_SECONDS
from sage_edge.app.dispatch import SHUTDOWN_SECONDS
from sage_edge.server.left_running import EXIT_SECONDS
from sage_edge.server.log_writer import STOP_SECONDS
from sage_edge.server.mounts import THREAD_STOP_SECONDS

REDIRECT_SECONDS = 5.0
"""How long the last answers on the plaintext port may take."""
SPANS_SECONDS = 3.0
"""How long the last spans of requests may take to be sent."""
LIFESPAN_SECONDS = SHUTDOWN_SECONDS + ABANDON_SECONDS + SPANS_SECONDS
"""How long the gateway's shutdown may take with all that. One that is still there then ignores its cancellation."""
LAST_TURNS_SECONDS = 0.1
"""How long everything else may take to end, where the gateway does not."""

GATEWAY_SECONDS = sum(
    (ABANDON_SECONDS, SHUTDOWN_SECONDS, SPANS_SECONDS, THREAD_STOP_SECONDS, STOP_SECONDS, EXIT_SECONDS)
)
"""How long a gateway that does not end can hold it up; docs/operating.md says so."""
END_SECONDS = GATEWAY_SECONDS + REDIRECT_SECONDS
"""After that a process does not end by itself."""
