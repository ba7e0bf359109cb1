"""Who gets new connections to a port that several listen on, before and after one hands over."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress

import pytest

from sage_edge.core.settings import Settings
from sage_edge.server.hand_over import HAND_OVER_SECONDS, hand_over, last_call_seconds, take_over
from sage_edge.server.listener import close_listeners

ENOUGH = 64
"""Connections, of which each of two gets some: but for one time in 2 ** 63."""

linux = pytest.mark.skipif(sys.platform != "linux", reason="no other system can be told")


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def listen(opened: ExitStack, beside: socket.socket | None = None) -> socket.socket:
    """A socket that shares its port, with those that began to listen before it."""
    sock = opened.enter_context(socket.socket())
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind(beside.getsockname() if beside is not None else ("127.0.0.1", 0))
    sock.listen(ENOUGH)
    sock.setblocking(False)
    return sock


def ask(sockets: Sequence[socket.socket]) -> list[int]:
    """How many of new connections each gets."""
    with ExitStack() as clients:
        for _ in range(ENOUGH):
            clients.enter_context(socket.create_connection(sockets[0].getsockname()))
        return [sum(1 for _ in accepted(sock)) for sock in sockets]


def accepted(sock: socket.socket) -> Iterator[None]:
    with suppress(BlockingIOError):
        while True:
            sock.accept()[0].close()
            yield


@linux
def test_connections_go_to_the_next_until_the_first_is_closed(opened: ExitStack) -> None:
    old = listen(opened)
    new = listen(opened, old)
    assert all(ask([old, new]))
    hand_over([old], 1)
    assert ask([old, new]) == [0, ENOUGH]
    take_over(old)
    old.close()
    newest = listen(opened, new)
    assert all(ask([new, newest]))
    hand_over([new], 1)
    assert ask([new, newest]) == [0, ENOUGH]


@linux
def test_several_hand_over_together(opened: ExitStack) -> None:
    old = [first := listen(opened), listen(opened, first)]
    new = listen(opened, first)
    hand_over([first], len(old))
    assert ask([*old, new]) == [0, 0, ENOUGH]


@linux
def test_with_nobody_behind_it_goes_on(opened: ExitStack) -> None:
    alone = listen(opened)
    hand_over([alone], 1)
    assert ask([alone]) == [ENOUGH]


@linux
def test_whoever_takes_over_shares_again(opened: ExitStack) -> None:
    old = listen(opened)
    new = listen(opened, old)
    hand_over([old], 1)
    take_over(new)
    assert all(ask([old, new]))


@linux
def test_a_port_that_was_handed_over_is_spread_again_once_its_first_socket_is_closed(opened: ExitStack) -> None:
    old = listen(opened)
    others = [listen(opened, old), listen(opened, old)]
    hand_over([old], 1)
    close_listeners([old])
    assert all(ask(others))


def test_other_sockets_are_left_alone(opened: ExitStack) -> None:
    unix = opened.enter_context(socket.socket(socket.AF_UNIX))
    own = opened.enter_context(socket.create_server(("127.0.0.1", 0)))
    own.setblocking(False)
    closed = socket.socket()
    closed.close()
    hand_over([unix, own, closed], 1)
    for sock in (unix, own, closed):
        take_over(sock)
    assert ask([own]) == [ENOUGH]


def test_connections_are_accepted_for_as_long_as_it_takes() -> None:
    assert last_call_seconds(Settings()) == 0
    assert last_call_seconds(Settings(reuse_port=True)) == HAND_OVER_SECONDS
    assert last_call_seconds(Settings(reuse_port=True, drain_delay_seconds=7)) == 7
