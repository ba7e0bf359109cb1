"""A connection's requests one after the other: states, bodies of announced length, HTTP/2, the end."""

from __future__ import annotations

import pytest

from sage_edge.server.http1.parser import (
    HTTP2_PREFACE,
    BadRequestError,
    BodyPart,
    EndOfRequest,
    HTTP2Preface,
    Request,
    RequestParser,
)
from tests.kit.http1_events import HEAD_BYTES, collect, get, post, refusal

STREAM = (
    get(b"X: 1")
    + post(b"Content-Length: 4", body=b"\n\n\r\n")
    + b"\r\n"
    + post(b"Transfer-Encoding: chunked", body=b"2;a\r\nhe\r\n3\r\nllo\r\n0\r\nX: 1\r\nY: 2\r\n\r\n")
    + get(b"X: 2")
)


@pytest.fixture
def parser() -> RequestParser:
    return RequestParser(max_head_bytes=HEAD_BYTES)


def test_a_body_is_passed_on_as_it_comes(parser: RequestParser) -> None:
    parser.feed(post(b"Content-Length: 6", body=b"ab"))
    assert isinstance(parser.next_event(), Request)
    assert parser.next_event() == BodyPart(b"ab")
    assert parser.next_event() is None
    parser.feed(b"cd")
    assert parser.next_event() == BodyPart(b"cd")
    parser.feed(b"efGET")
    assert parser.next_event() == BodyPart(b"ef")
    assert parser.next_event() == EndOfRequest()
    assert parser.next_event() is None
    assert parser.buffered_bytes == 3


def test_a_piece_of_a_body_is_not_copied(parser: RequestParser) -> None:
    parser.feed(post(b"Content-Length: 1000000", body=b""))
    assert isinstance(parser.next_event(), Request)
    piece = b"a" * 65536
    parser.feed(piece)
    part = parser.next_event()
    assert isinstance(part, BodyPart)
    assert part.data is piece


def test_the_next_request_waits_until_it_is_asked_for(parser: RequestParser) -> None:
    parser.feed(get(line=b"GET /1 HTTP/1.1"))
    parser.feed(get(line=b"GET /2 HTTP/1.1"))
    parser.feed(get(line=b"GET /3 HTTP/1.1"))
    for target in (b"/1", b"/2", b"/3"):
        request = parser.next_event()
        assert isinstance(request, Request)
        assert request.target == target
        with pytest.raises(RuntimeError, match="not over"):
            parser.start_next()
        assert parser.next_event() == EndOfRequest()
        assert parser.next_event() is None
        parser.start_next()
    assert parser.next_event() is None


def test_a_stream_is_read_in_the_same_way_wherever_it_is_cut() -> None:
    whole = collect(STREAM)
    assert (len(whole[0]), whole[1]) == (10, None)
    for cut in range(len(STREAM)):
        assert collect(STREAM[:cut], STREAM[cut:]) == whole
    assert collect(*(STREAM[index : index + 1] for index in range(len(STREAM)))) == whole


@pytest.mark.parametrize("line", [b"X: 1\r\n\r\nP", b"Y: 2", b"X: 2"])
def test_a_bare_line_feed_is_found_wherever_the_stream_is_cut(line: bytes) -> None:
    data = STREAM[: STREAM.index(line) - 2] + b"\n"
    expected = (400, "A line of the head ends in a bare LF.")
    for cut in range(len(data)):
        assert refusal(data[:cut], data[cut:]) == expected
    assert refusal(*(data[index : index + 1] for index in range(len(data)))) == expected


def test_whether_a_head_has_begun(parser: RequestParser) -> None:
    assert not parser.has_begun
    parser.feed(b"\r\n")
    assert parser.next_event() is None
    assert not parser.has_begun
    parser.feed(get()[:1])
    assert parser.next_event() is None
    assert parser.has_begun
    parser.feed(get()[1:])
    parser.next_event()
    assert not parser.has_begun
    parser.next_event()
    assert not parser.has_begun
    parser.start_next()
    assert not parser.has_begun


def test_nothing_is_read_behind_a_fault(parser: RequestParser) -> None:
    parser.feed(get(b"X : 1") + get())
    with pytest.raises(BadRequestError) as caught:
        parser.next_event()
    assert (caught.value.status, str(caught.value), caught.value.fields) == (400, "A field's name is malformed.", [])
    assert parser.next_event() is None
    assert not parser.has_begun


@pytest.mark.parametrize("cut", range(1, len(HTTP2_PREFACE)))
def test_http2_is_told_by_its_preface(parser: RequestParser, cut: int) -> None:
    parser.feed(HTTP2_PREFACE[:cut])
    assert parser.next_event() is None
    assert parser.has_begun
    parser.feed(HTTP2_PREFACE[cut:])
    parser.feed(b"frames")
    assert parser.next_event() == HTTP2Preface()
    assert parser.next_event() is None
    assert parser.take_rest() == HTTP2_PREFACE + b"frames"
    assert parser.buffered_bytes == 0


@pytest.mark.parametrize(
    "data", [HTTP2_PREFACE[:-6] + b"GET / ", b"\r\n" + HTTP2_PREFACE, get() + HTTP2_PREFACE, HTTP2_PREFACE[:-1] + b"x"]
)
def test_http2_elsewhere_is_a_version_not_spoken(data: bytes) -> None:
    assert refusal(data)[0] == 505


def test_a_method_may_begin_as_the_preface_does() -> None:
    parser = RequestParser(max_head_bytes=HEAD_BYTES)
    parser.feed(get(line=b"PRI /a HTTP/1.1"))
    request = parser.next_event()
    assert isinstance(request, Request)
    assert request.method == "PRI"


def test_what_follows_an_upgrade_is_left_alone(parser: RequestParser) -> None:
    parser.feed(get(b"Connection: upgrade", b"Upgrade: websocket"))
    assert isinstance(parser.next_event(), Request)
    parser.feed(b"\x81\x00\n")
    assert parser.next_event() == EndOfRequest()
    assert parser.next_event() is None
    assert parser.take_rest() == b"\x81\x00\n"
    assert parser.take_rest() == b""
