"""A WebSocket's handshake: what is refused, what is agreed to, and what answers it."""

from __future__ import annotations

from contextlib import suppress
from http import HTTPStatus
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sage_edge.server.websocket_deflate import agree
from sage_edge.server.websocket_handshake import Fields, HandshakeError, WebSocketOffer, answer_offer, read_offer

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
KEY_FIELD = (b"sec-websocket-key", KEY)
VERSION_FIELD = (b"sec-websocket-version", b"13")
HANDSHAKES = {"1.1": [KEY_FIELD, VERSION_FIELD], "2": [VERSION_FIELD]}

versions = pytest.mark.parametrize("http_version", HANDSHAKES)


def read(*fields: tuple[bytes, bytes], http_version: str = "2") -> WebSocketOffer:
    return read_offer([*HANDSHAKES[http_version], *fields], http_version=http_version)


def refusal_of(fields: Fields, http_version: str) -> HandshakeError:
    with pytest.raises(HandshakeError) as caught:
        read_offer(fields, http_version=http_version)
    assert str(caught.value) == caught.value.detail
    return caught.value


def agreed(value: bytes) -> bytes | None:
    """What the answer says to such an offer of extensions."""
    agreement = agree(read((b"sec-websocket-extensions", value)).extensions)
    return None if agreement is None else agreement.as_field_value()


def answer(message: dict[str, Any], offer: WebSocketOffer | None = None) -> Fields:
    return answer_offer(offer or WebSocketOffer(), {"type": "websocket.accept", **message}, None)


def test_a_bare_handshake_offers_nothing() -> None:
    assert read(http_version="1.1") == WebSocketOffer(key=KEY)
    assert read() == WebSocketOffer()
    assert read_offer([], http_version="2") == WebSocketOffer()


def test_names_are_read_in_any_case() -> None:
    fields = [(b"Sec-WebSocket-Key", KEY), (b"Sec-WebSocket-Version", b"13")]

    assert read_offer(fields, http_version="1.1").key == KEY


def test_a_key_over_http2_means_nothing() -> None:
    assert read((b"sec-websocket-key", b"?")).key is None


@pytest.mark.parametrize(
    "fields", [[], [(b"sec-websocket-version", b"8")], [VERSION_FIELD, (b"sec-websocket-version", b"7")]]
)
def test_another_version_is_refused_with_the_one_that_is_spoken(fields: Fields) -> None:
    refusal = refusal_of([KEY_FIELD, *fields], "1.1")

    assert refusal.status is HTTPStatus.UPGRADE_REQUIRED
    assert refusal.fields == [VERSION_FIELD, (b"upgrade", b"websocket"), (b"connection", b"upgrade")]


def test_another_version_over_http2_is_refused_without_an_upgrade() -> None:
    refusal = refusal_of([(b"sec-websocket-version", b"8")], "2")

    assert (refusal.status, refusal.fields) == (HTTPStatus.BAD_REQUEST, [VERSION_FIELD])


@pytest.mark.parametrize(
    "keys",
    [[], [KEY, KEY], [b""], [KEY[:-1]], [KEY + b"\n"], [KEY + KEY], [b"x" * 24], [b"\xff" * 22 + b"=="], [b"AAAA"]],
)
def test_a_key_that_is_not_one_of_16_bytes_is_refused(keys: list[bytes]) -> None:
    refusal = refusal_of([VERSION_FIELD, *((b"sec-websocket-key", key) for key in keys)], "1.1")

    assert (refusal.status, refusal.fields) == (HTTPStatus.BAD_REQUEST, [])


def test_http_1_0_is_refused() -> None:
    assert refusal_of(HANDSHAKES["1.1"], "1.0").status is HTTPStatus.BAD_REQUEST


@versions
def test_subprotocols_are_read_in_order_from_all_their_fields(http_version: str) -> None:
    fields = [(b"sec-websocket-protocol", b"chat.v2,\tchat.v1 ,,"), (b"sec-websocket-protocol", b"other")]

    assert read(*fields, http_version=http_version).subprotocols == ("chat.v2", "chat.v1", "other")


def test_extensions_are_read_with_their_parameters() -> None:
    value = b'first; a; b=1 ; c = "2\\3",second'

    assert read((b"sec-websocket-extensions", value)).extensions == (
        ("first", (("a", ""), ("b", "1"), ("c", "23"))),
        ("second", ()),
    )


@versions
@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"sec-websocket-protocol", b""),
        (b"sec-websocket-protocol", b" , ,"),
        (b"sec-websocket-protocol", b"caf\xc3\xa9"),
        (b"sec-websocket-protocol", b"two words"),
        (b"sec-websocket-protocol", b"a/b"),
        (b"sec-websocket-extensions", b""),
        (b"sec-websocket-extensions", b"caf\xc3\xa9"),
        (b"sec-websocket-extensions", b"two words"),
        (b"sec-websocket-extensions", b";"),
        (b"sec-websocket-extensions", b"x;"),
        (b"sec-websocket-extensions", b"x; =1"),
        (b"sec-websocket-extensions", b"x; a="),
        (b"sec-websocket-extensions", b'x; a=""'),
        (b"sec-websocket-extensions", b'x; a="1'),
        (b"sec-websocket-extensions", b'x; a="1,2"'),
        (b"sec-websocket-extensions", b"x; a=1=2"),
    ],
)
def test_a_malformed_list_is_refused(name: bytes, value: bytes, http_version: str) -> None:
    refusal = refusal_of([*HANDSHAKES[http_version], (name, value)], http_version)

    assert (refusal.status, refusal.detail) == (HTTPStatus.BAD_REQUEST, f"{name.decode()} is malformed")


