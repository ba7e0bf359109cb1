"""Request heads: what is read, and what is refused with which status (RFC 9112 sections 2, 3 and 5)."""

from __future__ import annotations

import pytest

from tests.kit.http1_events import HEAD_BYTES, HOST, collect, get, read_request, refusal


def test_a_head_is_read() -> None:
    request = read_request(b"GET /a?b=c HTTP/1.1\r\nHost: Edge.test:443\r\nX-One: \t1 2\t \r\nx-one:\r\n\r\n")
    assert (request.method, request.target, request.version) == ("GET", b"/a?b=c", "1.1")
    assert request.fields == [(b"host", b"Edge.test:443"), (b"x-one", b"1 2"), (b"x-one", b"")]
    assert (request.content_length, request.is_chunked, request.keeps_alive) == (None, False, True)
    assert (request.expects_continue, request.upgrade) == (False, ())


# The request line.


@pytest.mark.parametrize("method", ["get", "Get", "M-SEARCH", "!#$%&'*+-.^_`|~09azAZ"])
def test_any_token_is_a_method(method: str) -> None:
    assert read_request(get(line=method.encode() + b" / HTTP/1.1")).method == method


@pytest.mark.parametrize("target", [b"/", b"//", b"/a%2Fb?c#d", b'/{|}^\\"<>`', b"/?"])
def test_a_target_of_visible_characters_is_passed_on(target: bytes) -> None:
    assert read_request(get(line=b"GET %b HTTP/1.1" % target)).target == target


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"GET",
        b"GET /",
        b"GET / ",
        b"GET  / HTTP/1.1",
        b"GET /  HTTP/1.1",
        b"GET\t/ HTTP/1.1",
        b"GET / HTTP/1.1 ",
        b" GET / HTTP/1.1",
        b"GET /a b HTTP/1.1",
        b"G(T / HTTP/1.1",
        b"G\xc9T / HTTP/1.1",
        b"GET /\xc3\xa9 HTTP/1.1",
        b"GET /\x00 HTTP/1.1",
        b"GET /\x7f HTTP/1.1",
        b"GET /\r HTTP/1.1",
        b"GET / http/1.1",
        b"GET / HTTP/1.10",
        b"GET / HTTP/01.1",
        b"GET / HTTP/1",
        b"GET / HTTP/1.",
        b"GET / HTTP/1.x",
        b"GET / HTTP 1.1",
        b"GET / HTCPCP/1.0",
        b"HTTP/1.1 200 OK",
        b"\x16\x03\x01",
    ],
)
def test_a_malformed_request_line_is_refused(line: bytes) -> None:
    assert refusal(get(line=line)) == (400, "The request line is malformed.")


@pytest.mark.parametrize("start", [b"\x16", b"\n", b" ", b"\r\n\r", b"\rG", b"{"])
def test_what_begins_no_request_is_refused_before_any_line_ends(start: bytes) -> None:
    assert refusal(start)[0] == 400


@pytest.mark.parametrize(
    ("version", "understood_as"), [(b"1.0", "1.0"), (b"1.1", "1.1"), (b"1.2", "1.1"), (b"1.9", "1.1")]
)
def test_a_minor_version_is_understood_as_the_nearest_one_known(version: bytes, understood_as: str) -> None:
    assert read_request(get(line=b"GET / HTTP/" + version)).version == understood_as


@pytest.mark.parametrize("version", [b"0.9", b"2.0", b"3.7"])
def test_another_major_version_is_refused(version: bytes) -> None:
    assert refusal(get(line=b"GET / HTTP/" + version))[0] == 505


@pytest.mark.parametrize("pieces", [[b"\r\n" + get()], [b"\r\n", get()], [b"\r", b"\n" + get()]])
def test_one_empty_line_before_a_request_line_is_skipped(pieces: list[bytes]) -> None:
    assert collect(*pieces) == collect(get())


