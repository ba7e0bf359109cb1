"""One mount's lifespan (ASGI specification, Lifespan Protocol), guarded and kept apart.

Whatever a mount does in its lifespan stays its own: it is told to start and to stop, given a
limit, and a failure comes back as a sentence. Which mounts there are is `app.dispatch`'s.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import trio

from sage_edge.app.asgi import ASGIApplication, Scope
from sage_edge.core.exchange import LifespanUnsupportedError, Message
from sage_edge.core.logger import EdgeLogger

log = EdgeLogger(__name__)

LEAST_START_SECONDS = 1.0
"""What a mount has at least for its start, whatever its loading took: one without a lifespan has to say so."""
LEAST_TOLD_SECONDS = 0.1
"""What its loading took at least where that is told."""


@dataclass(frozen=True)
class Mount:
    """An application under a prefix.

    Attributes:
        prefix: as `core.routing.normalise_prefix` returns it.
        name: how messages call it, as in "gateway demo".
        application: called on trio.
        links: paths below the prefix worth a visit, by title, as in {"docs": "/docs"}.
        state: what its lifespan puts into `scope["state"]`; its requests get copies.
        loading_seconds: how long loading the application has taken.
    """

    prefix: str
    name: str
    application: ASGIApplication
    links: Mapping[str, str] = field(default_factory=dict)
    state: dict[str, object] = field(default_factory=dict)
    loading_seconds: float = 0.0


class MountLifespan:
    """The lifespan of one mount. `run` beside `start` and `stop`.

    An application that raises or returns before it asks for the first message does not support
    lifespans, and is served without one, as the specification says.
    """

    def __init__(self, mount: Mount) -> None:
        self._mount = mount
        self.name = mount.name
        self._is_started = trio.Event()
        self._is_stopped = trio.Event()
        self._failure: str | None = None
        self._to_application, self._from_server = trio.open_memory_channel[Message](2)

    async def run(self) -> None:
        """Run the application's lifespan to its end. Raises nothing of the application's."""
        scope: Scope = {
            "type": "lifespan",
            "asgi": {"version": "3.0", "spec_version": "2.0"},
            "state": self._mount.state,
        }
        try:
            await self._mount.application(scope, self._from_server.receive, self._send)
            self._note_end("its lifespan ended before start-up was complete", None)
        except LifespanUnsupportedError as unsupported:
            log.debug("no lifespan support", mount=self._mount.name, cause=repr(unsupported.__cause__))
            self._is_started.set()
            self._is_stopped.set()
        except Exception as error:
            self._note_end(f"{type(error).__name__}: {error}", error)

    async def start(self, limit_seconds: float) -> str | None:
        """Tell the mount to start and wait until it has.

        Args:
            limit_seconds: how long its loading and its start may take together.

        Returns:
            What went wrong, or None.
        """
        await self._to_application.send({"type": "lifespan.startup"})
        loading_seconds = self._mount.loading_seconds
        with trio.move_on_after(max(LEAST_START_SECONDS, limit_seconds - loading_seconds)):
            await self._is_started.wait()
            return self._failure
        share = f", of which loading it took {loading_seconds:.1f}" if loading_seconds >= LEAST_TOLD_SECONDS else ""
        return f"start-up was not complete within {limit_seconds:g} seconds{share}"

    async def stop(self, limit_seconds: float) -> None:
        """Tell the mount to stop and wait until it has, for so long; a failure is logged."""
        self._failure = None
        with trio.move_on_after(limit_seconds) as limit:
            await self._to_application.send({"type": "lifespan.shutdown"})
            await self._is_stopped.wait()
        if limit.cancelled_caught:
            self._failure = f"not complete within {limit_seconds:g} seconds"
        if self._failure is not None:
            log.warning("shutdown failed", mount=self._mount.name, reason=self._failure)

    async def _send(self, message: Message) -> None:
        match message["type"]:
            case "lifespan.startup.complete":
                self._is_started.set()
            case "lifespan.startup.failed":
                self._fail(message.get("message", ""))
            case "lifespan.shutdown.complete":
                self._is_stopped.set()
            case "lifespan.shutdown.failed":
                self._fail(message.get("message", ""))
                self._is_stopped.set()

    def _note_end(self, reason: str, error: Exception | None) -> None:
        if not self._is_started.is_set():
            self._fail(reason, error)
        elif error is not None and self._failure is None:
            self._failure = _first_line(reason)
            log.error("lifespan ended with an error", mount=self._mount.name, exc_info=error)
        self._is_started.set()
        self._is_stopped.set()

    def _fail(self, message: str, error: Exception | None = None) -> None:
        """Keep the first failure, in one line."""
        details = {"exc_info": error} if error is not None else {"exception": message}
        log.debug("lifespan failed", mount=self._mount.name, **details)
        if self._failure is None:
            self._failure = _first_line(message)
        self._is_started.set()


def _first_line(message: str) -> str:
    """What a message says, in one line: of a traceback, which is what Starlette sends, the error's own first."""
    lines = message.strip().splitlines()
    frames = [number for number, line in enumerate(lines) if line.startswith("  File ")]
    after = lines[frames[-1] + 1 :] if frames else lines
    return next((line for line in after if line and not line[0].isspace()), "no reason given")
