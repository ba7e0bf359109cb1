"""Opens listening sockets, and says in one sentence why one could not be opened.

Which sockets systemd passes on is `server.activation`'s.
"""

from __future__ import annotations

import errno
import os
import socket
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sage_edge.core.bind import Bind, FileDescriptorBind, SystemdBind, TCPBind, UnixBind
from sage_edge.core.errors import ExitCode, Fault, reason_of
from sage_edge.core.logger import EdgeLogger
from sage_edge.server.activation import PassedSockets
from sage_edge.server.forked_children import keep_from_children
from sage_edge.server.hand_over import in_turn, take_over

log = EdgeLogger(__name__)

BACKLOG = 1024
ABSENT = {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}
"""What is no fault of a host name's address where another serves: localhost is often ::1 too, without IPv6."""
FIRST_UNPRIVILEGED_PORT = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")


SocketAddress = tuple[socket.AddressFamily, socket.SocketKind, int, Any]
"""Family, type, protocol and address, as a socket is made and bound."""


class InheritedSocket(socket.socket):
    """A listening socket that another process has opened, and may be accepting from or pass on to the next."""


def resolve(bind: TCPBind) -> Sequence[SocketAddress]:
    """The addresses of a host name, or the address that it is; waits for whoever knows names.

    Raises:
        OSError: nobody knows it.
    """
    found = socket.getaddrinfo(bind.host, bind.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return list(dict.fromkeys((family, kind, protocol, address) for family, kind, protocol, _, address in found))


class _PathSocket(socket.socket):
    """A Unix socket that was opened here, and is to leave no path behind."""

    _file: tuple[int, int] | None = None

    def bind_path(self, path: str) -> None:
        """Bind it, and remember the file that this has made."""
        self.bind(path)
        self._file = _identify(path)

    def remove_path(self) -> None:
        """Remove the path, unless another file is there now: a newer edge may have put its own in the place."""
        if self.fileno() == -1 or self._file is None:
            return
        path = self.getsockname()
        with suppress(OSError):
            if _identify(path) == self._file:
                Path(path).unlink()


def _identify(path: str) -> tuple[int, int]:
    found = os.lstat(path)
    return found.st_dev, found.st_ino


def open_listeners(
    binds: Sequence[Bind],
    passed: PassedSockets | None = None,
    *,
    is_port_shared: bool = False,
    resolve: Callable[[TCPBind], Sequence[SocketAddress]] = resolve,
) -> tuple[list[socket.socket], list[Fault]]:
    """Open and listen on everything that can be.

    A host name is bound at each of its addresses that this machine has. `[::]` takes IPv6 alone, so that it can stand
    beside `0.0.0.0`.

    Args:
        binds: where.
        passed: what systemd has passed on; taken from.
        is_port_shared: open TCP ports with SO_REUSEPORT. They do not listen yet: see `start_listening`.
        resolve: finds the addresses of a host.

    Returns:
        The sockets, and a fault for each bind that failed; with faults, no socket is left open.
    """
    sockets: list[socket.socket] = []
    faults: list[Fault] = []
    for bind in binds:
        try:
            if isinstance(bind, TCPBind):
                sockets.extend(_open_tcp(bind, resolve(bind), is_port_shared=is_port_shared))
            else:
                sockets.extend(_open(bind, PassedSockets() if passed is None else passed))
        except OSError as error:
            faults.append(_explain(bind, error))
    if faults:
        close_listeners(sockets)
        return [], faults
    keep_from_children(sockets)
    return sockets, []


def inherit(descriptors: Iterable[int]) -> list[socket.socket]:
    """Listening sockets, or bound ones that will listen, which the parent process has opened."""
    sockets = [_own(InheritedSocket(fileno=descriptor)) for descriptor in descriptors]
    keep_from_children(sockets)
    return sockets


def spread(sockets: Sequence[socket.socket], count: int) -> list[list[socket.socket]]:
    """Sockets for several processes, so that the system spreads connections evenly over them (SO_REUSEPORT).

    Of one socket alone, the process that went to sleep last would get nearly all connections. Where the system
    cannot, and for Unix and inherited sockets, all get the same one.

    Args:
        sockets: opened here.
        count: of processes; the first gets `sockets`.
    """
    return [list(sockets), *([_duplicate(sock) for sock in sockets] for _ in range(1, count))]


def _duplicate(sock: socket.socket) -> socket.socket:
    if sys.platform != "linux" or sock.family == socket.AF_UNIX or isinstance(sock, InheritedSocket):
        return sock
    # Only now, so that another edge's port was no less taken for it.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    with _closed_on_failure(socket.socket(sock.family, sock.type, sock.proto)) as other:
        _bind_tcp(other, sock.getsockname(), is_port_shared=True)
        if _is_listening(sock):
            _listen(other)
    return other


def close_listeners(sockets: Sequence[socket.socket]) -> None:
    """Close the sockets, remove the paths of Unix ones, and leave shared ports to whoever else listens on them.

    What was opened here nobody listens on from then on, whatever copies there are: a process that hangs, or that a
    gateway has forked, would have clients wait in a queue from which it does not accept. What was inherited is its
    owner's to end.
    """
    remove_paths(sockets)
    for sock in sockets:
        if isinstance(sock, InheritedSocket):  # its owner hands it over
            sock.close()
    for sock in in_turn([sock for sock in sockets if not isinstance(sock, InheritedSocket)]):
        with suppress(OSError):  # it did not listen yet, or is closed
            sock.shutdown(socket.SHUT_RDWR)
        sock.close()


def remove_paths(sockets: Sequence[socket.socket]) -> None:
    """Remove the paths of Unix sockets opened here. One that was inherited is its owner's."""
    for sock in sockets:
        if isinstance(sock, _PathSocket):
            sock.remove_path()


def is_shared(sock: socket.socket) -> bool:
    """Whether another process may serve the same address: this one then accepts nothing before it can answer."""
    return isinstance(sock, InheritedSocket) or (
        sock.family != socket.AF_UNIX and bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT))
    )


