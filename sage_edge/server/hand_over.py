"""Hands a shared port over: new connections go to another who listens, before we stop listening (SO_REUSEPORT).

A listening socket that is closed takes the handshakes with it that are under way on it. So the system is first told to
begin no more of them here, which lasts until what is under way is accepted. Linux alone can be told; elsewhere, and
where the system refuses, such connections are lost.
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
import sys
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from sage_edge.core.settings import Settings

HAND_OVER_SECONDS = 1.0
"""How long handshakes may be under way: some round trips, and the first answer sent again."""

CLOSED_SECONDS = 0.5
"""How long after its workers a supervisor closes its copies of their sockets."""

_ATTACH_PROGRAM = 51  # SO_ATTACH_REUSEPORT_CBPF, from asm-generic/socket.h
_DETACH_PROGRAM = 68  # SO_DETACH_REUSEPORT_BPF
_LOAD = 0x20  # BPF_LD | BPF_W | BPF_ABS
_RANDOM = 0xFFFFF000 + 56  # SKF_AD_OFF + SKF_AD_RANDOM, from linux/filter.h: where a random number is loaded from
_MODULO = 0x94  # BPF_ALU | BPF_MOD | BPF_K
_SKIP_UNLESS = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
_RETURN = 0x06  # BPF_RET | BPF_K
_LISTENING = "0A"  # in Linux' lists


def last_call_seconds(settings: Settings) -> float:
    """How long connections are accepted once the drain has begun."""
    least = HAND_OVER_SECONDS if settings.reuse_port else 0.0
    return max(settings.drain_delay_seconds, least)


def hand_over(sockets: Iterable[socket.socket]) -> None:
    """Have new connections spread over somebody else's sockets; over all, where there are none.

    Those are the ones that began to listen after ours, or else, where ours were the last, all others: who has just come
    may leave before who was there.

    Args:
        sockets: all of ours, listening. Those of other kinds than shared TCP ports are left alone.
    """
    for group in _find_groups(sockets):
        sock = next(iter(group.values()))
        _send_to(_find_others(sock.family, group.keys()), sock)


def take_back(sockets: Iterable[socket.socket]) -> None:
    """Have new connections spread over all of ours where nobody else listens.

    Of somebody who was killed while handing over to us, the word is left, whose numbers are others' now.

    Args:
        sockets: all of ours, whether they listen already or not.
    """
    for group in _find_groups(sockets):
        sock = next(iter(group.values()))
        everybody = _list_listeners(sock.family, group.keys())
        if everybody and group.keys() >= set(everybody):
            take_over(sock)


def in_turn(sockets: Sequence[socket.socket]) -> Iterator[socket.socket]:
    """Each of ours, to be closed before the next is asked for.

    Where ours share a port with somebody else's, none of the connections that come meanwhile goes to those that are
    left, nor to the last: for it the system is told the last number of all. That is nobody's once it is closed, which
    leaves all to the system again; who listens next takes it back (`take_over`). Where the last number is that of ours,
    the port is taken over right before.
    """
    alone = [sock for sock in sockets if not _is_shared_port(sock)]
    for group in _find_groups(sockets):
        everybody = _list_listeners(next(iter(group.values())).family, group.keys())
        left = set(group)
        for inode, sock in group.items():
            before = list(everybody)
            left.remove(inode)
            _take_out(everybody, inode)
            others = [number for number, each in enumerate(everybody) if each not in left]
            if left and others:
                _send_to([number for number in others if before[number] == everybody[number]] or others, sock)
            elif others and before[-1] != inode:
                _send_to([len(everybody)], sock)
            else:
                take_over(sock)
            yield sock
    yield from alone


def _take_out(everybody: list[int], inode: int) -> None:
    """As the system does: the last comes in its place."""
    if inode in everybody:
        number = everybody.index(inode)
        everybody[number] = everybody[-1]
        everybody.pop()


def _find_groups(sockets: Iterable[socket.socket]) -> Sequence[Mapping[int, socket.socket]]:
    """Of shared ports the sockets by inode, those of one address together."""
    groups: dict[object, dict[int, socket.socket]] = defaultdict(dict)
    for sock in filter(_is_shared_port, sockets):
        groups[sock.family, sock.getsockname()][os.fstat(sock.fileno()).st_ino] = sock
    return list(groups.values())


def _send_to(numbers: Sequence[int], sock: socket.socket) -> None:
    """Have all new connections to a socket's port spread over the sockets of these numbers."""
    # The program's result is such a number, in their order; one that is not there leaves it to the system.
    *firsts, last = numbers
    program = [(_LOAD, 0, 0, _RANDOM), (_MODULO, 0, 0, len(numbers))]
    for drawn, number in enumerate(firsts):
        program += [(_SKIP_UNLESS, 0, 1, drawn), (_RETURN, 0, 0, number)]
    program.append((_RETURN, 0, 0, last))
    instructions = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *each) for each in program))
    with suppress(OSError):
        value = struct.pack("@HP", len(program), ctypes.addressof(instructions))
        sock.setsockopt(socket.SOL_SOCKET, _ATTACH_PROGRAM, value)


def _find_others(family: int, ours: Collection[int]) -> Sequence[int]:
    """The numbers of somebody else's sockets on the same address; one that is not there, where there are none.

    Args:
        family: of the sockets.
        ours: their inodes. Where the system does not list them, they are taken for the first.
    """
    everybody = _list_listeners(family, ours)
    last = max((number for number, inode in enumerate(everybody) if inode in ours), default=len(ours) - 1)
    others = [number for number, inode in enumerate(everybody) if inode not in ours]
    return [number for number in others if number > last] or others or [last + 1]


def _list_listeners(family: int, ours: Collection[int]) -> list[int]:
    """The inodes of all sockets that listen on the address of ours, in the order in which they began to."""
    name = "tcp6" if family == socket.AF_INET6 else "tcp"
    listening: list[tuple[str, int]] = []
    with suppress(OSError), Path("/proc/self/net", name).open() as lines:
        next(lines)
        for line in lines:
            fields = line.split()
            if fields[3] != _LISTENING:  # they come first; connections may be many
                break
            listening.append((fields[1], int(fields[9])))
    if family == socket.AF_INET:  # of which the system has the latest first
        listening.reverse()
    addresses = {address for address, inode in listening if inode in ours}
    return [inode for address, inode in listening if address in addresses]


def take_over(sock: socket.socket) -> None:
    """Have new connections spread over all that listen. Right before one is closed: the numbers change then."""
    if _is_shared_port(sock):
        with suppress(OSError):  # nothing was attached
            sock.setsockopt(socket.SOL_SOCKET, _DETACH_PROGRAM, 0)


def _is_shared_port(sock: socket.socket) -> bool:
    is_tcp = sys.platform == "linux" and sock.fileno() != -1 and sock.family != socket.AF_UNIX
    return is_tcp and bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT))
