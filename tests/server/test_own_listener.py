"""A listener whose address another edge has: when it is taken over, and when it is left alone."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import trio
import trio.testing

from sage_edge.core.bind import TCPBind
from sage_edge.server.listener import close_listeners
from sage_edge.server.own_listener import RETRY_SECONDS, OwnListener


@pytest.fixture
def other() -> Iterator[socket.socket]:
    """What listens at the address."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock


class Waiting:
    """A listener that waits for an address."""

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self.listener = OwnListener(awaited=TCPBind(host, port), opened="it is open")
        self.is_over = trio.Event()

    async def run(self) -> None:
        close_listeners(await self.listener.wait_until_open())
        self.is_over.set()


async def test_an_address_is_taken_once_it_is_free(
    autojump_clock: trio.testing.MockClock, other: socket.socket
) -> None:
    async with trio.open_nursery() as nursery:
        waiting = Waiting(other.getsockname()[1])
        nursery.start_soon(waiting.run)
        await trio.sleep(10.5 * RETRY_SECONDS)
        assert not waiting.is_over.is_set()
        other.close()
        await waiting.is_over.wait()
    assert [sock.fileno() for sock in waiting.listener.sockets] == [-1]  # opened, and closed by the test


async def test_an_edge_that_ends_leaves_an_address_alone_that_becomes_free(
    autojump_clock: trio.testing.MockClock, other: socket.socket
) -> None:
    async with trio.open_nursery() as nursery:
        waiting = Waiting(other.getsockname()[1])
        nursery.start_soon(waiting.run)
        await trio.sleep(1.5 * RETRY_SECONDS)
        waiting.listener.give_up()
        other.close()
        await waiting.is_over.wait()
    assert waiting.listener.sockets == ()


async def test_a_host_name_is_resolved_once_and_holds_nobody_up(
    autojump_clock: trio.testing.MockClock, other: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, bool]] = []
    find = socket.getaddrinfo

    def note(host: str, *args: Any, **options: Any) -> object:
        asked.append((host, threading.current_thread() is threading.main_thread()))
        if len(asked) == 1:
            raise socket.gaierror(socket.EAI_AGAIN, "not now")
        return find("127.0.0.1", *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", note)
    async with trio.open_nursery() as nursery:
        waiting = Waiting(other.getsockname()[1], "edge.test")
        nursery.start_soon(waiting.run)
        await trio.sleep(10.5 * RETRY_SECONDS)
        other.close()
        await waiting.is_over.wait()
    assert asked == [("edge.test", False)] * 2
