"""Request heads: what is read, and what is refused with which status (RFC 9112 sections 2 to 6 and 9)."""

from __future__ import annotations

import pytest

from tests.kit.http1_events import HEAD_BYTES, HOST, collect, get, post, read_request, refusal


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


# Host and target.


@pytest.mark.parametrize(
    "host",
    [
        b"a",
        b"edge.test",
        b"edge_1.test.",
        b"127.0.0.1:80",
        b"[::1]",
        b"[2001:DB8::1]:65535",
        b"[::ffff:1.2.3.4]",
        b"a:0",
        b"%61!$&'()*+,;=~",
    ],
)
def test_a_host_is_read(host: bytes) -> None:
    assert read_request(get(host=b"Host: %b\r\n" % host)).fields == [(b"host", host)]


@pytest.mark.parametrize(
    "host",
    [
        b"",
        b" ",
        b":80",
        b"a:",
        b"a:65536",
        b"a:000080",
        b"a:+1",
        b"a:b",
        b"a:1:2",
        b"::1",
        b"[]",
        b"[::1",
        b"[::1]x",
        b"[:::]",
        b"[1.2.3.4]",
        b"[fe80::1%25eth0]",
        b"[v1.a]",
        b"user@a",
        b"a/b",
        b"a b",
        b"a, b",
        b"a%2",
        b"a%zz",
        b"a\\b",
        b'"a"',
        b"\xc3\xa9",
    ],
)
def test_a_malformed_host_is_refused(host: bytes) -> None:
    assert refusal(get(host=b"Host: %b\r\n" % host)) == (400, "The host field is malformed.")


def test_a_host_is_needed_since_version_1_1() -> None:
    assert refusal(get(host=b"")) == (400, "There is no host field.")
    assert read_request(get(line=b"GET / HTTP/1.0", host=b"")).fields == []


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
@pytest.mark.parametrize("second", [b"host: edge.test", b"HOST: other.test"])
def test_two_hosts_are_refused(version: bytes, second: bytes) -> None:
    assert refusal(get(b"X: 1", second, line=b"GET / HTTP/" + version)) == (400, "host is given more than once.")


@pytest.mark.parametrize(
    ("target", "host"),
    [
        (b"http://edge.test/a", b"edge.test"),
        (b"HTTP://EDGE.test", b"edge.TEST"),
        (b"http://edge.test:80?b", b"edge.test"),
        (b"http://edge.test/", b"edge.test:80"),
        (b"HTTPS://edge.test:443/", b"edge.test"),
        (b"http://edge.test:8080/", b"EDGE.test:08080"),
        (b"https://[::1]:8443/", b"[::1]:8443"),
        (b"other+scheme://edge.test:1/", b"edge.test:1"),
    ],
)
def test_an_absolute_target_names_the_host(target: bytes, host: bytes) -> None:
    request = read_request(get(b"X: 1", line=b"GET %b HTTP/1.1" % target, host=b"Host: %b\r\n" % host))
    authority = target.partition(b"://")[2].partition(b"/")[0].partition(b"?")[0]
    assert request.target == target
    assert request.fields == [(b"host", authority), (b"x", b"1")]


def test_an_absolute_target_makes_up_for_the_host_of_version_1_0() -> None:
    request = read_request(get(b"X: 1", line=b"GET http://edge.test/ HTTP/1.0", host=b""))
    assert request.fields == [(b"host", b"edge.test"), (b"x", b"1")]


@pytest.mark.parametrize(
    "target",
    [
        b"http://other.test/",
        b"http://edge.test:443/",
        b"https://edge.test:80/",
        b"ftp://edge.test:80/",
        b"http://edge.test.evil/",
    ],
)
def test_an_absolute_target_of_another_host_is_refused(target: bytes) -> None:
    detail = "The request's target and its host field name different hosts."
    assert refusal(get(line=b"GET %b HTTP/1.1" % target)) == (400, detail)


@pytest.mark.parametrize(
    "target",
    [
        b"*",
        b"a",
        b"edge.test:80",
        b"?a",
        b"http:/edge.test/",
        b"http:///",
        b"http://",
        b"://edge.test/",
        b"1http://edge.test/",
        b"http://user@edge.test/",
        b"http://edge.test:/",
        b"http://edge.test\\@other.test/",
    ],
)
def test_a_target_of_no_form_is_refused(target: bytes) -> None:
    assert refusal(get(line=b"GET %b HTTP/1.1" % target)) == (400, "The request's target is malformed.")


def test_an_asterisk_is_the_target_of_options() -> None:
    assert read_request(get(line=b"OPTIONS * HTTP/1.1")).target == b"*"


def test_connect_has_an_authority_and_nothing_behind_it_is_a_request() -> None:
    request = read_request(get(line=b"CONNECT other.test:443 HTTP/1.1"))
    assert (request.target, request.fields, request.keeps_alive) == (
        b"other.test:443",
        [(b"host", b"edge.test")],
        False,
    )


@pytest.mark.parametrize("target", [b"other.test", b"*", b"http://edge.test/", b"user@a:1"])
def test_connect_to_something_else_is_refused(target: bytes) -> None:
    assert refusal(get(line=b"CONNECT %b HTTP/1.1" % target)) == (400, "The request's target is malformed.")


# The body's length.


@pytest.mark.parametrize(
    ("value", "length"), [(b"0", 0), (b"5", 5), (b"0000000000000000005", 5), (b"9223372036854775807", 2**63 - 1)]
)
def test_a_content_length_is_read(value: bytes, length: int) -> None:
    events, fault = collect(post(b"Content-Length: " + value, body=b""))
    assert fault is None
    assert events[0].content_length == length  # type: ignore[union-attr]  # the first event is the head


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"+5",
        b"-5",
        b"5 5",
        b"5,5",
        b"5, 5",
        b"5;",
        b"0x5",
        b"5.0",
        b"1_0",
        b"\xb2",
        b"five",
        b"9223372036854775808",
        b"00000000000000000005",
    ],
)
def test_what_is_not_one_number_is_no_content_length(value: bytes) -> None:
    assert refusal(post(b"Content-Length: " + value, body=b"12345")) == (400, "content-length is not one number.")


