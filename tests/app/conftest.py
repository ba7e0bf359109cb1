"""Applications in their place: beside the server on trio, and in a gateway's thread on asyncio."""

from __future__ import annotations

import asyncio
import threading
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterator, MutableMapping
from typing import Any

import pytest
import trio
import trio.testing

from sage_edge.app.asgi import ASGIApplication
from sage_edge.app.bridge import BridgedApplication
from sage_edge.app.gateway_thread import GatewayThread
from sage_edge.app.native import NativeApplication
from tests.kit.asgi_calls import WAIT_SECONDS
from tests.kit.captured_logs import captured_logs

GRACE_SECONDS = 0.02

SETTLING_ROUNDS = 50
"""Ways to the gateway's loop and back until all that follows from one another has happened, on a busy machine too."""


class Place(ABC):
    """Where an application runs. Applications that use anyio run in both."""

    @abstractmethod
    def mount(self, application: ASGIApplication) -> ASGIApplication:
        """The application, to be called on trio."""

    @abstractmethod
    def post(self, function: Callable[[], None]) -> None:
        """Run a function beside the application."""

    @abstractmethod
    async def settle(self) -> None:
        """Return when neither side has anything left to do."""

    @abstractmethod
    def new_gate(self) -> Gate:
        """An event that a test sets and an application awaits."""


class Gate:
    """An event that a test sets and an application awaits."""

    def __init__(self, post: Callable[[Callable[[], None]], None], event: trio.Event | asyncio.Event) -> None:
        self._post = post
        self._event = event

    def open(self) -> None:
        """Let the application go on. For use in a test."""
        self._post(self._event.set)

    async def wait(self) -> None:
        """Wait for the test. For use in an application."""
        await self._event.wait()


class NativePlace(Place):
    """In the test's own loop."""

    def mount(self, application: ASGIApplication) -> ASGIApplication:
        return NativeApplication(application)

    def post(self, function: Callable[[], None]) -> None:
        function()

    def new_gate(self) -> Gate:
        return Gate(self.post, trio.Event())

    async def settle(self) -> None:
        await trio.testing.wait_all_tasks_blocked()


class BridgedPlace(Place):
    """In a gateway's thread."""

    def __init__(self, thread: GatewayThread) -> None:
        self._thread = thread

    def mount(self, application: ASGIApplication) -> ASGIApplication:
        return BridgedApplication(application, self._thread)

    def post(self, function: Callable[[], None]) -> None:
        self._thread.post(function)

    def new_gate(self) -> Gate:
        return Gate(self.post, asyncio.Event())

    async def settle(self) -> None:
        for _ in range(SETTLING_ROUNDS):
            answered = trio.Event()
            self._thread.post(self._thread.post_to_edge, answered.set)
            await answered.wait()
            await trio.testing.wait_all_tasks_blocked()


@pytest.fixture(autouse=True)
def logs() -> Iterator[list[MutableMapping[str, Any]]]:
    """What is logged."""
    with captured_logs() as entries:
        yield entries


@pytest.fixture
async def thread() -> AsyncIterator[GatewayThread]:
    """A gateway's thread that runs."""
    thread = GatewayThread()
    await thread.start()
    yield thread
    with trio.CancelScope(shield=True):
        assert await thread.stop(WAIT_SECONDS)


@pytest.fixture
def bridged(thread: GatewayThread) -> Place:
    """The gateway's thread as a place."""
    return BridgedPlace(thread)


@pytest.fixture(params=["native", "bridged"])
async def place(request: pytest.FixtureRequest) -> AsyncIterator[Place]:
    """Both places, one after the other."""
    if request.param == "native":
        yield NativePlace()
        return
    thread = GatewayThread()
    await thread.start()
    yield BridgedPlace(thread)
    with trio.CancelScope(shield=True):
        assert await thread.stop(WAIT_SECONDS)


async def run_in(thread: GatewayThread, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a gateway's loop and return what it returns."""
    result: list[Any] = []
    has_run = trio.Event()

    def run() -> None:
        result.append(function(*arguments))
        thread.post_to_edge(has_run.set)

    thread.post(run)
    with trio.fail_after(WAIT_SECONDS):
        await has_run.wait()
    return result[0]


def gateway_threads() -> list[threading.Thread]:
    """The gateway threads that are alive."""
    return [thread for thread in threading.enumerate() if thread.name == "gateway"]


def running_loop_class() -> type[asyncio.AbstractEventLoop]:
    """The class of the loop this is called in."""
    return type(asyncio.get_running_loop())
