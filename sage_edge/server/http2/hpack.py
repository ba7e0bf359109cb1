"""Header compression (RFC 7541): a decoder with limits, and an encoder without state.

The decoder counts what it makes, so that a small block cannot become a large list. The encoder
writes indices into the static table and literals that are not indexed, as nginx's does: each
field's bytes depend on that field alone, so they are made once and remembered, no answer depends
on an earlier one, and a secret never enters a table (section 7.1).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

from hpack.exceptions import HPACKDecodingError
from hpack.huffman_table import decode_huffman
from hpack.table import HeaderTable

from sage_edge.server.http2.frames import ConnectionFault, ErrorCode

Field = tuple[bytes, bytes]

TABLE_BYTES = 4096
"""The dynamic table's default, which is not changed (RFC 9113 section 6.5.2)."""
FIELD_OVERHEAD_BYTES = 32
"""What a field counts for beside its bytes (RFC 7541 section 4.1)."""
LONGEST_INTEGER_BYTES = 4
REMEMBERED_FIELDS = 2048
LONGEST_REMEMBERED_BYTES = 256
LONGEST_REMEMBERED_STRING_BYTES = 64

_STATIC_FIELDS: tuple[Field, ...] = HeaderTable.STATIC_TABLE
_STATIC = {field: index for index, field in enumerate(_STATIC_FIELDS, 1)}
_STATIC_NAMES = {name: index for index, (name, _) in reversed([*enumerate(_STATIC_FIELDS, 1)])}

