"""Which descriptors systemd has passed on, and who gets them."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from sage_edge.core.bind import SystemdBind
from sage_edge.server import activation
from sage_edge.server.activation import PassedSockets
from sage_edge.server.listener import open_listeners


@pytest.fixture
def first(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The first of two open descriptors in a row that a child would inherit."""
    source, _ = pipe = os.pipe()
    first = 200
    for number in (first, first + 1):
        os.dup2(source, number)
    monkeypatch.setattr(activation, "FIRST_DESCRIPTOR", first)
    yield first
    for number in (*pipe, first, first + 1):
        os.close(number)


def environment(**changes: str) -> dict[str, str]:
    return {"LISTEN_FDS": "2", "LISTEN_PID": str(os.getpid()), "LISTEN_FDNAMES": "https:metrics", **changes}


def test_all_are_taken_and_nothing_is_left_for_a_child(first: int) -> None:
    environ = {**environment(), "PATH": "/bin"}
    passed = PassedSockets.from_environment(environ)
    assert environ == {"PATH": "/bin"}
    assert not os.get_inheritable(first)
    assert passed.take(None) == [first, first + 1]
    assert not passed


def test_a_name_takes_its_own(first: int) -> None:
    passed = PassedSockets.from_environment(environment())
    assert passed.take("metrics") == [first + 1]
    assert passed.take(None) == [first]


def test_what_is_reserved_is_its_names_and_none_of_all(first: int) -> None:
    passed = PassedSockets.from_environment(environment())
    passed.reserve(["metrics", "status"])
    assert len(passed) == 1
    assert passed.take(None) == [first]
    assert not passed
    assert passed.take("metrics") == [first + 1]


def test_fewer_names_or_descriptors_than_announced_are_no_fault(first: int) -> None:
    assert PassedSockets.from_environment(environment(LISTEN_FDNAMES="")).take(None) == [first, first + 1]
    assert len(PassedSockets.from_environment(environment(LISTEN_FDS="9"))) == 2


@pytest.mark.parametrize(
    "changes", [{"LISTEN_PID": "1"}, {"LISTEN_PID": ""}, {"LISTEN_FDS": "x"}, {"LISTEN_FDS": "-1"}]
)
def test_what_is_meant_for_another_process_is_left_and_hidden(first: int, changes: dict[str, str]) -> None:
    environ = environment(**changes)
    assert len(PassedSockets.from_environment(environ)) == 0
    assert environ == {}
    assert os.get_inheritable(first) is True


@pytest.mark.parametrize(("name", "what"), [(None, ""), ("Https", " called Https")])
def test_none_where_one_is_asked_for_is_a_fault(name: str | None, what: str) -> None:
    _, (fault,) = open_listeners([SystemdBind(name)])
    assert fault.what == f"cannot listen on {SystemdBind(name)}: systemd passed no socket{what}"
    assert "Sockets=" in fault.hint
