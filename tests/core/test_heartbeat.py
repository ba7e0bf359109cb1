"""A comment goes between two events of a stream, never inside one."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sage_edge.core.heartbeat import COMMENT, Silence

LIMIT_SECONDS = 10.0


def is_due(*pieces: bytes, seconds: float = LIMIT_SECONDS) -> bool:
    """Whether a comment is, so long after these pieces of a stream."""
    silence = Silence(0.0)
    for piece in pieces:
        silence.interrupt(piece, 5.0)
    return silence.is_due(silence.since + seconds, LIMIT_SECONDS)


@pytest.mark.parametrize(
    "pieces",
    [
        (),
        (b"data: x\n\n",),
        (b"data: x\r\n\r\n",),
        (b"data: x\r\r",),
        (b"data: x", b"\n", b"\n"),
        (b"data: x\r", b"\n\r", b"\n"),
        (b"data: x\n\n", b"data: y\n", b"\n"),
        (b"", b"data: x\n\n", b""),
    ],
)
def test_a_comment_may_follow_an_event_however_it_came(pieces: tuple[bytes, ...]) -> None:
    assert is_due(*pieces)


@pytest.mark.parametrize(
    "pieces",
    [(b"d",), (b"data: x",), (b"data: x\n",), (b"data: x\r\n",), (b"data: x\n\ndata: y\n",), (b"data: x\r\n\r",)],
)
def test_none_does_inside_an_event(pieces: tuple[bytes, ...]) -> None:
    assert not is_due(*pieces)


@pytest.mark.parametrize("kind", [bytearray, memoryview])
def test_what_is_like_bytes_is_understood(kind: type) -> None:
    assert is_due(kind(b"data: x\n\n"))
    assert is_due(kind(b"data: x"), kind(b"\n\n"))
    assert not is_due(kind(b"data: x"))


def test_none_does_before_its_time() -> None:
    assert not is_due(b"data: x\n\n", seconds=9.9)


def parse_events(stream: bytes) -> list[list[bytes]]:
    """The fields of each event, as a client of the specification has them (section 9.2.6)."""
    events: list[list[bytes]] = [[]]
    for line in re.split(rb"\r\n|\n|\r", stream):
        if not line:
            events.append([])
        elif not line.startswith(b":"):
            events[-1].append(line)
    return [event for event in events if event]


@given(st.lists(st.text("d:\r\n ", min_size=1, max_size=6).map(str.encode), max_size=12))
def test_a_client_sees_the_same_events_with_all_comments_that_are_due(pieces: list[bytes]) -> None:
    silence, stream = Silence(0.0), b""
    for piece in pieces:
        silence.interrupt(piece, 0.0)
        stream += piece
        if silence.is_due(LIMIT_SECONDS, LIMIT_SECONDS):
            stream += COMMENT
    assert parse_events(stream) == parse_events(b"".join(pieces))
