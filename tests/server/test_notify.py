"""What the service manager is told, and that nothing depends on it."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from threading import Thread

import pytest
import trio
import trio.testing

from sage_edge.server.notify import Notifier, keep_notified


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[socket.socket]:
    """A service manager's socket; `address` has it as the environment would."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify") if request.param == "path" else f"\0sage-edge-test-{os.getpid()}")
        sock.setblocking(False)
        yield sock


def address_of(manager: socket.socket) -> str:
    name = manager.getsockname()
    return name if isinstance(name, str) else "@" + name[1:].decode()


def messages(manager: socket.socket) -> list[str]:
    received = []
    while True:
        try:
            received.append(manager.recv(4096).decode())
        except BlockingIOError:
            return received


def test_each_turn_of_a_life_is_one_datagram(manager: socket.socket) -> None:
    notifier = Notifier(address_of(manager))
    notifier.status("loading the gateway")
    notifier.extend_timeout(1.5)
    notifier.ready("ready")
    notifier.beat()
    notifier.stopping("draining")
    assert messages(manager) == [
        "STATUS=loading the gateway",
        "EXTEND_TIMEOUT_USEC=1500000",
        "READY=1\nSTATUS=ready",
        "WATCHDOG=1",
        "STOPPING=1\nSTATUS=draining",
    ]


def test_a_reload_has_the_time_at_which_it_began(manager: socket.socket) -> None:
    Notifier(address_of(manager)).reloading("reloading")
    (message,) = messages(manager)
    first, microseconds, status = message.split("\n")
    assert (first, status) == ("RELOADING=1", "STATUS=reloading")
    assert microseconds.removeprefix("MONOTONIC_USEC=").isdecimal()


def test_a_status_is_told_where_it_changes_and_stays_one_line(manager: socket.socket) -> None:
    notifier = Notifier(address_of(manager))
    notifier.ready("ready")
    for text in ("ready", "degraded\nREADY=1", "degraded\nREADY=1", "ready"):
        notifier.status(text)
    assert messages(manager)[1:] == ["STATUS=degraded READY=1", "STATUS=ready"]


@pytest.mark.parametrize("address", [None, "", "/nowhere/notify", "@nobody-listens-here", "/" + 200 * "x", "vsock:2:1"])
def test_nobody_to_tell_is_no_fault(address: str | None) -> None:
    notifier = Notifier(address, watchdog_seconds=1)
    notifier.ready("ready")
    notifier.beat()


def test_a_manager_that_reads_nothing_holds_nothing_up(manager: socket.socket) -> None:
    notifier = Notifier(address_of(manager))
    fill(manager)
    telling = Thread(target=notifier.beat, daemon=True)
    telling.start()
    telling.join(10)
    assert not telling.is_alive()
    assert set(messages(manager)) == {""}  # what filled it
    notifier.beat()
    assert messages(manager) == ["WATCHDOG=1"]  # as the last one would have said


def fill(manager: socket.socket) -> None:
    """Leave no room in the manager's socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other, suppress(BlockingIOError):
        other.setblocking(False)
        while True:
            other.sendto(b"", manager.getsockname())


async def test_what_a_full_socket_does_not_take_is_told_in_its_order_once_there_is_room(
    manager: socket.socket, autojump_clock: trio.testing.MockClock
) -> None:
    notifier = Notifier(address_of(manager))
    fill(manager)
    notifier.status("starting")
    notifier.ready("ready")
    notifier.beat()
    notifier.reloading("reloading")
    with trio.move_on_after(5.5):
        await keep_notified(notifier, lambda: "changed", lambda: False)
    assert set(messages(manager)) == {""}
    with trio.move_on_after(1.5):
        await keep_notified(notifier, lambda: "changed", lambda: False)
    ready, reloading, status = messages(manager)
    assert ready == "READY=1\nSTATUS=ready"
    assert reloading.startswith("RELOADING=1\n")
    assert status == "STATUS=changed"


def test_what_is_kept_for_a_full_socket_has_a_bound_and_the_last_is_kept(manager: socket.socket) -> None:
    notifier = Notifier(address_of(manager))
    fill(manager)
    for number in range(1000):
        notifier.reloading(f"reloading {number}")
    notifier.stopping("draining")
    assert set(messages(manager)) == {""}
    notifier.beat()
    told = messages(manager)
    assert told[-2:] == ["STOPPING=1\nSTATUS=draining", "WATCHDOG=1"]
    assert len(told) < 100


def test_the_environment_is_read_and_cleared() -> None:
    environ = {
        "NOTIFY_SOCKET": "/run/notify",
        "WATCHDOG_USEC": "3000000",
        "WATCHDOG_PID": str(os.getpid()),
        "PATH": "/bin",
    }
    notifier = Notifier.from_environment(environ)
    assert notifier.is_heard
    assert notifier.watchdog_seconds == 3
    assert environ == {"PATH": "/bin"}


@pytest.mark.parametrize(
    ("environ", "watchdog_seconds"),
    [
        ({"NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": "2000000"}, 2),
        ({"NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": "2000000", "WATCHDOG_PID": "1"}, None),
        ({"NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": "0"}, None),
        ({"NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "2000000"}, None),
        ({}, None),
    ],
)
def test_a_watchdog_is_fed_only_where_it_waits_for_this_process(
    environ: dict[str, str], watchdog_seconds: float | None
) -> None:
    assert Notifier.from_environment(environ).watchdog_seconds == watchdog_seconds


async def test_the_heartbeat_comes_twice_as_often_as_it_is_due(
    manager: socket.socket, autojump_clock: trio.testing.MockClock
) -> None:
    notifier = Notifier(address_of(manager), watchdog_seconds=20)
    with trio.move_on_after(70.5):
        await keep_notified(notifier, lambda: "ready", lambda: False)
    assert messages(manager).count("WATCHDOG=1") == 8


async def test_time_is_asked_for_while_something_slow_is_under_way(
    manager: socket.socket, autojump_clock: trio.testing.MockClock
) -> None:
    with trio.move_on_after(10.5):
        await keep_notified(
            Notifier(address_of(manager)),
            lambda: "starting" if trio.current_time() < 5 else "ready",
            lambda: trio.current_time() < 5,
        )
    received = messages(manager)
    assert received.count("EXTEND_TIMEOUT_USEC=15000000") == 5
    assert [message for message in received if message.startswith("STATUS")] == ["STATUS=starting", "STATUS=ready"]


async def test_without_a_manager_there_is_no_task() -> None:
    await keep_notified(Notifier(), lambda: "ready", lambda: False)
