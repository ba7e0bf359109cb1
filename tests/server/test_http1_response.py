"""Answers as bytes: which framing they get, and which fields are refused (RFC 9112 section 6)."""

from __future__ import annotations

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sage_edge.server.http1.response import ResponseFraming, encode_head

LENGTH_5 = (b"Content-Length", b"5")


def encode_body(framing: ResponseFraming, data: bytes, *, is_last: bool) -> bytes:
    """A piece of the body, its parts joined."""
    return b"".join(framing.encode_body(data, is_last=is_last))


def start(
    status: int,
    *fields: tuple[bytes, bytes],
    method: str = "GET",
    version: str = "1.1",
    keeps_alive: bool = True,
    takes_trailers: bool = True,
) -> tuple[ResponseFraming, list[bytes]]:
    """A framing that has started, and the lines of its head."""
    framing = ResponseFraming(method, version, keeps_alive=keeps_alive, takes_trailers=takes_trailers)
    head = framing.start(status, fields)
    assert head.endswith(b"\r\n\r\n")
    return framing, head.removesuffix(b"\r\n\r\n").split(b"\r\n")


# Heads.


def test_a_head_is_a_status_line_and_fields() -> None:
    assert encode_head(200, [(b"X-One", b" 1\t"), (b"x", b"")]) == b"HTTP/1.1 200 OK\r\nX-One: 1\r\nx: \r\n\r\n"
    assert encode_head(100, []) == b"HTTP/1.1 100 Continue\r\n\r\n"


def test_an_unknown_status_has_no_phrase() -> None:
    assert encode_head(299, []) == b"HTTP/1.1 299 \r\n\r\n"


@pytest.mark.parametrize("status", [0, 99, 600, 999, 1000, -200])
def test_what_is_no_status_is_refused(status: int) -> None:
    with pytest.raises(ValueError, match="is not a status"):
        encode_head(status, [])


@pytest.mark.parametrize("name", [b"", b"a b", b"a:", b"a\r\nb", b"a\nb", b"\n", b"a\x00", b"\xc3\xa9", b":status"])
def test_a_name_is_a_token(name: bytes) -> None:
    with pytest.raises(ValueError, match="name is not a token"):
        encode_head(200, [(b"a", b"b"), (name, b"b")])


@pytest.mark.parametrize("value", [b"a\r\nb: c", b"a\nb", b"\r", b"a\x00b", b"\x0b", b"\x7f", b"a\n"])
def test_a_value_has_no_control_characters(value: bytes) -> None:
    with pytest.raises(ValueError, match="control character in its value"):
        encode_head(200, [(b"a", b"b"), (b"a", value)])


def test_a_value_may_have_a_tab_and_any_byte_above_ascii() -> None:
    assert encode_head(200, [(b"a", b"b\tc\x80\xff")]) == b"HTTP/1.1 200 OK\r\na: b\tc\x80\xff\r\n\r\n"


@given(st.lists(st.tuples(st.binary(max_size=6), st.binary(max_size=6))))
def test_fields_come_out_as_they_went_in_or_not_at_all(fields: list[tuple[bytes, bytes]]) -> None:
    try:
        head = encode_head(200, fields)
    except ValueError:
        return
    read = [tuple(line.split(b": ", 1)) for line in head.split(b"\r\n")[1:-2]]
    assert read == [(name, value.strip(b" \t")) for name, value in fields]


# Framing.


def test_a_body_of_announced_length_is_sent_as_it_is() -> None:
    framing, lines = start(200, LENGTH_5)
    assert lines == [b"HTTP/1.1 200 OK", b"content-length: 5"]
    assert encode_body(framing, b"he", is_last=False) + encode_body(framing, b"llo", is_last=True) == b"hello"
    assert framing.keeps_alive


def test_a_body_of_unknown_length_is_chunked() -> None:
    framing, lines = start(200, (b"a", b"b"))
    assert lines == [b"HTTP/1.1 200 OK", b"a: b", b"transfer-encoding: chunked"]
    assert encode_body(framing, b"x" * 16, is_last=False) == b"10\r\n" + b"x" * 16 + b"\r\n"
    assert encode_body(framing, b"", is_last=False) == b""
    assert encode_body(framing, b"y", is_last=True) == b"1\r\ny\r\n0\r\n\r\n"
    assert framing.keeps_alive


def test_a_chunked_body_may_end_with_nothing() -> None:
    assert encode_body(start(200)[0], b"", is_last=True) == b"0\r\n\r\n"


def test_for_version_1_0_the_connection_ends_the_body() -> None:
    framing, lines = start(200, version="1.0")
    assert lines == [b"HTTP/1.1 200 OK", b"connection: close"]
    assert encode_body(framing, b"hello", is_last=True) == b"hello"
    assert not framing.keeps_alive


