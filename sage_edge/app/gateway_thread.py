"""A gateway's own asyncio event loop in a thread of its own, and the way to it and back.

Knows nothing of ASGI: it starts, watches, stops and joins the thread, and carries function
calls both ways, in order and in batches (one wake-up of a loop runs what is waiting, up to a bound).
"""

from __future__ import annotations

import asyncio
import importlib.util
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import trio

from sage_edge.core.logger import EdgeLogger
from sage_edge.core.recent import RecentMaximum

log = EdgeLogger(__name__)

HEARTBEAT_SECONDS = 0.2
"""How often the loop is asked for a sign of life."""
BLOCKED_SECONDS = 5.0
"""After so long without one, no more time is given to a gateway that has had its time to end."""
CALLS_AT_ONCE = 512
"""So many are run before whatever else a loop has to do has its turn: of the edge's, for two to three milliseconds."""


class GatewayThread:
    """The thread. `start` it, use `post`, run `watch` beside, and `stop` it: once each.

    Its public methods but `post_to_edge` belong to the trio side.
    """

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop
        self._thread = threading.Thread(target=self._run, name="gateway", daemon=True)
        self._to_gateway = _Courier(self._wake_gateway)
        self._to_edge = _Courier(self._wake_edge)
        self._token: trio.lowlevel.TrioToken
        self._has_started = trio.Event()
        self._has_ended = trio.Event()
        self._is_stopping = False
        self._stop_seconds = 0.0
        self._asked_at: float | None = None
        self._lag_seconds = 0.0
        self._recent_lag = RecentMaximum()

    def post(self, function: Callable[..., None], *arguments: Any) -> None:
        """Run a function in the gateway's loop. Dropped, as everything is, once that has ended."""
        self._to_gateway.post(function, arguments)

    def post_to_edge(self, function: Callable[..., None], *arguments: Any) -> None:
        """Run a function in the edge's loop. For use in the gateway's thread."""
        self._to_edge.post(function, arguments)

    async def start(self) -> None:
        """Start the thread and wait until its loop runs."""
        self._token = trio.lowlevel.current_trio_token()
        self._thread.start()
        await self._has_started.wait()

    async def watch(self) -> None:
        """Ask the loop for a sign of life, for ever; `lag_seconds` has the result."""
        while True:
            answered = trio.Event()
            asked_at = self._asked_at = trio.current_time()
            self.post(self.post_to_edge, answered.set)
            await answered.wait()
            now = trio.current_time()
            self._lag_seconds = now - asked_at
            self._recent_lag.note(self._lag_seconds, now)
            self._asked_at = None
            await trio.sleep(HEARTBEAT_SECONDS)

    @property
    def lag_seconds(self) -> float:
        """How long the loop took, or takes until now, to answer the latest question."""
        if self._asked_at is None:
            return self._lag_seconds
        return max(self._lag_seconds, trio.current_time() - self._asked_at)

    @property
    def longest_lag_seconds(self) -> float:
        """The longest of the last while, for who looks now and then."""
        return max(self._recent_lag.at(trio.current_time()), self.lag_seconds)

    @property
    def is_blocked(self) -> bool:
        """Whether the loop has been silent for so long that it is not to be waited for once more."""
        return self.lag_seconds > BLOCKED_SECONDS

    @property
    def waiting_calls(self) -> tuple[int, int]:
        """How many calls wait for the gateway's loop, and for the edge's."""
        return self._to_gateway.waiting_calls, self._to_edge.waiting_calls

    async def stop(self, limit_seconds: float) -> bool:
        """Cancel what runs in the loop, close it and join the thread.

        Returns:
            False where the gateway blocks its thread beyond the limit. Such a process must be
            ended by `os._exit`: the interpreter may crash when it ends beneath a running thread.
        """
        self._stop_seconds = limit_seconds
        self.post(self._begin_stop)
        with trio.move_on_after(limit_seconds):
            await self._has_ended.wait()
            await trio.to_thread.run_sync(self._thread.join)
            return True
        return False

    def _begin_stop(self) -> None:
        self._is_stopping = True
        self._loop.stop()

    def _run(self) -> None:
        self._loop = _new_event_loop()
        asyncio.set_event_loop(self._loop)
        self.post_to_edge(self._has_started.set)
        try:
            while not self._is_stopping:
                # A gateway that stops the loop, or whose task raises SystemExit, ends neither.
                with _contained():
                    self._loop.run_forever()
            with _contained():
                self._loop.run_until_complete(self._finish())
        finally:
            self._to_gateway.end()
            self._loop.close()
            asyncio.set_event_loop(None)
            self.post_to_edge(self._has_ended.set)

    async def _finish(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        if tasks:
            _, ignorant = await asyncio.wait(tasks, timeout=self._stop_seconds / 2)
            if ignorant:
                log.warning("gateway tasks ignored their cancellation", tasks=len(ignorant))
        await self._loop.shutdown_asyncgens()
        await asyncio.wait_for(self._loop.shutdown_default_executor(), timeout=self._stop_seconds / 2)

    def _wake_gateway(self, run: Callable[[], None]) -> None:
        self._loop.call_soon_threadsafe(run)

    def _wake_edge(self, run: Callable[[], None]) -> None:
        self._token.run_sync_soon(run)


class _Courier:
    """Carries function calls to another thread, in order; one wake-up runs what is waiting, up to `CALLS_AT_ONCE`.

    Without a lock: `post` appends before it looks whether a wake-up is on its way, and `_run` takes
    that note back before it looks for calls, so a call is never left without a wake-up. Both may ask for one at once,
    which costs a turn.
    """

    def __init__(self, wake: Callable[[Callable[[], None]], None]) -> None:
        self._wake = wake
        self._calls: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._is_woken = False
        self._has_ended = False

    def post(self, function: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        if self._has_ended:
            return
        self._calls.append((function, arguments))
        if not self._is_woken:
            self._wake_up()

    @property
    def waiting_calls(self) -> int:
        return len(self._calls)

    def end(self) -> None:
        """The other loop has ended, and whoever waited there with it: from now on everything is dropped."""
        self._has_ended = True
        self._calls.clear()

    def _wake_up(self) -> None:
        self._is_woken = True
        try:
            self._wake(self._run)
        except (RuntimeError, trio.RunFinishedError):
            self.end()

    def _run(self) -> None:
        self._is_woken = False
        # Those that wait now, and not too many: a burst, or others that come meanwhile, would keep the loop from its
        # tasks, health among them.
        for _ in range(min(len(self._calls), CALLS_AT_ONCE)):
            if not self._calls:
                return  # one of them has ended this
            function, arguments = self._calls.popleft()
            try:
                function(*arguments)
            except Exception as error:
                # One call's fault must not cost the others theirs, nor end the loop beneath.
                log.error("a call between the loops failed", exc_info=error)
        if self._calls and not self._is_woken:
            self._wake_up()


@contextmanager
def _contained() -> Iterator[None]:
    try:
        yield
    except (Exception, SystemExit, KeyboardInterrupt) as error:
        log.error("the gateway's event loop was interrupted", exc_info=error)


def _new_event_loop() -> asyncio.AbstractEventLoop:
    if importlib.util.find_spec("uvloop") is None:
        return asyncio.new_event_loop()
    try:
        import uvloop
    except Exception as error:  # an installation that is broken raises anything
        log.warning("uvloop cannot be loaded, asyncio's own event loop is used", reason=repr(error))
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()