@pytest.mark.parametrize("pieces", [[b"\r\n\r\n" + get()], [b"\r\n", b"\r\n", get()]])
def test_a_second_empty_line_is_refused(pieces: list[bytes]) -> None:
    assert refusal(*pieces) == (400, "The request line is malformed.")


# Field lines.


@pytest.mark.parametrize(
    ("line", "detail"),
    [
        (b" X: 1", "A field is folded over two lines."),
        (b"\tX: 1", "A field is folded over two lines."),
        (b"X: 1\r\n 2", "A field is folded over two lines."),
        (b"X: 1\r\n\t", "A field is folded over two lines."),
        (b"X: 1\rY: 2", "There is a bare CR in the head."),
        (b"X: 1\r", "There is a bare CR in the head."),
        (b"X: 1\nY: 2", "A line of the head ends in a bare LF."),
        (b"X : 1", "A field's name is malformed."),
        (b"X\t: 1", "A field's name is malformed."),
        (b": 1", "A field's name is malformed."),
        (b"X", "A field's name is malformed."),
        (b"X(: 1", "A field's name is malformed."),
        (b"X\xc3: 1", "A field's name is malformed."),
        (b"X: \x00", "A field's value has a control character."),
        (b"X: a\x08b", "A field's value has a control character."),
        (b"X: \x1f", "A field's value has a control character."),
        (b"X: \x7f", "A field's value has a control character."),
    ],
)
def test_a_malformed_field_line_is_refused(line: bytes, detail: str) -> None:
    assert refusal(get(b"A: 1", line)) == (400, detail)


def test_white_space_before_the_first_field_is_refused() -> None:
    assert refusal(get(host=b" " + HOST)) == (400, "A field is folded over two lines.")


def test_a_bare_line_feed_is_refused_before_the_head_ends() -> None:
    assert refusal(b"GET / HTTP/1.1\nHost: edge.test\n\n") == (400, "A line of the head ends in a bare LF.")
    assert refusal(b"GET / HTTP/1.1\r", b"\nHost: edge.test", b"\n") == (400, "A line of the head ends in a bare LF.")


def test_a_value_may_have_any_byte_but_controls() -> None:
    value = bytes([0x21, 9, *range(0x20, 0x7F), *range(0x80, 0x100)])
    assert (b"x", value) in read_request(get(b"X: " + value)).fields


def test_a_value_that_nearly_matches_costs_no_more_than_another() -> None:
    # With patterns that try again this would not end within a lifetime.
    assert refusal(get(b"X: " + b"a\t" * 1000 + b"\x00")) == (400, "A field's value has a control character.")


def test_the_number_of_fields_is_limited() -> None:
    assert len(read_request(get(*[b"X: 1"] * 99)).fields) == 100
    assert refusal(get(*[b"X: 1"] * 100)) == (431, "The request has too many fields.")


# The limit of a head's size.


def test_a_head_of_just_the_limit_is_read() -> None:
    data = get(b"X: 1")
    assert collect(data + b"GET", max_head_bytes=len(data))[1] is None


@pytest.mark.parametrize("cut", [1, 20, 40])
def test_a_head_over_the_limit_is_refused_however_it_comes(cut: int) -> None:
    data = get(b"X: 1")
    expected = (431, "The request's head is too large.")
    assert refusal(data, max_head_bytes=len(data) - 1) == expected
    assert refusal(data[:cut], data[cut:], max_head_bytes=len(data) - 1) == expected


def test_the_limit_is_of_each_head_and_not_of_what_is_around_it() -> None:
    data = get(b"X: 1")
    events, fault = collect(b"\r\n" + data + b"\r\n" + data, max_head_bytes=len(data))
    assert (len(events), fault) == (4, None)


def test_a_request_line_over_the_limit_is_refused_as_such() -> None:
    assert refusal(b"GET /" + b"a" * HEAD_BYTES) == (414, "The request line is too long.")
    assert refusal(b"GET / HTTP/1.1\r\n" + b"a" * HEAD_BYTES)[0] == 431
