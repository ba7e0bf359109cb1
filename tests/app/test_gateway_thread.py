"""A gateway's event loop in its thread, and the calls to it and back."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Iterator, MutableMapping
from itertools import pairwise
from typing import Any

import pytest
import trio
import trio.lowlevel

from sage_edge.app.gateway_thread import CALLS_AT_ONCE, HEARTBEAT_SECONDS, GatewayThread
from tests.app.conftest import gateway_threads, run_in, running_loop_class
from tests.kit.asgi_calls import WAIT_SECONDS, Signal

Logs = list[MutableMapping[str, Any]]
Threads = Callable[[], list[threading.Thread]]


@pytest.fixture(autouse=True)
def new_threads() -> Iterator[Threads]:
    """The gateway threads that a test has started and that are alive; at its end there is none."""
    before = gateway_threads()

    def find() -> list[threading.Thread]:
        return [thread for thread in gateway_threads() if thread not in before]

    yield find
    assert find() == []


async def start_thread() -> GatewayThread:
    thread = GatewayThread()
    await thread.start()
    return thread


async def test_calls_arrive_in_order_both_ways(thread: GatewayThread) -> None:
    arrived: list[int] = []
    back: list[int] = []
    has_ended = Signal()

    def arrive(number: int) -> None:
        arrived.append(number)
        thread.post_to_edge(back.append, number)

    for number in range(10_000):
        thread.post(arrive, number)
    thread.post(has_ended.set)
    await has_ended.wait()
    await run_in(thread, lambda: None)
    assert arrived == back == list(range(10_000))


BURST = 10 * CALLS_AT_ONCE
MOST_BETWEEN = 2 * CALLS_AT_ONCE
"""Between two turns of a task: a loop may have its own order in each."""


def most_between(seen: list[int]) -> int:
    """How many calls there were, at most, between two turns."""
    return max(after - before for before, after in pairwise([0, *seen]))


async def test_a_burst_of_calls_to_the_edge_comes_in_order_and_leaves_its_tasks_their_turn(
    thread: GatewayThread,
) -> None:
    arrived: list[int] = []
    seen: list[int] = []
    all_are_posted = threading.Event()

    def post_all() -> None:
        for number in range(BURST):
            thread.post_to_edge(arrived.append, number)
        all_are_posted.set()

    thread.post(post_all)
    all_are_posted.wait(WAIT_SECONDS)  # and nothing runs here
    with trio.fail_after(WAIT_SECONDS):
        while len(arrived) < BURST:
            await trio.lowlevel.checkpoint()
            seen.append(len(arrived))
    assert arrived == list(range(BURST))
    assert most_between(seen) <= MOST_BETWEEN


async def test_a_burst_of_calls_to_the_gateway_comes_in_order_and_leaves_its_tasks_their_turn(
    thread: GatewayThread,
) -> None:
    arrived: list[int] = []
    seen: list[int] = []
    tasks: list[asyncio.Task[None]] = []
    all_are_posted, has_seen = threading.Event(), Signal()

    async def look() -> None:
        while len(arrived) < BURST:
            await asyncio.sleep(0)
            seen.append(len(arrived))
        has_seen.set()

    def begin() -> None:
        tasks.append(asyncio.get_running_loop().create_task(look()))
        all_are_posted.wait(WAIT_SECONDS)  # and nothing runs there

    thread.post(begin)
    for number in range(BURST):
        thread.post(arrived.append, number)
    all_are_posted.set()
    await has_seen.wait()
    assert arrived == list(range(BURST))
    assert most_between(seen) <= MOST_BETWEEN


async def test_a_call_that_fails_costs_the_others_nothing(thread: GatewayThread, logs: Logs) -> None:
    thread.post(lambda: 1 / 0)  # type: ignore[arg-type, return-value]
    assert await run_in(thread, lambda: "ran") == "ran"
    thread.post(thread.post_to_edge, lambda: 1 / 0)
    assert await run_in(thread, lambda: "ran") == "ran"
    assert [entry["event"] for entry in logs] == ["a call between the loops failed"] * 2


async def test_the_loop_is_uvloops_where_that_is_installed(thread: GatewayThread) -> None:
    uvloop = pytest.importorskip("uvloop")
    assert await run_in(thread, running_loop_class) is uvloop.Loop


async def test_the_loop_is_asyncios_where_uvloop_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    thread = await start_thread()
    assert issubclass(await run_in(thread, running_loop_class), asyncio.SelectorEventLoop)
    assert await thread.stop(WAIT_SECONDS)


async def test_the_loop_is_asyncios_where_uvloop_is_broken(monkeypatch: pytest.MonkeyPatch, logs: Logs) -> None:
    monkeypatch.setitem(sys.modules, "uvloop", None)  # found, and not to be imported
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    thread = await start_thread()
    assert issubclass(await run_in(thread, running_loop_class), asyncio.SelectorEventLoop)
    assert await thread.stop(WAIT_SECONDS)
    assert [entry["event"] for entry in logs] == ["uvloop cannot be loaded, asyncio's own event loop is used"]


async def test_the_lag_grows_while_the_loop_is_blocked_and_the_edge_goes_on(thread: GatewayThread) -> None:
    unblock, is_blocked = threading.Event(), Signal()

    def block() -> None:
        is_blocked.set()
        unblock.wait(WAIT_SECONDS)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(thread.watch)
        await trio.lowlevel.checkpoint()
        assert thread.lag_seconds < 0.2
        thread.post(block)
        await is_blocked.wait()
        lags = []
        for _ in range(4):
            # That this loop comes round at all is half of what is tested.
            await trio.sleep(HEARTBEAT_SECONDS)
            lags.append(thread.lag_seconds)
        assert lags == sorted(lags)
        assert lags[-1] >= 2 * HEARTBEAT_SECONDS
        unblock.set()
        with trio.fail_after(WAIT_SECONDS):
            while thread.lag_seconds >= HEARTBEAT_SECONDS:  # noqa: ASYNC110 - the thread tells nobody
                await trio.sleep(HEARTBEAT_SECONDS / 4)
        assert thread.longest_lag_seconds >= lags[-1], "who looks now and then is to see it"
        nursery.cancel_scope.cancel()


async def test_stopping_cancels_what_runs_and_waits_for_it(new_threads: Threads) -> None:
    steps: list[str] = []

    async def work() -> None:
        has_begun.set()
        try:
            await asyncio.sleep(WAIT_SECONDS)
        finally:
            await asyncio.sleep(0.01)
            steps.append("cleaned up")

    has_begun = Signal()
    thread = await start_thread()
    await run_in(thread, lambda: asyncio.get_running_loop().create_task(work()))
    await has_begun.wait()
    assert await thread.stop(WAIT_SECONDS)
    assert steps == ["cleaned up"]
    assert new_threads() == []


async def test_stopping_closes_asynchronous_generators() -> None:
    steps: list[str] = []
    generators = []

    async def generate() -> AsyncIterator[int]:
        try:
            while True:
                yield 1
        finally:
            steps.append("closed")

    async def use() -> None:
        generators.append(generate())
        await anext(generators[0])
        has_begun.set()

    has_begun = Signal()
    thread = await start_thread()
    await run_in(thread, lambda: asyncio.get_running_loop().create_task(use()))
    await has_begun.wait()
    assert await thread.stop(WAIT_SECONDS)
    assert steps == ["closed"]


async def test_stopping_reports_tasks_that_ignore_their_cancellation(logs: Logs) -> None:
    async def ignore() -> None:
        has_begun.set()
        while True:
            try:
                await asyncio.sleep(WAIT_SECONDS)
            except asyncio.CancelledError:
                ignored.set()

    has_begun, ignored = Signal(), Signal()
    thread = await start_thread()
    tasks = [await run_in(thread, lambda: asyncio.get_running_loop().create_task(ignore()))]
    await has_begun.wait()
    assert await thread.stop(0.5)
    assert ignored.is_set
    assert logs == [{"event": "gateway tasks ignored their cancellation", "tasks": 1, "log_level": "warning"}]
    tasks[0]._log_destroy_pending = False  # asyncio complains of it otherwise


async def test_a_loop_blocked_beyond_the_limit_is_left_behind(new_threads: Threads) -> None:
    unblock, is_blocked = threading.Event(), Signal()

    def block() -> None:
        is_blocked.set()
        unblock.wait(WAIT_SECONDS)

    thread = await start_thread()
    thread.post(block)
    await is_blocked.wait()
    assert not await thread.stop(0.05)
    (left,) = new_threads()
    unblock.set()
    await trio.to_thread.run_sync(left.join, WAIT_SECONDS)


async def test_a_worker_thread_of_the_gateway_blocked_beyond_the_limit_is_left_behind_too(
    new_threads: Threads,
) -> None:
    # Python waits for such a thread when it exits, so the edge must be told.
    unblock, is_blocked = threading.Event(), Signal()

    def block() -> None:
        is_blocked.set()
        unblock.wait(WAIT_SECONDS)

    thread = await start_thread()
    thread.post(lambda: asyncio.get_running_loop().run_in_executor(None, block) and None)
    await is_blocked.wait()
    has_stopped = await thread.stop(0.2)
    unblock.set()
    for left in new_threads():
        await trio.to_thread.run_sync(left.join, WAIT_SECONDS)
    assert not has_stopped


@pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt(), ValueError("in a callback")], ids=repr)
async def test_a_callback_that_raises_does_not_end_the_loop(thread: GatewayThread, error: BaseException) -> None:
    def fail() -> None:
        raise error

    handlers: list[Any] = []
    thread.post(lambda: asyncio.get_running_loop().set_exception_handler(lambda _, context: handlers.append(context)))
    thread.post(lambda: asyncio.get_running_loop().call_soon(fail) and None)
    assert await run_in(thread, lambda: "first") == "first"
    assert await run_in(thread, lambda: "second") == "second"


async def test_what_is_posted_after_the_end_is_dropped() -> None:
    class Argument:
        pass

    thread = await start_thread()
    assert await thread.stop(WAIT_SECONDS)
    arguments: weakref.WeakSet[Argument] = weakref.WeakSet()
    for _ in range(10):
        argument = Argument()
        arguments.add(argument)
        thread.post(print, argument)
    del argument
    assert len(arguments) == 0


def test_a_thread_outlives_the_loop_of_the_edge_without_harm(new_threads: Threads) -> None:
    unblock = threading.Event()

    async def run() -> None:
        thread = await start_thread()
        thread.post(unblock.wait, WAIT_SECONDS)
        assert not await thread.stop(0.01)

    trio.run(run)
    (left,) = new_threads()
    unblock.set()
    left.join(WAIT_SECONDS)
    assert not left.is_alive()
