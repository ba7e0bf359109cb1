"""Hands a shared port over: new connections go to who listens behind us, before we stop listening (SO_REUSEPORT).

A listening socket that is closed takes the handshakes with it that are under way on it. So the system is first told to
begin no more of them here, which lasts until what is under way is accepted. Linux alone can be told; elsewhere, and
where the system refuses, such connections are lost.
"""

from __future__ import annotations

import ctypes
import socket
import struct
import sys
from collections.abc import Iterable
from contextlib import suppress

from sage_edge.core.settings import Settings

HAND_OVER_SECONDS = 1.0
"""How long handshakes may be under way: some round trips, and the first answer sent again."""

CLOSED_SECONDS = 0.5
"""How long after its workers a supervisor closes its copies of their sockets."""

_ATTACH_PROGRAM = 51  # SO_ATTACH_REUSEPORT_CBPF, from asm-generic/socket.h
_DETACH_PROGRAM = 68  # SO_DETACH_REUSEPORT_BPF
_RETURN = 0x06  # BPF_RET | BPF_K


def last_call_seconds(settings: Settings) -> float:
    """How long connections are accepted once the drain has begun."""
    least = HAND_OVER_SECONDS if settings.reuse_port else 0.0
    return max(settings.drain_delay_seconds, least)


def hand_over(sockets: Iterable[socket.socket], count: int) -> None:
    """Have new connections go to the socket that began to listen after ours; to ours, where there is none.

    Args:
        sockets: ours, listening. Those of other kinds than shared TCP ports are left alone.
        count: how many of ours listen on each address; they were the first to.
    """
    # The program's word is the number of a socket, in their order; one that is not there leaves it to the system.
    program = ctypes.create_string_buffer(struct.pack("HBBI", _RETURN, 0, 0, count))
    for sock in filter(_is_shared_port, sockets):
        with suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, _ATTACH_PROGRAM, struct.pack("@HP", 1, ctypes.addressof(program)))


def take_over(sock: socket.socket) -> None:
    """Have new connections spread over all that listen. Right before one is closed: the numbers change then."""
    if _is_shared_port(sock):
        with suppress(OSError):  # nothing was attached
            sock.setsockopt(socket.SOL_SOCKET, _DETACH_PROGRAM, 0)


def _is_shared_port(sock: socket.socket) -> bool:
    is_tcp = sys.platform == "linux" and sock.fileno() != -1 and sock.family != socket.AF_UNIX
    return is_tcp and bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT))
