"""Where to listen: the forms a `--bind` may take. Parsing and comparing only; `server.listener` opens sockets."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address

LARGEST_PORT = 65535


@dataclass(frozen=True)
class TCPBind:
    """A host name or address without brackets, and a port; port 0 asks the system for a free one."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


@dataclass(frozen=True)
class UnixBind:
    """A path in the file system; or, where it begins with @, a name in Linux's abstract space, which leaves no file."""

    path: str

    @property
    def is_abstract(self) -> bool:
        """Whether it is such a name. A file is called so behind its directory: `./@name`."""
        return self.path.startswith("@")

    @property
    def address(self) -> str:
        """As the system takes it."""
        return f"\0{self.path[1:]}" if self.is_abstract else self.path

    def __str__(self) -> str:
        return f"unix:{self.path}"


@dataclass(frozen=True)
class FileDescriptorBind:
    """A listening socket inherited from the parent process."""

    descriptor: int

    def __str__(self) -> str:
        return f"fd://{self.descriptor}"


@dataclass(frozen=True)
class SystemdBind:
    """The listening sockets that systemd passes on (sd_listen_fds(3)): all of them, or those of a name."""

    name: str | None = None

    def __str__(self) -> str:
        return f"systemd:{self.name}" if self.name else "systemd"


Bind = TCPBind | UnixBind | FileDescriptorBind | SystemdBind


def is_same_place(one: Bind, other: Bind) -> bool:
    """Whether who listens on one keeps others from listening on the other. Host names are not looked up."""
    if not isinstance(one, TCPBind) or not isinstance(other, TCPBind):
        return one == other
    is_host_shared = one.host == other.host or _covers(one.host, other.host) or _covers(other.host, one.host)
    return one.port == other.port != 0 and is_host_shared


def _covers(host: str, other: str) -> bool:
    """Whether a host is all addresses of a kind, and the other is one of these."""
    try:
        all_addresses, address = ip_address(host), ip_address(other)
    except ValueError:  # a name
        return False
    return all_addresses.is_unspecified and all_addresses.version == address.version


def parse_bind(text: str) -> Bind:
    """Read `host:port`, `[v6]:port`, `unix:PATH`, `unix:@NAME`, `fd://N`, `systemd` or `systemd:NAME`.

    Raises:
        ValueError: the text is none of these; the message says what is wrong with it.
    """
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        if path in {"", "@"}:
            raise ValueError("unix: needs a path, as in unix:/run/sage-edge.sock, or a name, as in unix:@sage-edge")
        return UnixBind(path)
    if text.startswith("fd://"):
        number = text.removeprefix("fd://")
        if not _is_decimal(number):
            raise ValueError(f"fd:// needs the number of a file descriptor, not {number!r}")
        return FileDescriptorBind(int(number))
    if text == "systemd":
        return SystemdBind()
    host, colon, port = text.rpartition(":")
    if host == "systemd" and not _is_decimal(port):
        if not port:
            raise ValueError("systemd: needs the FileDescriptorName of a socket unit, as in systemd:https")
        return SystemdBind(port)
    if not colon or not host:
        raise ValueError(
            f"{text!r} is not host:port, [v6]:port, unix:PATH, unix:@NAME, fd://N, systemd or systemd:NAME"
        )
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"an IPv6 address is written in brackets, as in [{host}]:{port}")
    if not host or any(character.isspace() or character in "[]/" for character in host):
        raise ValueError(f"{text!r} does not name a host")
    if not _is_decimal(port) or int(port) > LARGEST_PORT:
        raise ValueError(f"{port!r} is not a TCP port (0 to {LARGEST_PORT})")
    return TCPBind(host, int(port))


def _is_decimal(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 9
