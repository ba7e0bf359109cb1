"""Opening listening sockets: what is opened, what is said where that fails, and what is left behind."""

from __future__ import annotations

import errno
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sage_edge.core.bind import Bind, FileDescriptorBind, TCPBind, UnixBind
from sage_edge.core.errors import ExitCode, Fault
from sage_edge.server import listener
from sage_edge.server.listener import close_listeners, describe_address, open_listeners

linux = pytest.mark.skipif(sys.platform != "linux", reason="no other system has an abstract space")


@pytest.fixture
def opened() -> Iterator[list[socket.socket]]:
    """Sockets that are closed at the end of the test."""
    sockets: list[socket.socket] = []
    yield sockets
    close_listeners(sockets)


def open_all(opened: list[socket.socket], *binds: Bind) -> list[socket.socket]:
    sockets, faults = open_listeners(binds)
    opened.extend(sockets)
    assert faults == []
    return sockets


def fault_of(*binds: Bind) -> Fault:
    sockets, faults = open_listeners(binds)
    assert sockets == []
    (fault,) = faults
    assert fault.code == ExitCode.STARTUP
    assert isinstance(fault.cause, OSError)
    return fault


def can_connect(address: object, family: socket.AddressFamily = socket.AF_INET) -> bool:
    with socket.socket(family) as client:
        return client.connect_ex(address) == 0


