"""Regular fields: names, values, lengths, trailers (RFC 9113 sections 8.1 and 8.2)."""

from __future__ import annotations

import pytest

from tests.kit.http2_client import HTTP2Client
from tests.kit.http2_frames import (
    NO_ERROR,
    PROTOCOL_ERROR,
    STREAM_CLOSED,
    Field,
    data_frame,
    get_fields,
    headers_frame,
)
from tests.kit.protocol_host import read_body, receive, respond


def reset_code(*extra: Field) -> int | None:
    """The code that a request with these fields is reset with."""
    client = HTTP2Client()
    client.send(headers_frame(1, client.block(get_fields(*extra))))
    code = client.answer(1).reset_code
    assert (code is None) == bool(client.host.exchanges)
    assert client.goaway_code() is None
    return code


def headers_of(*extra: Field) -> list[Field]:
    """Regular fields, as an application sees them."""
    fields: list[Field] = HTTP2Client().ask(*extra)[1].scope["headers"]
    assert fields[0] == (b"host", b"edge.test")
    return fields[1:]


NAMES = [b"", b"Accept", b"a b", b"a:", b":a", b"a\nb", b"\n", b"a\n", b"a\r", b"a\x00", b"\x7f", b"\xc3\xa9", b"a\tb"]


@pytest.mark.parametrize("name", [*NAMES, b"connection\nx", b"a,b", b"(a)", b"a\n\nb"])
def test_a_field_name_that_is_no_lower_case_token_is_malformed(name: bytes) -> None:
    assert reset_code((name, b"x")) == PROTOCOL_ERROR
    assert reset_code((b"a", b"b"), (name, b"x"), (b"c", b"d")) == PROTOCOL_ERROR


VALUES = [b"a\x00b", b"a\rb", b"a\nb", b" a", b"a ", b"\ta", b"a\t", b" ", b"\n", b"a\r\nx: y", b"\x00"]


@pytest.mark.parametrize("value", VALUES)
def test_a_field_value_with_a_forbidden_character_is_malformed(value: bytes) -> None:
    assert reset_code((b"a", value)) == PROTOCOL_ERROR
    assert reset_code((b"a", b"b"), (b"a", value), (b"c", b"")) == PROTOCOL_ERROR


def test_other_values_are_passed_on() -> None:
    fields = [(b"a", b""), (b"a", b"b c\td"), (b"!#$%&'*+-.^_`|~09az", b"\xff\xc3\xa9"), (b"a", b"")]
    assert headers_of(*fields) == fields


