"""Trap 19: connections are spread over the workers."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack

from tests.e2e.traps.conftest import Launch
from tests.kit.frame_client import frame_client
from tests.kit.stock import IS_STOCK

CONNECTIONS = 32
LEAST = 4
"""That the emptier of two workers has: fewer come to it by chance three times in a million."""


def test_connections_are_spread_over_two_workers(launch: Launch) -> None:
    with launch({"--workers": 2}) as server, ExitStack() as stack:
        if not IS_STOCK:
            server.log.wait_for("worker ready", count=2)
        clients = [stack.enter_context(frame_client(server)) for _ in range(CONNECTIONS)]
        by_worker = Counter(bytes(client.get(b"/process").body) for client in clients)
        assert min(by_worker[worker] for worker in by_worker) >= LEAST
        assert len(by_worker) == 2
