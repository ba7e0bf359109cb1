"""What supervisor and workers tell each other: whole messages, whatever else comes and whoever does not listen."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import suppress

import pytest
import trio

from sage_edge.server import worker_link
from sage_edge.server.worker_link import LONGEST_UNSENT_BYTES, Inheritance, Message, MessageSender, read_messages
from tests.kit.captured_logs import captured_logs


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    one, other = socket.socketpair()
    with one, other:
        one.setblocking(False)
        other.setblocking(False)
        yield one, other


async def read_all(sock: socket.socket) -> list[Message]:
    return [message async for message in read_messages(sock)]


async def test_messages_arrive_in_order_however_they_are_cut(pair: tuple[socket.socket, socket.socket]) -> None:
    one, other = pair
    messages = [{"event": "ready", "text": "a\nb"}, {"event": "metrics", "numbers": list(range(100))}]
    data = b"".join(json.dumps(message).encode() + b"\n" for message in messages)
    found: list[list[Message]] = []

    async def read() -> None:
        found.append(await read_all(other))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        for index in range(len(data)):
            one.send(data[index : index + 1])
            await trio.lowlevel.checkpoint()
        one.shutdown(socket.SHUT_WR)
    assert found == [messages]


async def test_what_is_no_message_is_told_and_left_out(pair: tuple[socket.socket, socket.socket]) -> None:
    one, other = pair
    one.send(b'from a library\n\xff\n[1]\n{"event": "alive"}\n{"event": "cut')
    one.shutdown(socket.SHUT_WR)
    with captured_logs() as lines:
        assert await read_all(other) == [{"event": "alive"}]
    assert [line["size_bytes"] for line in lines] == [14, 1, 3]


async def test_a_line_that_does_not_end_ends_the_link(
    pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_link, "LONGEST_LINE_BYTES", 1000)
    one, other = pair
    one.send(b'{"event": "alive"}\n' + b"x" * 1001)
    with captured_logs() as lines:
        assert await read_all(other) == [{"event": "alive"}]
    assert [line["event"] for line in lines] == ["a line between supervisor and worker does not end"]


async def test_an_end_that_does_not_listen_is_not_waited_for_and_costs_a_bounded_amount(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    one, other = pair
    sender = MessageSender(one)
    for number in range(5000):
        sender.send({"event": "metrics", "number": number, "text": "x" * 1000})
    waiting = 0
    for _ in range(100):  # each message takes what waited with it, as far as there is room
        with suppress(BlockingIOError):
            while data := other.recv(65536):
                waiting += len(data)
        sender.send({"event": "alive"})
    assert LONGEST_UNSENT_BYTES < waiting < 2_000_000


def test_a_supervisor_of_another_version_is_understood() -> None:
    inherited = Inheritance(1, 2, [[3], [4]], [5], {"cert.pem": ["edge.test"]}, is_measured=False)
    assert Inheritance.from_text(inherited.to_text()) == inherited
    later = json.dumps({**json.loads(inherited.to_text()), "colour": "red"})
    assert Inheritance.from_text(later) == inherited
    assert Inheritance.from_text("[1, 2, [[3], [4]], [5]]") == Inheritance(1, 2, [[3], [4]], [5], None)


def test_names_that_are_too_many_are_not_taken_for_none() -> None:
    many = {"cert.pem": [f"{number}.edge.test" for number in range(10_000)]}
    for names, passed_on in ((many, None), ({}, {}), (None, None)):
        text = Inheritance(1, 2, [[3]], [], names).to_text()
        assert Inheritance.from_text(text).names_in_use == passed_on
