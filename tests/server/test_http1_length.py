"""How long a request's body is, and what becomes of its connection (RFC 9112 sections 6 and 9)."""

from __future__ import annotations

import pytest

from tests.kit.http1_events import collect, get, post, read_request, refusal

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
