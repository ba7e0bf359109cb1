"""The mounts of an edge: its gateway, in a thread of its own or in the edge's loop, and its own pages."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import trio

from sage_edge import __version__
from sage_edge.app.bridge import BridgedApplication
from sage_edge.app.gateway_thread import GatewayThread
from sage_edge.app.health import MountSummary, build_health_app
from sage_edge.app.lifespan import Mount
from sage_edge.app.native import NativeApplication
from sage_edge.core.logger import EdgeLogger
from sage_edge.core.metric_families import Metrics
from sage_edge.core.readiness import Phase, Readiness
from sage_edge.core.settings import Settings
from sage_edge.server.gateway import Gateway
from sage_edge.server.metrics_sources import observe_gateway, observe_mount
from sage_edge.server.readiness_checks import check_lag

log = EdgeLogger(__name__)

THREAD_STOP_SECONDS = 5.0
"""How long a gateway's thread is waited for at the end."""
HASTY_STOP_SECONDS = 1.0
"""The same where it has not started, or blocks its loop: it has had its time."""


@asynccontextmanager
async def open_gateway(
    gateway: Gateway | None, settings: Settings, readiness: Readiness, metrics: Metrics
) -> AsyncIterator[list[Mount]]:
    """The gateway as a mount, with its thread for as long as this is open; nothing where there is none."""
    if gateway is None:
        yield []
        return
    observe_mount(metrics, settings.mount_prefix or "/")
    build_mount = partial(
        Mount,
        settings.mount_prefix,
        gateway.reference,
        links=gateway.links,
        loading_seconds=gateway.loading_seconds,
    )
    if settings.gateway_loop == "trio":
        yield [build_mount(application=NativeApplication(gateway.application))]
        return
    thread = GatewayThread()
    await thread.start()
    readiness.add_check("gateway_responsive", lambda: check_lag(thread.lag_seconds))
    observe_gateway(metrics, settings.mount_prefix or "/", thread)
    async with trio.open_nursery() as watching:
        watching.start_soon(thread.watch)
        try:
            yield [build_mount(application=BridgedApplication(gateway.application, thread))]
        finally:
            watching.cancel_scope.cancel()
            with trio.CancelScope(shield=True):
                may_be_slow = readiness.phase > Phase.STARTING and not thread.is_blocked
                if not await thread.stop(THREAD_STOP_SECONDS if may_be_slow else HASTY_STOP_SECONDS):
                    log.error("the gateway blocks its thread and is left behind")


def build_health_mount(mounts: Sequence[Mount], readiness: Readiness) -> Mount:
    """The edge's own pages, which name the other mounts."""
    summaries = [
        MountSummary(
            mount.prefix or "/", mount.name, {title: mount.prefix + path for title, path in mount.links.items()}
        )
        for mount in mounts
    ]
    # Quart types scopes and messages by TypedDicts, as Hypercorn does; here they are dictionaries.
    app: Any = build_health_app(readiness, version=__version__, mounts=summaries)
    return Mount("", "health", NativeApplication(app))