def test_version_1_0_is_told_that_its_connection_is_kept() -> None:
    framing, lines = start(200, LENGTH_5, version="1.0")
    assert lines == [b"HTTP/1.1 200 OK", b"content-length: 5", b"connection: keep-alive"]
    assert framing.keeps_alive


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_a_client_is_told_that_its_connection_ends(version: str) -> None:
    _, lines = start(200, LENGTH_5, version=version, keeps_alive=False)
    assert lines[-1] == b"connection: close"


@pytest.mark.parametrize("name", [b"Connection", b"keep-alive", b"Proxy-Connection", b"Transfer-Encoding", b"UPGRADE"])
def test_the_connection_is_not_the_applications(name: bytes) -> None:
    assert start(200, (name, b"gzip"), LENGTH_5)[1] == [b"HTTP/1.1 200 OK", b"content-length: 5"]


@pytest.mark.parametrize(
    ("method", "status", "fields"),
    [
        ("HEAD", 200, [LENGTH_5]),
        ("HEAD", 404, [LENGTH_5]),
        ("GET", 304, [LENGTH_5]),
        ("GET", 204, []),
        ("HEAD", 204, []),
    ],
)
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_some_answers_have_no_body(method: str, status: int, fields: list[tuple[bytes, bytes]], version: str) -> None:
    framing, lines = start(status, *fields, method=method, version=version)
    assert lines.count(b"content-length: 5") == len(fields)
    assert not any(line.startswith(b"transfer-encoding") for line in lines)
    assert encode_body(framing, b"longer than five", is_last=True) == b""
    assert framing.encode_trailers([(b"a", b"b")]) == b""
    assert framing.keeps_alive


def test_connect_opens_no_tunnel() -> None:
    framing, lines = start(200, LENGTH_5, method="CONNECT")
    assert lines == [b"HTTP/1.1 200 OK", b"connection: close"]
    assert encode_body(framing, b"hello", is_last=True) == b""
    assert not framing.keeps_alive
    assert start(405, method="CONNECT")[1][-1] == b"transfer-encoding: chunked"


@pytest.mark.parametrize("lengths", [[b"5", b"5"], [b"5", b"6"], [b"+5"], [b""], [b"5, 5"], [b"\xb2"]])
def test_a_content_length_is_one_number(lengths: list[bytes]) -> None:
    with pytest.raises(ValueError, match="content-length is not one number"):
        start(200, *[(b"content-length", length) for length in lengths])


@pytest.mark.parametrize("status", [100, 101, 199])
def test_an_interim_answer_has_no_framing(status: int) -> None:
    with pytest.raises(ValueError, match="not the status of a final answer"):
        start(status)


def test_a_chunked_body_may_end_with_trailers() -> None:
    framing, _ = start(200)
    trailers = [(b"x-sum", b"1"), (b"Content-Length", b"1"), (b"Connection", b"close"), (b"Trailer", b"x")]
    assert framing.encode_trailers(trailers) == b"0\r\nx-sum: 1\r\n\r\n"


def test_a_chunked_body_ends_without_trailers_where_its_client_takes_none() -> None:
    framing, _ = start(200, takes_trailers=False)
    assert framing.encode_trailers([(b"x-sum", b"1")]) == b"0\r\n\r\n"
    assert framing.keeps_alive


def test_trailers_are_held_to_the_rules_of_fields() -> None:
    with pytest.raises(ValueError, match="control character"):
        start(200)[0].encode_trailers([(b"x-sum", b"1\r\n2")])


def test_an_answer_of_announced_length_ends_without_its_trailers() -> None:
    framing, _ = start(200, LENGTH_5)
    encode_body(framing, b"hello", is_last=False)
    assert framing.encode_trailers([(b"x-sum", b"1")]) == b""
    assert framing.keeps_alive


@given(
    st.sampled_from(["GET", "HEAD", "POST"]),
    st.sampled_from([200, 204, 304, 404, 599]),
    st.booleans(),
    st.lists(st.binary(max_size=9), min_size=1),
)
def test_a_client_reads_what_was_sent(method: str, status: int, is_sized: bool, pieces: list[bytes]) -> None:
    body = b"".join(pieces)
    framing = ResponseFraming(method, "1.1", keeps_alive=True, takes_trailers=False)
    data = framing.start(status, [(b"content-length", b"%d" % len(body))] if is_sized else [])
    data += b"".join(encode_body(framing, piece, is_last=False) for piece in pieces)
    data += encode_body(framing, b"", is_last=True)

    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method=method, target="/", headers=[("host", "edge.test")]))
    client.send(h11.EndOfMessage())
    client.receive_data(data)
    response = client.next_event()
    assert isinstance(response, h11.Response)
    read = b""
    while isinstance(event := client.next_event(), h11.Data):
        read += event.data
    assert isinstance(event, h11.EndOfMessage)
    assert client.trailing_data == (b"", False)
    assert (response.status_code, read) == (status, b"" if method == "HEAD" or status in (204, 304) else body)
