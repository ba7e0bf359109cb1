"""Header compression: what is refused, what is remembered, and what answers are encoded to (RFC 7541)."""

from __future__ import annotations

import hpack
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sage_edge.server.http2.frames import ConnectionFault, ErrorCode
from sage_edge.server.http2.hpack import CONNECTION_SPECIFIC, HeaderDecoder, encode_fields, encode_status
from tests.kit.http2_client import HTTP2Client
from tests.kit.http2_frames import COMPRESSION_ERROR, HEADER_TABLE_SIZE, headers_frame, settings_frame
from tests.kit.protocol_host import respond

LIST_BYTES = 4096

WRONG_BLOCKS = {
    "index 0": b"\x80",
    "an index beyond both tables": b"\xbe",
    "a large index beyond both tables": b"\xff\x00",
    "a name's index beyond both tables": b"\x7f\x00\x01a",
    "an integer that does not end": b"\xff\x80",
    "an integer that is too long": b"\xff" + b"\x80" * 5 + b"\x01",
    "an integer that is too large": b"\x7f\xff\xff\xff\xff\x7f",
    "a name that is cut": b"\x40\x05abc",
    "a value that is cut": b"\x40\x01a\x05abc",
    "a literal without a value": b"\x40\x01a",
    "a literal without a name": b"\x00",
    "a table larger than allowed": b"\x3f\xe2\x1f",  # 4097
    "a table's size after a field": b"\x82\x20",
    "Huffman: EOS": b"\x00\x01a\x84\xff\xff\xff\xff",
    "Huffman: padding of 8 bits": b"\x00\x01a\x82\x1f\xff",  # "a" and eleven ones
    "Huffman: padding that is not ones": b"\x00\x01a\x81\x18",  # "a" and 000
    "Huffman: padding alone, of a byte": b"\x00\x01a\x81\xff",
    "Huffman: a symbol that is cut": b"\x00\x01a\x81\xfe",
}


def decode(*blocks: bytes, max_list_bytes: int = LIST_BYTES) -> list[tuple[bytes, bytes]]:
    """What the last of some blocks is decoded to."""
    decoder = HeaderDecoder(max_list_bytes)
    fields: list[tuple[bytes, bytes]] = []
    for block in blocks:
        fields = decoder.decode(block)
    return fields


@pytest.mark.parametrize("block", WRONG_BLOCKS.values(), ids=WRONG_BLOCKS)
def test_a_wrong_block_is_refused(block: bytes) -> None:
    with pytest.raises(ConnectionFault) as caught:
        decode(block)
    assert caught.value.code is ErrorCode.COMPRESSION_ERROR


def test_a_wrong_block_ends_the_connection() -> None:
    client = HTTP2Client()
    client.send(headers_frame(1, b"\x80"))
    assert client.goaway_code() == COMPRESSION_ERROR  # RFC 9113 section 4.3


def test_the_examples_of_the_rfc_are_read() -> None:
    requests = [  # RFC 7541 appendix C.4: with Huffman, and each uses what the one before has added
        bytes.fromhex("828684418cf1e3c2e5f23a6ba0ab90f4ff"),
        bytes.fromhex("828684be5886a8eb10649cbf"),
        bytes.fromhex("828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf"),
    ]
    assert decode(*requests) == [
        (b":method", b"GET"),
        (b":scheme", b"https"),
        (b":path", b"/index.html"),
        (b":authority", b"www.example.com"),
        (b"custom-key", b"custom-value"),
    ]


def test_a_field_that_is_never_to_be_indexed_is_not() -> None:
    block = b"\x10\x01a\x01b"
    assert decode(block) == [(b"a", b"b")]
    with pytest.raises(ConnectionFault):
        decode(block, b"\xbe")


def test_a_field_too_large_for_the_table_empties_it() -> None:
    with pytest.raises(ConnectionFault):  # section 4.4
        decode(b"\x40\x01a\x01b", b"\x40\x01c\x7f\xff\x1e" + b"d" * 4094, b"\xbe", max_list_bytes=10_000)


def test_the_oldest_fields_leave_a_full_table() -> None:
    large = b"\x40\x01c\x7f\xd1\x0e" + b"d" * 2000  # 2033 bytes of 4096
    assert decode(large, large, large, b"\xbe\xbf", max_list_bytes=10_000)[0] == (b"c", b"d" * 2000)
    with pytest.raises(ConnectionFault):
        decode(large, large, large, b"\xc0", max_list_bytes=10_000)


def test_a_name_may_be_of_a_field_that_its_own_field_removes() -> None:
    long = b"n" * 1000
    first = b"\x40\x7f\xe9\x06" + long + b"\x01a"
    second = b"\x7e" + b"\x7f\xd9\x15" + b"v" * 2904  # more than is left
    assert decode(first, second, max_list_bytes=10_000) == [(long, b"v" * 2904)]


def test_the_table_is_as_small_as_the_client_makes_it() -> None:
    assert decode(b"\x40\x01a\x01b", b"\x20\x3f\xe1\x1f\x82") == [(b":method", b"GET")]  # 0, then 4096
    with pytest.raises(ConnectionFault):
        decode(b"\x40\x01a\x01b", b"\x20\x3f\xe1\x1f\xbe")
    with pytest.raises(ConnectionFault):
        decode(b"\x20\x40\x01a\x01b", b"\xbe")


