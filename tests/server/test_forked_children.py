"""Sockets of which somebody else has a copy."""

from __future__ import annotations

import os
import socket

from sage_edge.core.budgets import ClientAccount
from sage_edge.server.client_socket import ClientSocket
from sage_edge.server.fairness import Fairness, Share
from sage_edge.server.forked_children import keep_from_children


async def test_a_client_hears_of_the_end_though_a_process_that_was_forked_before_has_a_copy() -> None:
    client, accepted = socket.socketpair()
    with client, accepted.dup():
        accepted.setblocking(False)
        ClientSocket(accepted, Share(Fairness(), ClientAccount(1))).close()
        client.settimeout(30)
        assert client.recv(1) == b""


def test_a_child_closes_its_copies_alone_and_the_parents_stay() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        keep_from_children([ours])
        descriptor = ours.fileno()
        child = os.fork()
        if child == 0:
            try:
                os.fstat(descriptor)
            except OSError:
                os._exit(int(ours.fileno() != -1))
            os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        ours.send(b"x")
        assert theirs.recv(1) == b"x"
