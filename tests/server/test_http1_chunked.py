"""Chunked bodies: what is read, and what is refused (RFC 9112 section 7.1)."""

from __future__ import annotations

import pytest

from sage_edge.server.http1.chunked import FREE_EXTENSION_BYTES, MAX_EXTENSION_BYTES
from sage_edge.server.http1.parser import BodyPart, EndOfRequest, RequestParser
from tests.kit.http1_events import HEAD_BYTES, collect, post, read_body, refusal


def chunked(body: bytes) -> bytes:
    return post(b"Transfer-Encoding: chunked", body=body)


def trailed(*lines: bytes) -> bytes:
    return chunked(b"0\r\n" + b"".join(line + b"\r\n" for line in lines) + b"\r\n")


@pytest.mark.parametrize(
    ("body", "data"),
    [
        (b"0\r\n\r\n", b""),
        (b"5\r\nhello\r\n0\r\n\r\n", b"hello"),
        (b"2\r\nhe\r\n3\r\nllo\r\n000\r\n\r\n", b"hello"),
        (b"00000000000000a\r\n0123456789\r\n0\r\n\r\n", b"0123456789"),
        (b"A\r\n\r\n0\r\n\r\n\r\n\n\r\n0\r\n\r\n", b"\r\n0\r\n\r\n\r\n\n"),
        (b'2;a=b;c="d e";\tf\r\nhe\r\n0;x\r\n\r\n', b"he"),
    ],
)
def test_a_chunked_body_is_read(body: bytes, data: bytes) -> None:
    assert read_body(chunked(body)) == data


@pytest.mark.parametrize(
    "line",
    [
        b"\r\n",
        b"0x5\r\n",
        b"+5\r\n",
        b"-5\r\n",
        b" 5\r\n",
        b"5 \r\n",
        b"5\t\r\n",
        b"5 ;a\r\n",
        b"5_0\r\n",
        b"g\r\n",
        b";a\r\n",
        b"\xb2\r\n",
        b"5\n",
        b"5;a\n",
        b"5\r5\r\n",
        b"5;a\rb\r\n",
        b"5;\x00\r\n",
        b"5;\x7f\r\n",
        b"00000000000000005\r\n",
        b"5;" + b"a" * MAX_EXTENSION_BYTES + b"\r\n",
        b"5;" + b"a" * 1000,
        b"f" * 1000,
    ],
)
def test_a_malformed_size_is_refused(line: bytes) -> None:
    detail = "A chunk's size or its extensions are malformed."
    assert refusal(chunked(line + b"hello\r\n0\r\n\r\n")) == (400, detail)
    assert refusal(chunked(b"2\r\nhe\r\n" + line + b"hello\r\n0\r\n\r\n")) == (400, detail)


@pytest.mark.parametrize("end", [b"0\r\n\r\n", b"\n0\r\n\r\n", b"\r0\r\n\r\n", b"x\r\n0\r\n\r\n"])
def test_data_ends_where_its_size_says(end: bytes) -> None:
    detail = "A chunk's data does not end where its size says."
    assert refusal(chunked(b"5\r\nhello" + end)) == (400, detail)
    assert refusal(chunked(b"5\r\nhello"), end[:1], end[1:]) == (400, detail)


def test_what_comes_before_a_fault_is_passed_on() -> None:
    parser = RequestParser(max_head_bytes=HEAD_BYTES)
    parser.feed(chunked(b"2\r\nhe\r\n3\r\nllo\r\nx\r\n"))
    parser.next_event()
    assert parser.next_event() == BodyPart(b"hello")
    with pytest.raises(Exception, match="malformed"):
        parser.next_event()


def test_a_size_line_may_be_as_long_as_its_limits() -> None:
    line = b"0000000000000005;" + b"a" * (MAX_EXTENSION_BYTES - 1)
    body = chunked(line + b"\r\nhello\r\n0\r\n\r\n")
    head_bytes = len(chunked(b""))
    assert read_body(body) == b"hello"
    assert collect(body[: head_bytes + len(line) + 1])[1] is None
    assert refusal(body[: head_bytes + len(line)], b"a;")[0] == 400


def test_a_size_line_without_an_end_is_refused_as_soon_as_it_is_too_long() -> None:
    most_bytes = 16 + MAX_EXTENSION_BYTES + 2
    assert collect(chunked(b"5" * (most_bytes - 1)))[1] is None
    assert refusal(chunked(b"5" * most_bytes))[0] == 400


def test_many_small_chunks_with_extensions_are_refused() -> None:
    size_bytes = 17  # of an extension; the chunk before pays for one of them
    chunk = b"1;" + b"a" * (size_bytes - 1) + b"\r\nx\r\n"
    count = FREE_EXTENSION_BYTES // (size_bytes - 1) - 1
    assert read_body(chunked(chunk * count + b"0;" + b"a" * 15 + b"\r\n\r\n")) == b"x" * count
    assert refusal(chunked(chunk * (count + 1))) == (400, "The chunks have too many extensions.")


def test_chunks_with_data_enough_may_have_extensions_for_ever() -> None:
    chunk = b"64;" + b"a" * 99 + b"\r\n" + b"x" * 100 + b"\r\n"
    count = FREE_EXTENSION_BYTES // 10
    assert read_body(chunked(chunk * count + b"0\r\n\r\n")) == b"x" * 100 * count


def test_many_small_chunks_make_one_piece() -> None:
    parser = RequestParser(max_head_bytes=HEAD_BYTES)
    parser.feed(chunked(b"1\r\nx\r\n" * 1000))
    parser.next_event()
    assert parser.next_event() == BodyPart(b"x" * 1000)
    assert parser.next_event() is None


def test_trailers_are_read() -> None:
    events, fault = collect(trailed(b"X-Sum: 1 ", b"x-sum:2"))
    assert fault is None
    assert events[-1] == EndOfRequest()


@pytest.mark.parametrize(
    "line", [b" X: 1", b"X : 1", b": 1", b"X", b"X: 1\r\n 2", b"X: \x00", b"X: 1\rY: 2", b"X: 1\nY: 2", b"\n"]
)
def test_trailers_follow_the_rules_of_fields(line: bytes) -> None:
    assert refusal(trailed(b"A: 1", line))[0] == 400


@pytest.mark.parametrize(
    "name", [b"Transfer-Encoding", b"content-length", b"HOST", b"Trailer", b"Authorization", b"Connection", b"Cookie"]
)
def test_some_fields_are_not_allowed_among_trailers(name: bytes) -> None:
    assert refusal(trailed(b"A: 1", name + b": 1")) == (400, "A field is not allowed among trailers.")


def test_trailers_are_limited_in_size_and_number() -> None:
    assert refusal(trailed(b"X: " + b"a" * HEAD_BYTES)) == (431, "The request's trailers are too large.")
    section = b"X: " + b"a" * (HEAD_BYTES - 7)
    assert collect(trailed(section))[1] is None
    assert refusal(trailed(section + b"a"))[0] == 431
    assert refusal(chunked(b"0\r\n" + b"a" * HEAD_BYTES))[0] == 431
    assert refusal(trailed(*[b"X: 1"] * 101)) == (431, "The request has too many fields.")
