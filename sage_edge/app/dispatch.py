"""Hands each request to the mount that `core.routing` names, and runs the mounts' lifespans.

A subclass of Hypercorn's dispatcher that replaces its matching (by `startswith`) and its lifespan
handling (one failure cancels all; failures are dropped; one state for all): what it still has of it is its
table of `mounts`, for whoever looks for that. docs/adr/0003.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, cast

import trio
from hypercorn.middleware.dispatcher import TrioDispatcherMiddleware

from sage_edge.app.asgi import Receive, Scope, Send, send_error
from sage_edge.app.exchange import note_mount
from sage_edge.app.lifespan import Mount, MountLifespan
from sage_edge.app.routing import find_route, refuse
from sage_edge.core.exchange import HEALTH_MOUNT
from sage_edge.core.logger import EdgeLogger
from sage_edge.core.readiness import Phase, Readiness
from sage_edge.core.routing import Route, Target

log = EdgeLogger(__name__)

SHUTDOWN_SECONDS = 10.0
"""How long a mount's lifespan may take to shut down."""


class GuardedDispatcher(TrioDispatcherMiddleware):
    """The routing table over a health application and the mounts.

    Args:
        health: answers the health endpoints, and the landing page where no mount owns "/".
        mounts: the gateways.
        readiness: mounts are served once it has left STARTING.
        startup_seconds: how long each mount may take to start, its loading included.
    """

    def __init__(self, health: Mount, mounts: Sequence[Mount], readiness: Readiness, *, startup_seconds: float) -> None:
        # Hypercorn types scopes and messages by TypedDicts; here they are dictionaries.
        super().__init__({mount.prefix: cast(Any, mount.application) for mount in mounts})
        self._health = health
        self._by_prefix = {mount.prefix: mount for mount in mounts}
        self._prefixes = sorted(self._by_prefix, key=len, reverse=True)
        self._readiness = readiness
        self._startup_seconds = startup_seconds
        self.startup_failures: Mapping[str, str] = {}
        """What went wrong, by the name of the mount; set once start-up has failed."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve a request, a WebSocket, or the lifespan of all mounts."""
        if scope["type"] == "lifespan":
            await self._handle_lifespan(scope, receive, send)
            return
        route = find_route(scope, self._prefixes)
        match route.target:
            case Target.REFUSED:
                await refuse(route, scope, send)
            case Target.HEALTH | Target.LANDING if scope["type"] == "websocket":
                note_mount(scope, HEALTH_MOUNT)
                await send_error(scope, send, HTTPStatus.NOT_FOUND, "No WebSocket is served at this path.")
            case Target.HEALTH | Target.LANDING:
                await self._pass_on(self._health, route, scope, receive, send)
            case Target.MOUNT if self._readiness.phase is Phase.STARTING:
                note_mount(scope, route.prefix or "/")
                retry = [(b"retry-after", b"1")]
                await send_error(scope, send, HTTPStatus.SERVICE_UNAVAILABLE, "The gateway is starting.", retry)
            case _:
                await self._pass_on(self._by_prefix[route.prefix], route, scope, receive, send)

    def _pass_on(self, mount: Mount, route: Route, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        note_mount(scope, HEALTH_MOUNT if mount is self._health else mount.prefix or "/")
        local = {
            **scope,
            "path": route.path,
            "raw_path": route.raw_path,
            "root_path": scope.get("root_path", "") + mount.prefix,
            "state": mount.state.copy(),
        }
        return mount.application(local, receive, send)

    async def _handle_lifespan(self, scope: Any, receive: Any, send: Any) -> None:
        lifespans = [MountLifespan(mount) for mount in [self._health, *self._by_prefix.values()]]
        await receive()
        async with trio.open_nursery() as running:
            for lifespan in lifespans:
                running.start_soon(lifespan.run)
            self.startup_failures = await self._start(lifespans)
            if not self.startup_failures:
                await send({"type": "lifespan.startup.complete"})
                await receive()
                async with trio.open_nursery() as stopping:
                    for lifespan in lifespans:
                        stopping.start_soon(lifespan.stop, SHUTDOWN_SECONDS)
            running.cancel_scope.cancel()
        if self.startup_failures:
            sentences = (f"{name}: {failure}" for name, failure in self.startup_failures.items())
            await send({"type": "lifespan.startup.failed", "message": "; ".join(sentences)})
        else:
            await send({"type": "lifespan.shutdown.complete"})

    async def _start(self, lifespans: Sequence[MountLifespan]) -> Mapping[str, str]:
        failures: dict[str, str] = {}

        async def start(lifespan: MountLifespan) -> None:
            if failure := await lifespan.start(self._startup_seconds):
                failures[lifespan.name] = failure

        async with trio.open_nursery() as starting:
            for lifespan in lifespans:
                starting.start_soon(start, lifespan)
        return failures