class TestOpening:
    def test_an_ipv4_address_accepts_without_blocking_the_process(self, opened: list[socket.socket]) -> None:
        (sock,) = open_all(opened, TCPBind("127.0.0.1", 0))
        assert can_connect(sock.getsockname())
        assert sock.getblocking() is False
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert describe_address(sock) == f"127.0.0.1:{sock.getsockname()[1]}"

    def test_ipv6_leaves_the_port_to_ipv4(self, opened: list[socket.socket]) -> None:
        (v6,) = open_all(opened, TCPBind("::", 0))
        port = v6.getsockname()[1]
        assert not can_connect(("127.0.0.1", port))
        (v4,) = open_all(opened, TCPBind("0.0.0.0", port))
        assert can_connect(("127.0.0.1", port))
        assert can_connect(("::1", port), socket.AF_INET6)
        assert [describe_address(sock) for sock in (v4, v6)] == [f"0.0.0.0:{port}", f"[::]:{port}"]

    def test_a_host_name_is_opened_at_each_of_its_addresses(
        self, opened: list[socket.socket], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        v4 = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0))
        v6 = (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", 0, 0, 0))
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [v4, v6, v4])
        sockets = open_all(opened, TCPBind("edge.test", 0))
        assert [sock.family for sock in sockets] == [socket.AF_INET, socket.AF_INET6]

    @pytest.mark.parametrize("is_first", [True, False])
    def test_an_address_that_the_machine_lacks_is_left_out_where_the_host_has_others(
        self, opened: list[socket.socket], monkeypatch: pytest.MonkeyPatch, is_first: bool
    ) -> None:
        own = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0))
        absent = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 0))
        found = [absent, own] if is_first else [own, absent]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        (sock,) = open_all(opened, TCPBind("edge.test", 0))
        assert sock.getsockname()[0] == "127.0.0.1"

    def test_a_port_is_free_again_at_once(self, opened: list[socket.socket]) -> None:
        (first,) = open_all(opened, TCPBind("127.0.0.1", 0))
        address = first.getsockname()
        with socket.create_connection(address) as client:
            accepted, _ = first.accept()
            accepted.close()
            first.close()
            client.recv(1)
        open_all(opened, TCPBind(*address))

    def test_a_unix_path_exists_while_it_is_open(self, tmp_path: Path) -> None:
        path = tmp_path / "edge.sock"
        sockets, _ = open_listeners([UnixBind(str(path))])
        assert path.is_socket()
        assert can_connect(str(path), socket.AF_UNIX)
        assert describe_address(sockets[0]) == f"unix:{path}"
        close_listeners(sockets)
        assert not path.exists()

    @linux
    def test_a_name_in_the_abstract_space_leaves_no_file(
        self, tmp_path: Path, opened: list[socket.socket], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        bind = UnixBind(f"@sage-edge-test-{os.getpid()}")
        (sock,) = open_all(opened, bind)
        assert can_connect(bind.address, socket.AF_UNIX)
        assert describe_address(sock) == str(bind)
        assert "the address is in use" in fault_of(bind).what
        assert list(tmp_path.iterdir()) == []
        close_listeners([sock])
        assert not can_connect(bind.address, socket.AF_UNIX)

    @pytest.mark.parametrize("is_socket", [True, False])
    def test_what_has_taken_the_place_of_a_unix_path_stays(
        self, tmp_path: Path, opened: list[socket.socket], is_socket: bool
    ) -> None:
        path, newer = tmp_path / "edge.sock", tmp_path / "newer.sock"
        sockets, _ = open_listeners([UnixBind(str(path))])
        if is_socket:
            open_all(opened, UnixBind(str(newer)))
        else:
            newer.touch()
        newer.rename(path)
        close_listeners(sockets)
        assert path.exists()
        assert can_connect(str(path), socket.AF_UNIX) is is_socket

    def test_a_socket_that_nobody_listens_on_is_replaced(self, tmp_path: Path, opened: list[socket.socket]) -> None:
        path = tmp_path / "stale.sock"
        with socket.socket(socket.AF_UNIX) as killed:
            killed.bind(str(path))
        open_all(opened, UnixBind(str(path)))
        assert can_connect(str(path), socket.AF_UNIX)

    def test_an_inherited_socket_is_taken_over(self, opened: list[socket.socket]) -> None:
        parent = socket.create_server(("127.0.0.1", 0))
        (sock,) = open_all(opened, FileDescriptorBind(parent.detach()))
        assert can_connect(sock.getsockname())
        assert sock.getblocking() is False

    def test_the_path_of_an_inherited_socket_is_its_owners_to_remove(self, tmp_path: Path) -> None:
        path = tmp_path / "activated.sock"
        parent = socket.socket(socket.AF_UNIX)
        parent.bind(str(path))
        parent.listen()
        with parent:
            sockets, _ = open_listeners([FileDescriptorBind(parent.dup().detach())])
            close_listeners(sockets)
            assert can_connect(str(path), socket.AF_UNIX)


class TestClosing:
    def test_nobody_listens_on_a_copy_of_what_was_opened_here(self) -> None:
        sockets, _ = open_listeners([TCPBind("127.0.0.1", 0)])
        address = sockets[0].getsockname()
        with sockets[0].dup() as copy:  # as a process has it that was forked, or inherits it
            close_listeners(sockets)
            assert not can_connect(address)
            again, faults = open_listeners([TCPBind(*address)])
            assert not faults
            assert can_connect(address)
            close_listeners(again)
            assert copy.fileno() != -1

    def test_what_was_inherited_its_owner_goes_on_with(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as owners:
            sockets, _ = open_listeners([FileDescriptorBind(owners.dup().detach())])
            close_listeners(sockets)
            with socket.create_connection(owners.getsockname()) as client:
                accepted, address = owners.accept()
                accepted.close()
                assert address == client.getsockname()

    def test_what_does_not_listen_yet_is_closed(self) -> None:
        sockets, _ = open_listeners([TCPBind("127.0.0.1", 0)], is_port_shared=True)
        close_listeners(sockets)
        assert sockets[0].fileno() == -1


class TestFaults:
    def test_an_address_in_use(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            fault = fault_of(TCPBind("127.0.0.1", port))
        assert fault.what == f"cannot listen on 127.0.0.1:{port}: the address is in use"
        assert fault.hint == "stop what listens there, or choose another port"

    def test_the_same_place_twice(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        assert "in use" in fault_of(TCPBind("127.0.0.1", port), TCPBind("127.0.0.1", port)).what

    @pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM])
    @pytest.mark.parametrize(("content", "port"), [("1024\n", 1024), ("80\n", 80), (None, 1024)])
    def test_a_privileged_port_names_the_first_that_is_not(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, number: int, content: str | None, port: int
    ) -> None:
        path = tmp_path / "ip_unprivileged_port_start"
        if content:
            path.write_text(content)
        monkeypatch.setattr(listener, "FIRST_UNPRIVILEGED_PORT", path)

        def refuse(*_: object) -> None:
            raise OSError(number, "Permission denied")

        monkeypatch.setattr(listener, "_listen", refuse)
        fault = fault_of(TCPBind("127.0.0.1", 0))
        assert fault.what.endswith("no permission to listen on a privileged port")
        assert fault.hint == f"choose a port from {port}, or give the process CAP_NET_BIND_SERVICE"

    def test_a_file_in_the_way_is_kept_and_named(self, tmp_path: Path) -> None:
        path = tmp_path / "notes.txt"
        path.write_text("mine")
        fault = fault_of(UnixBind(str(path)))
        assert path.read_text() == "mine"
        assert "path" in fault.hint
        assert "port" not in fault.hint

    def test_a_descriptor_that_is_refused_stays_open(self) -> None:
        with socket.socket() as idle:
            fault = fault_of(FileDescriptorBind(idle.fileno()))
            idle.bind(("127.0.0.1", 0))
        assert fault.what.endswith("it is not a listening stream socket")

    def test_a_datagram_socket_is_refused(self) -> None:
        with socket.socket(type=socket.SOCK_DGRAM) as datagram:
            assert "not a listening stream socket" in fault_of(FileDescriptorBind(datagram.fileno())).what

    def test_each_has_its_own_and_nothing_is_left_open(self, tmp_path: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        binds = [
            TCPBind("127.0.0.1", port),
            UnixBind(str(tmp_path / "good.sock")),
            UnixBind(str(tmp_path / "none" / "bad.sock")),
            FileDescriptorBind(9999),
        ]
        sockets, faults = open_listeners(binds)
        assert sockets == []
        assert len(faults) == 2
        assert not can_connect(("127.0.0.1", port))
        assert list(tmp_path.iterdir()) == []