def start_listening(sock: socket.socket) -> None:
    """Take part in a shared port, if that has not begun: connections come from here on."""
    if not _is_listening(sock):
        _listen(sock)
        take_over(sock)  # from one that was killed while it handed over


def start_sharing(sockets: Iterable[socket.socket]) -> Sequence[Fault]:
    """The same for all of these that are shared.

    Returns:
        A fault for each that failed: another program may have begun to listen on a port that was only bound here.
    """
    faults = []
    for sock in filter(is_shared, sockets):
        try:
            start_listening(sock)
        except OSError as error:
            host, port, *_ = sock.getsockname()
            faults.append(_explain(TCPBind(host, port), error))
    return faults


def accept_queued(sock: socket.socket, *, is_last: bool = False) -> Iterator[tuple[socket.socket, object]]:
    """What the system has accepted already: it would be reset, where the socket is closed.

    Nothing where the socket is inherited: its queue outlives it here, and is for whoever accepts next, unless this is
    the last to do so.
    """
    while is_last or not isinstance(sock, InheritedSocket):
        try:
            yield sock.accept()
        except ConnectionAbortedError:  # the client has left before it was accepted
            continue
        except OSError:
            return


def describe_address(sock: socket.socket) -> str:
    """A socket's own address as a bind is written: `127.0.0.1:8899`, `[::1]:8899`, `unix:/path`, `unix:@name`."""
    name = sock.getsockname()
    if isinstance(name, bytes):  # of the abstract space
        return f"unix:@{name[1:].decode(errors='backslashreplace')}"
    if sock.family == socket.AF_UNIX:
        return f"unix:{name}"
    host = f"[{name[0]}]" if sock.family == socket.AF_INET6 else name[0]
    return f"{host}:{name[1]}"


def _open(bind: UnixBind | FileDescriptorBind | SystemdBind, passed: PassedSockets) -> Iterator[socket.socket]:
    match bind:
        case UnixBind():
            yield _open_unix(bind)
        case FileDescriptorBind():
            yield _adopt(bind.descriptor)
        case SystemdBind():
            for descriptor in passed.take(bind.name):
                yield _adopt(descriptor)