NAMES = [b"sec-websocket-protocol", b"sec-websocket-extensions", b"sec-websocket-version", b"sec-websocket-key", b"x"]
VALUES = st.one_of(
    st.binary(),
    st.sampled_from([KEY, b"13"]),
    st.lists(st.sampled_from([b"permessage-deflate", b";", b",", b"=", b'"', b"\\", b" ", b"a", b"9", b"\xff"])).map(
        b"".join
    ),
)


@given(st.lists(st.tuples(st.sampled_from(NAMES), VALUES)), st.sampled_from(["1.0", "1.1", "2"]))
def test_whatever_a_client_sends_is_read_or_refused(fields: Fields, http_version: str) -> None:
    with suppress(HandshakeError):
        agree(read_offer(fields, http_version=http_version).extensions)


@pytest.mark.parametrize(
    ("offered", "answered"),
    [
        (b"permessage-deflate", b"server_max_window_bits=12"),
        (b"permessage-deflate; client_max_window_bits", b"server_max_window_bits=12; client_max_window_bits=12"),
        (
            b"permessage-deflate; server_max_window_bits=9; client_max_window_bits=8",
            b"server_max_window_bits=9; client_max_window_bits=8",
        ),
        (
            b'permessage-deflate; server_max_window_bits="15"; client_max_window_bits="15"',
            b"server_max_window_bits=12; client_max_window_bits=12",
        ),
        (
            b"permessage-deflate; client_no_context_takeover; server_no_context_takeover",
            b"server_max_window_bits=12; server_no_context_takeover; client_no_context_takeover",
        ),
        (
            b"x-other, permessage-deflate; server_max_window_bits=8, permessage-deflate; server_max_window_bits=10",
            b"server_max_window_bits=10",
        ),
    ],
)
def test_the_first_offer_of_compression_that_can_be_kept_is_accepted(offered: bytes, answered: bytes) -> None:
    assert agreed(offered) == b"permessage-deflate; " + answered


@pytest.mark.parametrize(
    "parameters",
    [
        b"server_max_window_bits",
        b"server_max_window_bits=99",
        b"server_max_window_bits=8",
        b"server_max_window_bits=012",
        b"client_max_window_bits=x",
        b"client_max_window_bits=7",
        b"client_max_window_bits=16",
        b"client_no_context_takeover=1",
        b"server_no_context_takeover=true",
        b"unknown",
        b"server_max_window_bits=10; server_max_window_bits=10",
    ],
)
def test_an_offer_of_compression_that_makes_no_sense_is_declined(parameters: bytes) -> None:
    assert agreed(b"permessage-deflate; " + parameters) is None


def test_other_extensions_are_declined() -> None:
    assert agreed(b"x-webkit-deflate-frame") is None


def test_the_answer_over_http1_has_the_key() -> None:
    assert answer({}, WebSocketOffer(key=KEY)) == [
        (b"upgrade", b"websocket"),
        (b"connection", b"upgrade"),
        (b"sec-websocket-accept", b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),  # RFC 6455 section 1.3
    ]


def test_the_answer_over_http2_has_nothing_of_a_connection() -> None:
    assert answer({}) == []


def test_the_answer_has_the_subprotocol_the_application_chose() -> None:
    offer = WebSocketOffer(subprotocols=("a", "b"))

    assert answer({"subprotocol": "b"}, offer) == [(b"sec-websocket-protocol", b"b")]
    assert answer({"subprotocol": None}, offer) == []


@pytest.mark.parametrize("subprotocol", ["c", "", "A", "a, b"])
def test_a_subprotocol_that_was_not_offered_is_an_error(subprotocol: str) -> None:
    with pytest.raises(ValueError, match="did not offer"):
        answer({"subprotocol": subprotocol}, WebSocketOffer(subprotocols=("a", "b")))


def test_the_answer_has_the_applications_headers() -> None:
    headers = [(b"Set-Cookie", b" a=1 "), (b"set-cookie", b"b=\xe9"), (b"x-empty", b"")]

    assert answer({"headers": headers}) == [(b"set-cookie", b"a=1"), (b"set-cookie", b"b=\xe9"), (b"x-empty", b"")]
    assert answer({"headers": None}) == []


@pytest.mark.parametrize("name", [b"connection", b"Upgrade", b"content-length", b"transfer-encoding", b"keep-alive"])
def test_what_would_break_the_handshake_is_left_out_of_the_answer(name: bytes) -> None:
    assert answer({"headers": [(name, b"1")]}) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"sec-websocket-protocol", b"a"),
        (b"Sec-WebSocket-Protocol", b"a"),
        (b"sec-websocket-extensions", b"permessage-deflate"),
        (b"sec-websocket-accept", b"x"),
        (b":status", b"200"),
        (b"", b"x"),
        (b"a b", b"x"),
        (b"a\n", b"x"),
        (b"caf\xc3\xa9", b"x"),
        (b"x", b"a\r\nb: c"),
        (b"x", b"a\nb"),
        (b"x", b"\x00"),
        (b"x", b"\x7f"),
    ],
)
def test_an_illegal_header_is_an_error(name: bytes, value: bytes) -> None:
    with pytest.raises(ValueError, match="header"):
        answer({"headers": [(name, value)]})