_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
_BAD_VALUE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
CONNECTION_SPECIFIC = frozenset({b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"})
"""Fields that mean a connection of HTTP/1.1 (RFC 9113 section 8.2.2)."""


class HeaderDecoder:
    """One connection's. Its state is lost with the first error, and with it the connection.

    Args:
        max_list_bytes: of the names, the values, and 32 for each field (RFC 9113 section 6.5.2).
    """

    def __init__(self, max_list_bytes: int) -> None:
        self._max_list_bytes = max_list_bytes
        self._table: list[Field] = []  # the newest last
        self._table_bytes = 0
        self._capacity_bytes = TABLE_BYTES

    def decode(self, block: bytes) -> list[Field]:
        """Decode a header block.

        Raises:
            ConnectionFault: it is wrong (RFC 9113 section 4.3), or decodes to too much.
        """
        try:
            return self._decode(block)
        except (IndexError, HPACKDecodingError):
            raise ConnectionFault(ErrorCode.COMPRESSION_ERROR, "the header block is wrong") from None

    def _decode(self, block: bytes) -> list[Field]:
        fields: list[Field] = []
        list_bytes = 0
        position = 0
        end = len(block)
        while position < end:
            first = block[position]
            if first & 0x80:  # indexed (section 6.1)
                if first < 0xFF:
                    field = self._find(first & 0x7F)
                    position += 1
                else:
                    index, position = _read_integer(block, position, 0x7F)
                    field = self._find(index)
            elif first & 0x40:  # literal, to be indexed (section 6.2.1)
                field, position = self._read_literal(block, position, 0x3F)
                self._add(field)
            elif first & 0x20:  # a new size of the table, which only begins a block (section 4.2)
                capacity_bytes, position = _read_integer(block, position, 0x1F)
                if fields or capacity_bytes > TABLE_BYTES:
                    raise ConnectionFault(ErrorCode.COMPRESSION_ERROR, "the table's size is not to be changed so")
                self._capacity_bytes = capacity_bytes
                self._evict(0)
                continue
            else:  # literal, not to be indexed (sections 6.2.2 and 6.2.3)
                field, position = self._read_literal(block, position, 0x0F)
            list_bytes += len(field[0]) + len(field[1]) + FIELD_OVERHEAD_BYTES
            if list_bytes > self._max_list_bytes:
                raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "the header list is too large")
            fields.append(field)
        return fields

    def _find(self, index: int) -> Field:
        if index <= len(_STATIC_FIELDS):
            if not index:
                raise IndexError(index)
            return _STATIC_FIELDS[index - 1]
        index -= len(_STATIC_FIELDS)
        if index > len(self._table):
            raise IndexError(index)
        return self._table[-index]

    def _read_literal(self, block: bytes, position: int, mask: int) -> tuple[Field, int]:
        index, position = _read_integer(block, position, mask)
        if index:
            name = self._find(index)[0]
        else:
            name, position = _read_string(block, position)
        value, position = _read_string(block, position)
        return (name, value), position

    def _add(self, field: Field) -> None:
        """Section 4.4: what does not fit empties the table."""
        size_bytes = len(field[0]) + len(field[1]) + FIELD_OVERHEAD_BYTES
        self._evict(size_bytes)
        if size_bytes <= self._capacity_bytes:
            self._table.append(field)
            self._table_bytes += size_bytes

    def _evict(self, size_bytes: int) -> None:
        table = self._table
        while table and self._table_bytes + size_bytes > self._capacity_bytes:
            name, value = table.pop(0)
            self._table_bytes -= len(name) + len(value) + FIELD_OVERHEAD_BYTES


def _read_integer(block: bytes, position: int, mask: int) -> tuple[int, int]:
    """Section 5.1. Raises IndexError where it does not end, or is larger than anything here can be."""
    value = block[position] & mask
    position += 1
    if value < mask:
        return value, position
    for shift in range(0, 7 * LONGEST_INTEGER_BYTES, 7):
        octet = block[position]
        position += 1
        value += (octet & 0x7F) << shift
        if octet < 0x80:
            return value, position
    raise IndexError(position)


def _read_string(block: bytes, position: int) -> tuple[bytes, int]:
    """Section 5.2."""
    is_huffman = block[position] & 0x80
    length, position = _read_integer(block, position, 0x7F)
    end = position + length
    if end > len(block):
        raise IndexError(end)
    data = block[position:end]
    if is_huffman:
        data = _remembered_string(data) if length <= LONGEST_REMEMBERED_STRING_BYTES else decode_huffman(data)
    return data, end


_remembered_string = lru_cache(maxsize=REMEMBERED_FIELDS)(decode_huffman)


def encode_fields(fields: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Encode an application's response fields, without those of a connection.

    Raises:
        ValueError: a name is no token or a value has a control character (RFC 9110 section 5.5).
        TypeError: one of them is not bytes.
    """
    parts = []
    for name, value in fields:
        if len(value) > LONGEST_REMEMBERED_BYTES:
            parts.append(_encode_field(bytes(name), bytes(value)))
        else:
            parts.append(_remembered_field(bytes(name), bytes(value)))
    return b"".join(parts)


def _encode_field(name: bytes, value: bytes) -> bytes:
    name = name.lower()
    value = value.strip(b" \t")
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is not a header name")
    if _BAD_VALUE.search(value):
        raise ValueError(f"the header {name.decode()} has a control character in its value")
    if name in CONNECTION_SPECIFIC:
        return b""
    return _encode(name, value)


_remembered_field = lru_cache(maxsize=REMEMBERED_FIELDS)(_encode_field)


@lru_cache(maxsize=1024)
def encode_status(status: int) -> bytes:
    """The pseudo-header field of an answer (RFC 9113 section 8.3.2)."""
    return _encode(b":status", b"%d" % status)


def _encode(name: bytes, value: bytes) -> bytes:
    index = _STATIC.get((name, value))
    if index is not None:
        return _integer(index, 7, 0x80)
    index = _STATIC_NAMES.get(name)
    head = _integer(index, 4, 0x00) if index is not None else b"\x00" + _integer(len(name), 7, 0) + name
    return head + _integer(len(value), 7, 0) + value


def _integer(value: int, prefix_bits: int, first: int) -> bytes:
    """RFC 7541 section 5.1."""
    limit = (1 << prefix_bits) - 1
    if value < limit:
        return bytes((first | value,))
    value -= limit
    encoded = [first | limit]
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*encoded, value))