def _open_tcp(bind: TCPBind, addresses: Sequence[SocketAddress], *, is_port_shared: bool) -> Iterator[socket.socket]:
    absent: list[tuple[str, OSError]] = []
    is_any_open = False
    for family, kind, protocol, address in addresses:
        try:
            with _closed_on_failure(socket.socket(family, kind, protocol)) as sock:
                _bind_tcp(sock, address, is_port_shared=is_port_shared)
                if not is_port_shared:
                    _listen(sock)
        except OSError as error:
            if error.errno not in ABSENT:
                raise
            absent.append((str(address[0]), error))
            continue
        is_any_open = True
        yield sock
    if absent and not is_any_open:
        raise absent[-1][1]
    for name, _ in absent:
        log.warning("this machine lacks one of a host's addresses", host=bind.host, address=name)


def _bind_tcp(sock: socket.socket, address: Any, *, is_port_shared: bool) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # inherited by what it accepts
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    if is_port_shared:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind(address)
    sock.setblocking(False)


def _open_unix(bind: UnixBind) -> socket.socket:
    sock = _PathSocket(socket.AF_UNIX, socket.SOCK_STREAM)
    with _closed_on_failure(sock):
        if bind.is_abstract:
            sock.bind(bind.address)
        else:
            _remove_stale(bind.path)
            sock.bind_path(bind.path)
        sock.setblocking(False)
        _listen(sock)
    return sock


@contextmanager
def _closed_on_failure(sock: socket.socket) -> Iterator[socket.socket]:
    try:
        yield sock
    except OSError:
        sock.close()
        raise


def _remove_stale(path: str) -> None:
    """Remove a socket that nobody listens on any more, as a killed process leaves it."""
    try:
        if not Path(path).is_socket():
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.connect(path)
    except ConnectionRefusedError:
        Path(path).unlink()
    except OSError:
        return


def _adopt(descriptor: int) -> socket.socket:
    sock = InheritedSocket(fileno=descriptor)
    if sock.type != socket.SOCK_STREAM or not _is_listening(sock):
        sock.detach()
        raise OSError(errno.EINVAL, "it is not a listening stream socket")
    return _own(sock)


def _own(sock: socket.socket) -> socket.socket:
    """Have an inherited socket as one that was opened here: not blocking, and not for children."""
    sock.setblocking(False)
    sock.set_inheritable(False)
    return sock


def _listen(sock: socket.socket) -> None:
    sock.listen(BACKLOG)


def _is_listening(sock: socket.socket) -> bool:
    return bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))


def _explain(bind: Bind, error: OSError) -> Fault:
    hint = "choose another address with --bind, or --host and --port"
    reason = reason_of(error)
    if isinstance(error, socket.gaierror):
        reason, hint = "the host name does not resolve", "check the spelling, or give an address"
    elif isinstance(bind, UnixBind):
        reason, hint = _explain_path(bind, error)
    elif error.errno == errno.EADDRINUSE:
        reason, hint = "the address is in use", "stop what listens there, or choose another port"
    elif error.errno == errno.EADDRNOTAVAIL:
        reason, hint = "this machine has no such address", "0.0.0.0 and [::] listen on all addresses"
    elif error.errno in {errno.EACCES, errno.EPERM} and isinstance(bind, TCPBind):
        reason = "no permission to listen on a privileged port"
        hint = f"choose a port from {_first_unprivileged_port()}, or give the process CAP_NET_BIND_SERVICE"
    elif isinstance(bind, FileDescriptorBind):
        hint = "fd:// takes a listening socket that the parent process passes on; systemd's are taken by --bind systemd"
    elif isinstance(bind, SystemdBind):
        reason = error.strerror or reason
        hint = "start the socket unit, and let the service name it in Sockets="
    return Fault(f"cannot listen on {bind}: {reason}", hint, ExitCode.STARTUP, error, setting="bind")


def _explain_path(bind: UnixBind, error: OSError) -> tuple[str, str]:
    if error.errno == errno.EADDRINUSE and (bind.is_abstract or Path(bind.path).is_socket()):
        return "the address is in use", "stop what listens there, or choose another path"
    if error.errno == errno.EADDRINUSE:
        return "the path is in use by something else", "choose another path, or remove what is there"
    if error.errno is None:  # Python's own check of sockaddr_un
        return "path too long for a socket", "choose a shorter path"
    return reason_of(error), "name a path in an existing directory that this user may write to"


def _first_unprivileged_port() -> int:
    try:
        return int(FIRST_UNPRIVILEGED_PORT.read_text())
    except OSError:
        return 1024