@pytest.mark.parametrize("name", [b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"])
def test_a_field_of_a_connection_is_malformed(name: bytes) -> None:
    assert reset_code((name, b"x")) == PROTOCOL_ERROR  # section 8.2.2


@pytest.mark.parametrize("value", [b"gzip", b"trailers, deflate", b"", b"trailers;q=0.5"])
def test_te_says_trailers_or_is_malformed(value: bytes) -> None:
    assert reset_code((b"te", value)) == PROTOCOL_ERROR
    assert reset_code((b"te", b"trailers"), (b"te", value)) == PROTOCOL_ERROR


def test_te_may_say_trailers() -> None:
    assert headers_of((b"te", b"trailers")) == [(b"te", b"trailers")]


def test_cookies_are_joined() -> None:
    fields = headers_of((b"cookie", b"a=b"), (b"x", b"y"), (b"cookie", b"c=d; e=f"), (b"cookie", b"g=h"))
    assert sorted(fields) == [(b"cookie", b"a=b; c=d; e=f; g=h"), (b"x", b"y")]  # section 8.2.3


@pytest.mark.parametrize("value", [b"-1", b"+1", b"1.0", b"0x1", b"", b"1, 1", b"1 2", b"9" * 20, b"\xb2", b"a"])
def test_a_length_that_is_no_number_is_malformed(value: bytes) -> None:
    assert reset_code((b"content-length", value)) == PROTOCOL_ERROR


def test_two_lengths_are_malformed() -> None:
    assert reset_code((b"content-length", b"0"), (b"content-length", b"1")) == PROTOCOL_ERROR


@pytest.mark.parametrize("repeat", [1, 2])
def test_a_body_of_the_announced_length_is_taken(repeat: int) -> None:
    client = HTTP2Client()
    length = (b"content-length", b"6")
    stream_id, exchange = client.ask(*[length] * repeat, body=b"abc", end=False)
    client.send(data_frame(stream_id, b"def", pad=3), data_frame(stream_id, b"", end=True))
    assert read_body(exchange) == b"abcdef"
    respond(exchange)
    assert client.answer(stream_id).has_ended


def test_equal_lengths_become_one() -> None:
    length = (b"content-length", b"0")
    assert headers_of(length, (b"a", b"b"), length).count(length) == 1  # RFC 9110 section 8.6


WRONG_LENGTHS = {
    "none": [data_frame(1, b"", end=True)],
    "too short": [data_frame(1, b"ab", end=True)],
    "too long": [data_frame(1, b"abcd", end=True)],
    "too long, and more": [data_frame(1, b"abc"), data_frame(1, b"d")],
    "too short, then trailers": [data_frame(1, b"ab"), headers_frame(1, b"\x00\x01a\x01b")],
}


@pytest.mark.parametrize("frames", WRONG_LENGTHS.values(), ids=WRONG_LENGTHS)
def test_a_body_of_another_length_is_malformed(frames: list[bytes]) -> None:
    client = HTTP2Client()
    _, exchange = client.ask((b"content-length", b"3"), method=b"POST", end=False)
    client.send(*frames)
    assert client.answer(1).reset_code == PROTOCOL_ERROR  # section 8.1.1
    assert exchange.is_client_gone
    assert client.connection.is_idle
    assert client.host.account.buffered_bytes == 0


def test_an_announced_body_that_does_not_come_is_malformed() -> None:
    assert reset_code((b"content-length", b"3")) == PROTOCOL_ERROR
    assert reset_code((b"content-length", b"0")) is None


def test_trailers_end_a_body() -> None:
    client = HTTP2Client()
    stream_id, exchange = client.ask((b"content-length", b"3"), body=b"abc", end=False)
    client.send(headers_frame(stream_id, client.block([(b"x-sum", b"1")])))
    assert read_body(exchange) == b"abc"
    assert receive(exchange) is None


WRONG_TRAILERS = {
    "no end": headers_frame(1, b"\x00\x01a\x01b", end=False),
    "a pseudo-field": headers_frame(1, b"\x82"),
    "an upper-case name": headers_frame(1, b"\x00\x01A\x01b"),
    "a forbidden value": headers_frame(1, b"\x00\x01a\x01\n"),
    "a field of a connection": headers_frame(1, b"\x00\x07upgrade\x01b"),
}


@pytest.mark.parametrize("trailers", WRONG_TRAILERS.values(), ids=WRONG_TRAILERS)
def test_wrong_trailers_are_malformed(trailers: bytes) -> None:
    client = HTTP2Client()
    _, exchange = client.ask(body=b"abc", end=False)
    client.send(trailers)
    assert client.answer(1).reset_code == PROTOCOL_ERROR
    assert exchange.is_client_gone


def test_nothing_follows_trailers() -> None:
    client = HTTP2Client()
    _, exchange = client.ask(body=b"abc", end=False)
    client.send(headers_frame(1, b"\x00\x01a\x01b"), headers_frame(1, b"\x00\x01a\x01b"))
    assert client.answer(1).reset_code == STREAM_CLOSED
    assert exchange.is_client_gone


def test_trailers_of_a_request_that_is_answered_already_are_let_in() -> None:
    client = HTTP2Client()
    stream_id, exchange = client.ask(body=b"abc", end=False)
    respond(exchange, b"early")
    client.take()
    client.send(headers_frame(stream_id, b"\x00\x01a\x01b"))
    assert client.answer(stream_id).reset_code in (None, NO_ERROR)
    assert client.connection.is_idle
