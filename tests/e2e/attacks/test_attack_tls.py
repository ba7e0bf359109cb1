"""Many connections, and handshakes that do not end, keep nobody else out."""

from __future__ import annotations

import resource
import socket
import ssl
import time
from contextlib import ExitStack, suppress

from tests.e2e.attacks.conftest import MakeTarget
from tests.kit.attack import Target, count_descriptors, dribble, open_socket, open_tls, siege, wait_for_ends
from tests.kit.eventually import eventually

LIMIT_SECONDS = 4.0
GET = b"GET /none HTTP/1.1\r\nhost: localhost\r\n\r\n"


def client_hello(target: Target) -> bytes:
    """The first message of a handshake."""
    outgoing = ssl.MemoryBIO()
    tls = target.context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost")
    with suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


def is_served(sock: socket.socket) -> bool:
    """Whether a connection was accepted for good, and not closed at once."""
    sock.settimeout(LIMIT_SECONDS)
    try:
        sock.sendall(GET)
        return sock.recv(65536).startswith(b"HTTP/1.1 204")
    except OSError:
        return False


def try_tls(stack: ExitStack, target: Target, address: str) -> socket.socket | None:
    """A connection that was served, which stays open; None where it was refused."""
    try:
        sock = stack.enter_context(open_tls(target, address=address))
    except OSError:
        return None
    return sock if is_served(sock) else None


def test_handshakes_that_stop_half_way(hasty: Target) -> None:
    hello = client_hello(hasty)
    with siege(hasty, "half a ClientHello", connections=200), ExitStack() as stack:
        sockets = [stack.enter_context(open_socket(hasty)) for _ in range(200)]
        for sock in sockets:
            sock.sendall(hello[: len(hello) // 2])
        wait_for_ends(sockets, LIMIT_SECONDS)


def test_handshakes_that_come_by_the_byte(hasty: Target) -> None:
    hello = client_hello(hasty)
    with siege(hasty, "ClientHello by the byte", connections=100), ExitStack() as stack:
        sockets = [stack.enter_context(open_socket(hasty)) for _ in range(100)]
        dribble(sockets, hello[:15])
        wait_for_ends(sockets, LIMIT_SECONDS)


def test_handshakes_that_stop_before_their_end(hasty: Target) -> None:
    hello = client_hello(hasty)
    with siege(hasty, "ClientHello alone", connections=200), ExitStack() as stack:
        sockets = [stack.enter_context(open_socket(hasty)) for _ in range(200)]
        for sock in sockets:
            sock.sendall(hello)
        wait_for_ends(sockets, LIMIT_SECONDS)


def test_handshakes_one_after_the_other(target: Target) -> None:
    hello = client_hello(target)
    with siege(target, "handshakes given up", connections=500):
        for _ in range(500):
            with open_socket(target) as sock:
                sock.sendall(hello)


def test_client_hellos_without_end(target: Target) -> None:
    with siege(target, "endless ClientHellos", connections=20), ExitStack() as stack:
        sockets = [stack.enter_context(open_socket(target)) for _ in range(20)]
        # One message of 16 MB, in records of 16 KB.
        begin = b"\x16\x03\x01\x40\x00" + b"\x01\xff\xff\xff" + bytes(16_380)
        more = b"\x16\x03\x01\x40\x00" + bytes(16_384)
        for sock in sockets:
            with suppress(OSError):
                sock.sendall(begin + more * 50)
        wait_for_ends(sockets, LIMIT_SECONDS)


def test_one_address_has_as_many_connections_as_it_may(make_target: MakeTarget) -> None:
    with (
        make_target("--max-connections-per-client", "50") as target,
        siege(target, "1,000 connections of one address", connections=1),
        ExitStack() as stack,
    ):
        served = [sock for _ in range(60) if (sock := try_tls(stack, target, "127.0.0.2"))]
        assert len(served) == 50
        refused = [stack.enter_context(open_socket(target)) for _ in range(940)]
        wait_for_ends(refused, LIMIT_SECONDS)
        assert try_tls(stack, target, "127.0.0.3")  # another address has its own
        served[0].close()
        assert eventually(lambda: try_tls(stack, target, "127.0.0.2") is not None, LIMIT_SECONDS)
        assert all(is_served(sock) for sock in served[1:])


def test_there_are_as_many_connections_as_there_may_be(make_target: MakeTarget) -> None:
    with (
        make_target("--max-connections", "20") as target,
        siege(target, "connections in all", connections=1),
        ExitStack() as stack,
    ):
        # Two are others'.
        assert eventually(lambda: count_descriptors(target.edge) >= target.descriptors + 2, LIMIT_SECONDS)
        tried = [try_tls(stack, target, f"127.0.0.{number + 2}") for number in range(100)]
        served = [sock for sock in tried if sock is not None]
        assert len(served) == 18
        assert all(is_served(sock) for sock in served)


def test_no_descriptors_left(make_target: MakeTarget) -> None:
    with make_target() as target:
        limit = target.descriptors + 50
        resource.prlimit(target.edge.process.pid, resource.RLIMIT_NOFILE, (limit, limit))
        with siege(target, "no descriptors left", connections=1, asks_health=False), ExitStack() as stack:
            sockets = [stack.enter_context(open_socket(target)) for _ in range(300)]
            assert eventually(lambda: count_descriptors(target.edge) >= limit, LIMIT_SECONDS)
            time.sleep(1)
            for sock in sockets:
                sock.close()


def test_no_descriptors_left_but_those_of_idle_connections(make_target: MakeTarget) -> None:
    with make_target() as target:
        limit = target.descriptors + 50
        resource.prlimit(target.edge.process.pid, resource.RLIMIT_NOFILE, (limit, limit))
        with siege(target, "descriptors kept by the idle", connections=1, asks_health=False), ExitStack() as stack:
            served = [sock for _ in range(60) if (sock := try_tls(stack, target, "127.0.0.2"))]
            assert len(served) == 60  # the idle ones make room