def test_a_repeated_content_length_is_refused_even_if_it_is_the_same() -> None:
    data = post(b"Content-Length: 5", b"Content-Length: 5", body=b"12345")
    assert refusal(data) == (400, "content-length is given more than once.")


@pytest.mark.parametrize("value", [b"chunked", b"CHUNKED", b" Chunked\t"])
def test_chunked_is_the_one_transfer_coding(value: bytes) -> None:
    assert read_request(post(b"Transfer-Encoding:" + value, body=b"0\r\n\r\n")).is_chunked


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        ([b"Transfer-Encoding: gzip, chunked"], 501),
        ([b"Transfer-Encoding: gzip ;level=9 , chunked"], 501),
        ([b"Transfer-Encoding: gzip", b"Transfer-Encoding: chunked"], 501),
        ([b"Transfer-Encoding: gzip"], 400),
        ([b"Transfer-Encoding: identity"], 400),
        ([b"Transfer-Encoding: chunked, gzip"], 400),
        ([b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity"], 400),
        ([b"Transfer-Encoding: chunked, chunked"], 400),
        ([b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"], 400),
        ([b"Transfer-Encoding: chunked;a=b"], 400),
        ([b"Transfer-Encoding: chunked;a=b, chunked"], 400),
        ([b"Transfer-Encoding: "], 400),
        ([b"Transfer-Encoding: ,chunked"], 400),
        ([b"Transfer-Encoding: chunked,"], 400),
        ([b'Transfer-Encoding: "chunked"'], 400),
        ([b"Transfer-Encoding: xchunked"], 400),
        ([b"Transfer-Encoding: gz ip, chunked"], 400),
        ([b"Transfer-Encoding: \x0bchunked"], 400),
        ([b"Transfer-Encoding: chunked\xa0"], 400),
        ([b"Transfer-Encoding: chunked", b"Content-Length: 5"], 400),
        ([b"Content-Length: 5", b"Transfer-Encoding: gzip, chunked"], 400),
    ],
)
def test_another_transfer_coding_is_refused(lines: list[bytes], status: int) -> None:
    assert refusal(post(*lines, body=b"0\r\n\r\n"))[0] == status


def test_a_transfer_coding_is_not_known_to_version_1_0() -> None:
    data = get(b"Transfer-Encoding: chunked", line=b"POST / HTTP/1.0")
    assert refusal(data) == (400, "transfer-encoding is not known to HTTP/1.0.")


# The connection.


@pytest.mark.parametrize(
    ("version", "lines", "keeps_alive"),
    [
        (b"1.1", [], True),
        (b"1.1", [b"Connection: close"], False),
        (b"1.1", [b"Connection: x, CLOSE ,y"], False),
        (b"1.1", [b"Connection: x", b"Connection: close"], False),
        (b"1.1", [b"Connection: keep-alive, close"], False),
        (b"1.1", [b"Connection: closed"], True),
        (b"1.1", [b"Connection: "], True),
        (b"1.0", [], False),
        (b"1.0", [b"Connection: Keep-Alive"], True),
        (b"1.0", [b"Connection: keep-alive, close"], False),
    ],
)
def test_a_connection_is_kept_as_its_options_say(version: bytes, lines: list[bytes], keeps_alive: bool) -> None:
    assert read_request(get(*lines, line=b"GET / HTTP/" + version)).keeps_alive is keeps_alive


@pytest.mark.parametrize(
    ("version", "lines", "upgrade"),
    [
        (b"1.1", [b"Connection: Upgrade", b"Upgrade: WebSocket"], ("websocket",)),
        (b"1.1", [b"Connection: keep-alive, Upgrade", b"Upgrade: h2c, ,x/1"], ("h2c", "x/1")),
        (b"1.1", [b"Upgrade: a", b"Connection: upgrade", b"Upgrade: b"], ("a", "b")),
        (b"1.1", [b"Upgrade: websocket"], ()),
        (b"1.1", [b"Connection: upgrade"], ()),
        (b"1.0", [b"Connection: upgrade", b"Upgrade: websocket"], ()),
    ],
)
def test_an_upgrade_is_asked_for_in_two_fields(version: bytes, lines: list[bytes], upgrade: tuple[str, ...]) -> None:
    assert read_request(get(*lines, line=b"GET / HTTP/" + version)).upgrade == upgrade


def test_a_client_may_wait_with_its_body() -> None:
    expect = b"Expect: 100-Continue"
    assert read_request(post(expect, b"Content-Length: 1", body=b"1")).expects_continue
    assert read_request(post(expect, b"Transfer-Encoding: chunked", body=b"0\r\n\r\n")).expects_continue
    assert not read_request(post(expect, b"Content-Length: 0", body=b"")).expects_continue
    assert not read_request(post(expect, body=b"")).expects_continue
    assert not read_request(get(expect, b"Content-Length: 1", line=b"POST / HTTP/1.0") + b"1").expects_continue


@pytest.mark.parametrize(
    "lines", [[b"Expect: 200-ok"], [b"Expect: "], [b"Expect: 100-continue, x"], [b"Expect: 100-continue"] * 2]
)
def test_another_expectation_cannot_be_met(lines: list[bytes]) -> None:
    assert refusal(post(*lines, b"Content-Length: 1", body=b"1"))[0] == 417
