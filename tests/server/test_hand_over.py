"""Who gets new connections to a port that several listen on, before and after one hands over."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress

import pytest

from sage_edge.core.settings import Settings
from sage_edge.server import hand_over as module
from sage_edge.server.hand_over import HAND_OVER_SECONDS, hand_over, in_turn, last_call_seconds, take_back, take_over
from sage_edge.server.listener import close_listeners

ENOUGH = 64
"""Connections, of which each of two gets some: but for one time in 2 ** 63."""

linux = pytest.mark.skipif(sys.platform != "linux", reason="no other system can be told")


def _has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


has_ipv6 = pytest.mark.skipif(not _has_ipv6(), reason="this machine has no IPv6")


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def listen(opened: ExitStack, beside: socket.socket | None = None, *, host: str = "127.0.0.1") -> socket.socket:
    """A socket that shares its port, with those that began to listen before it."""
    sock = opened.enter_context(socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind(beside.getsockname() if beside is not None else (host, 0))
    sock.listen(ENOUGH)
    sock.setblocking(False)
    return sock


def ask(sockets: Sequence[socket.socket]) -> list[int]:
    """How many of new connections each gets."""
    with ExitStack() as clients:
        for _ in range(ENOUGH):
            clients.enter_context(socket.create_connection(sockets[0].getsockname()[:2]))
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
    hand_over([old])
    assert ask([old, new]) == [0, ENOUGH]
    take_over(old)
    old.close()
    newest = listen(opened, new)
    assert all(ask([new, newest]))
    hand_over([new])
    assert ask([new, newest]) == [0, ENOUGH]


@linux
def test_several_hand_over_together(opened: ExitStack) -> None:
    old = [first := listen(opened), listen(opened, first)]
    new = listen(opened, first)
    hand_over(old)
    assert ask([*old, new]) == [0, 0, ENOUGH]


@linux
@pytest.mark.parametrize("is_newer", [False, True], ids=["to newer ones", "to older ones"])
def test_all_of_the_others_get_connections(opened: ExitStack, is_newer: bool) -> None:
    sockets = [first := listen(opened), *(listen(opened, first) for _ in range(4))]
    ours = sockets[-2:] if is_newer else sockets[:2]
    theirs = [sock for sock in sockets if sock not in ours]
    hand_over(ours)
    asked = ask([*ours, *theirs])
    assert asked[:2] == [0, 0]
    assert all(asked[2:])


@linux
def test_connections_go_to_one_that_listens_between_ours(opened: ExitStack) -> None:
    sockets = [first := listen(opened), listen(opened, first), listen(opened, first)]
    hand_over(sockets[::2])
    assert ask(sockets) == [0, ENOUGH, 0]


@linux
@pytest.mark.parametrize("host", ["127.0.0.1", pytest.param("::1", marks=has_ipv6)])
def test_the_newer_hand_over_to_the_older(opened: ExitStack, host: str) -> None:
    old = [first := listen(opened, host=host), listen(opened, first, host=host)]
    new = [listen(opened, first, host=host), listen(opened, first, host=host)]
    hand_over(new)
    asked = ask([*old, *new])
    assert all(asked[:2])
    assert asked[2:] == [0, 0]
    take_over(new[0])
    for sock in new:
        sock.close()
    assert all(ask(old))
    newest = listen(opened, first, host=host)
    hand_over(old)
    assert ask([*old, newest]) == [0, 0, ENOUGH]


@linux
def test_the_middle_one_hands_over_to_the_newest(opened: ExitStack) -> None:
    old = listen(opened)
    middle, new = listen(opened, old), listen(opened, old)
    hand_over([middle])
    assert ask([old, middle, new]) == [0, 0, ENOUGH]


@linux
def test_each_address_is_handed_over_on_its_own(opened: ExitStack) -> None:
    first, second = listen(opened), listen(opened)
    before, behind = listen(opened), listen(opened, first)
    mine = listen(opened, before)
    hand_over([first, second, mine])
    assert ask([first, behind]) == [0, ENOUGH]
    assert ask([second]) == [ENOUGH]
    assert ask([before, mine]) == [ENOUGH, 0]


@linux
def test_where_the_system_lists_nothing_ours_are_taken_for_the_first(
    opened: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_list_listeners", lambda *_: [])
    old = [first := listen(opened), listen(opened, first)]
    new = listen(opened, first)
    hand_over(old)
    assert ask([*old, new]) == [0, 0, ENOUGH]


@linux
def test_with_nobody_behind_it_goes_on(opened: ExitStack) -> None:
    alone = listen(opened)
    hand_over([alone])
    assert ask([alone]) == [ENOUGH]


@linux
def test_whoever_takes_over_shares_again(opened: ExitStack) -> None:
    old = listen(opened)
    new = listen(opened, old)
    hand_over([old])
    take_over(new)
    assert all(ask([old, new]))


@linux
def test_a_word_that_is_left_is_taken_back_where_nobody_else_listens(opened: ExitStack) -> None:
    ours = [first := listen(opened), listen(opened, first)]
    bound = opened.enter_context(socket.socket())
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    bound.bind(first.getsockname())
    module._send_to([1], first)
    assert ask(ours) == [0, ENOUGH]
    take_back([*ours, bound])
    assert all(ask(ours))


@linux
def test_nothing_is_taken_back_from_somebody_who_listens(opened: ExitStack) -> None:
    old = listen(opened)
    ours = [listen(opened, old), listen(opened, old)]
    hand_over([old])
    take_back(ours)
    assert ask([old, *ours])[0] == 0


@linux
def test_nothing_is_taken_back_where_the_system_lists_nothing(
    opened: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_list_listeners", lambda *_: [])
    old = listen(opened)
    new = listen(opened, old)
    hand_over([old])
    take_back([new])
    assert ask([old, new]) == [0, ENOUGH]


@linux
def test_a_port_that_was_handed_over_is_spread_again_once_its_first_socket_is_closed(opened: ExitStack) -> None:
    old = listen(opened)
    others = [listen(opened, old), listen(opened, old)]
    hand_over([old])
    close_listeners([old])
    assert all(ask(others))


@linux
@pytest.mark.parametrize("others", [1, 2, 3])
@pytest.mark.parametrize("is_newer", [False, True], ids=["the older close", "the newer close"])
def test_while_several_are_closed_nobody_comes_to_those_that_are_left(
    opened: ExitStack, others: int, is_newer: bool
) -> None:
    sockets = [first := listen(opened), *(listen(opened, first) for _ in range(others + 2))]
    ours = sockets[-3:] if is_newer else sockets[:3]
    theirs = [sock for sock in sockets if sock not in ours]
    hand_over(ours)
    for closed, sock in enumerate(in_turn(ours), 1):
        assert sock is ours[closed - 1]
        sock.close()
        if closed < len(ours):
            asked = ask([*theirs, *ours[closed:]])
            assert sum(asked[:others]) == ENOUGH
            assert sum(map(bool, asked[:others])) >= others - 1, "all but one, whose number changes"
    assert all(ask(theirs))


@linux
def test_where_all_are_closed_others_are_left_alone(opened: ExitStack) -> None:
    ours = [first := listen(opened), listen(opened, first)]
    unix = opened.enter_context(socket.socket(socket.AF_UNIX))
    for sock in (closing := in_turn([*ours, unix])):
        sock.close()
    assert list(closing) == []
    assert [sock.fileno() for sock in (*ours, unix)] == [-1] * 3


def test_other_sockets_are_left_alone(opened: ExitStack) -> None:
    unix = opened.enter_context(socket.socket(socket.AF_UNIX))
    own = opened.enter_context(socket.create_server(("127.0.0.1", 0)))
    own.setblocking(False)
    closed = socket.socket()
    closed.close()
    hand_over([unix, own, closed])
    for sock in (unix, own, closed):
        take_over(sock)
    assert ask([own]) == [ENOUGH]


def test_connections_are_accepted_for_as_long_as_it_takes() -> None:
    assert last_call_seconds(Settings()) == 0
    assert last_call_seconds(Settings(reuse_port=True)) == HAND_OVER_SECONDS
    assert last_call_seconds(Settings(reuse_port=True, drain_delay_seconds=7)) == 7
