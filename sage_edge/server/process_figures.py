"""What this process takes of the machine, as the system counts it. Each worker and the supervisor tells its own."""

from __future__ import annotations

import os
import resource
from pathlib import Path
from time import process_time

from sage_edge.core.metric_families import Metrics
from sage_edge.server.memory import resident_bytes

DESCRIPTORS = Path("/proc/self/fd")


def observe_resources(metrics: Metrics) -> None:
    """Report processor time, memory and descriptors. What the system does not tell is left out."""

    def refresh() -> None:
        metrics.process_cpu_seconds.of().number = process_time()
        if size_bytes := resident_bytes(os.getpid()):
            metrics.process_resident_bytes.of().number = size_bytes
        if count := _count_descriptors():
            metrics.process_open_fds.of().number = count
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if limit != resource.RLIM_INFINITY:
            metrics.process_max_fds.of().number = limit

    metrics.refresh_with(refresh)


def _count_descriptors() -> int:
    try:
        # Linux 6.2 and later say how many there are; earlier, they are counted one by one.
        return DESCRIPTORS.stat().st_size or len(list(DESCRIPTORS.iterdir()))
    except OSError:
        return 0