def test_a_list_is_bounded_whatever_it_is_made_of() -> None:
    assert len(decode(b"\x82" * 97)) == 97  # 42 bytes each
    with pytest.raises(ConnectionFault) as caught:
        decode(b"\x82" * 98)
    assert caught.value.code is ErrorCode.ENHANCE_YOUR_CALM


@given(st.lists(st.binary(max_size=60), max_size=4))
@example([b"\x00\x01a\x84\xff\xff\xff\xff"])
@settings(max_examples=200)
def test_arbitrary_blocks_are_decoded_or_refused(blocks: list[bytes]) -> None:
    decoder = HeaderDecoder(LIST_BYTES)
    for block in blocks:
        try:
            fields = decoder.decode(block)
        except ConnectionFault:
            return
        assert sum(len(name) + len(value) + 32 for name, value in fields) <= LIST_BYTES


field_names = st.from_regex(rb"[a-z0-9!#$%&'*+.^_`|~-]{1,30}", fullmatch=True) | st.sampled_from(
    [b"content-type", b"set-cookie", b"date", b"cache-control"]
)
field_values = st.text(
    st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=300
).map(lambda text: text.encode("latin-1").strip())
fields = st.lists(st.tuples(field_names, field_values), max_size=8)


@given(st.lists(st.lists(st.tuples(field_names, field_values, st.booleans()), max_size=6), max_size=4), st.booleans())
@settings(max_examples=100)
def test_what_another_encoder_makes_is_decoded(lists: list[list[tuple[bytes, bytes, bool]]], is_huffman: bool) -> None:
    encoder = hpack.Encoder()
    decoder = HeaderDecoder(2**20)
    for given_fields in lists:
        block = encoder.encode(given_fields, huffman=is_huffman)
        assert decoder.decode(block) == [(name, value) for name, value, _ in given_fields]


@given(st.integers(200, 999), fields)
@settings(max_examples=100)
def test_what_is_encoded_is_what_another_decoder_reads(status: int, given_fields: list[tuple[bytes, bytes]]) -> None:
    decoder = hpack.Decoder()
    read = decoder.decode(encode_status(status) + encode_fields(given_fields), raw=True)
    kept = [(name, value) for name, value in given_fields if name not in CONNECTION_SPECIFIC]
    assert [(bytes(name), bytes(value)) for name, value in read] == [(b":status", b"%d" % status), *kept]
    assert not decoder.header_table.dynamic_entries, "a secret may be in a table"  # section 7.1


@pytest.mark.parametrize("size", [0, 126, 127, 128, 254, 255, 256, 257, 382, 16_383, 20_000])
def test_values_of_every_length_are_encoded(size: int) -> None:
    field = (b"x", b"v" * size)
    assert hpack.Decoder(max_header_list_size=2**20).decode(encode_fields([field]), raw=True) == [field]


def test_names_are_lowered_and_white_space_around_values_is_cut() -> None:
    assert decode(encode_fields([(b"X-Name", b" \tvalue \t")])) == [(b"x-name", b"value")]


def test_fields_of_a_connection_are_left_out() -> None:
    assert encode_fields([(name.title(), b"x") for name in CONNECTION_SPECIFIC]) == b""


@pytest.mark.parametrize("name", [b"", b"a b", b":status", b"a:", b"a\n", b"\xff", b"a\x00", b"a" * 300 + b"\r"])
def test_a_name_that_is_no_token_is_not_encoded(name: bytes) -> None:
    with pytest.raises(ValueError, match="not a header name"):
        encode_fields([(name, b"x")])


@pytest.mark.parametrize("value", [b"a\nb", b"a\rb", b"\x00", b"a\x7f", b"x" * 300 + b"\n" + b"y", b"\x1b"])
def test_a_value_with_a_control_character_is_not_encoded(value: bytes) -> None:
    with pytest.raises(ValueError, match="control character"):
        encode_fields([(b"name", value)])


@pytest.mark.parametrize("field", [("name", b"x"), (b"name", "x"), ("name" * 100, "x" * 300)])
def test_a_field_that_is_no_bytes_is_not_encoded(field: tuple[bytes, bytes]) -> None:
    with pytest.raises(TypeError):
        encode_fields([field])


def test_bytes_like_fields_are_encoded() -> None:
    assert decode(encode_fields([(bytearray(b"name"), memoryview(b"x"))])) == [(b"name", b"x")]


@pytest.mark.parametrize("sizes", [[0], [100], [0, 4096], [0, 65_536], [4095]])
def test_a_smaller_table_is_acknowledged_in_the_next_header_block(sizes: list[int]) -> None:
    client = HTTP2Client()
    client.send(*[settings_frame((HEADER_TABLE_SIZE, size)) for size in sizes])
    client.take()
    client.decoder.max_allowed_table_size = min(sizes)  # the smallest is to be heard of, too
    stream_id, exchange = client.ask()
    respond(exchange, b"fine")
    assert client.answer(stream_id).status == 200  # RFC 9113 section 4.3.1
    assert client.decoder.header_table_size <= min(sizes)
    again, exchange = client.ask()
    respond(exchange, b"fine")
    assert client.answer(again).status == 200


def test_a_larger_table_is_not_used() -> None:
    client = HTTP2Client()
    client.send(settings_frame((HEADER_TABLE_SIZE, 65_536)))
    stream_id, exchange = client.ask()
    respond(exchange, b"fine")
    assert client.answer(stream_id).status == 200
