"""Requests that go over no connection's limit, in such numbers that their address has more than its share."""

from __future__ import annotations

import time
from contextlib import ExitStack

from sage_edge.core.budgets import REQUEST_COST_BYTES
from tests.e2e.attacks.conftest import MakeTarget
from tests.kit.attack import HOLD_SECONDS, Target, attacker, open_tls, siege
from tests.kit.frame_client import headers, request
from tests.kit.http2_frames import (
    PREFACE,
    REFUSED_STREAM,
    reset_frame,
    settings_frame,
)

IGNORED = request(b"/ignore")
POST = request(b"/ignore", b"POST")


def test_requests_that_wait_on_many_connections(make_target: MakeTarget) -> None:
    # No connection of theirs goes over any limit; their address has three times 4 MiB for requests of 16 KiB.
    with (
        make_target("--max-buffered-bytes", str(4 * 2**20)) as target,
        siege(target, "waiting requests, 12 connections", connections=12),
        ExitStack() as stack,
    ):
        clients = [stack.enter_context(attacker(target)) for _ in range(12)]
        for client in clients:
            client.send(*(headers(client.next_id(), IGNORED) for _ in range(250)))
            client.ping()
        refused = [stream for client in clients for stream in client.streams.values() if stream.is_over]
        assert {stream.reset_code for stream in refused} == {REFUSED_STREAM}
        assert len(refused) >= 12 * 250 - 3 * 4 * 2**20 // REQUEST_COST_BYTES


def test_requests_that_wait_behind_what_is_dear(make_target: MakeTarget) -> None:
    # Most are too many for their connection, which is told each time: a read is gone through in many turns, in which
    # the others come with requests of their own.
    asked = b"".join(headers(stream_id, IGNORED) for stream_id in range(1, 2501, 2))
    with (
        make_target("--max-buffered-bytes", str(4 * 2**20)) as target,
        siege(target, "requests behind what is dear, 60 connections", connections=60),
        ExitStack() as stack,
    ):
        for _ in range(60):
            sock = stack.enter_context(open_tls(target, http2=True))
            sock.sendall(PREFACE + settings_frame() + asked)
        time.sleep(HOLD_SECONDS)


def test_requests_that_are_reset_in_the_same_breath_on_many_connections(fresh: Target) -> None:
    # As many on each as may be reset.
    asked = b"".join(headers(stream_id, IGNORED) + reset_frame(stream_id) for stream_id in range(1, 799, 2))
    with siege(fresh, "asked and reset, 50 connections", connections=200):
        for _ in range(4):
            with ExitStack() as stack:
                for _ in range(50):
                    sock = stack.enter_context(open_tls(fresh, http2=True))
                    sock.sendall(PREFACE + settings_frame() + asked)
                time.sleep(0.3)


def test_clients_that_ask_for_much_and_leave_at_once(fresh: Target) -> None:
    # No connection of theirs goes over any limit.
    asked = b"".join(headers(stream_id, IGNORED) for stream_id in range(1, 501, 2))
    with siege(fresh, "asked and left", connections=100):
        for _ in range(100):
            with open_tls(fresh, http2=True) as sock:
                sock.sendall(PREFACE + settings_frame() + asked)
            time.sleep(0.01)


def test_requests_that_are_abandoned_again_and_again(make_target: MakeTarget) -> None:
    # Twenty rounds, each over before the next begins.
    with make_target("--cancel-grace-seconds", "0.05") as target, siege(target, "abandoned requests", connections=20):
        for _ in range(20):
            with attacker(target) as client:
                client.send(*(headers(client.next_id(), POST, end_stream=False) for _ in range(250)))
                client.ping()
                time.sleep(0.05)
            time.sleep(0.1)
