"""What an application sends becomes the edge's own: `bytes`, and fields in a list, whatever it does afterwards."""

from __future__ import annotations

from array import array
from typing import Any

import pytest

from sage_edge.core.exchange import Message, own_message


class Tagged(bytes):
    """Bytes of a kind of their own."""


@pytest.mark.parametrize("key", ["body", "bytes"])
@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"abc", b"abc"),
        (Tagged(b"abc"), b"abc"),
        (bytearray(b"abc"), b"abc"),
        (memoryview(b"abc"), b"abc"),
        (memoryview(b"abcdef")[::2], b"ace"),
        (memoryview(array("I", [1, 2])), array("I", [1, 2]).tobytes()),
        (array("I", [1, 2]), array("I", [1, 2]).tobytes()),
    ],
    ids=["bytes", "a subclass", "bytearray", "a view", "a view with steps", "a view of integers", "an array"],
)
def test_what_is_like_bytes_becomes_bytes(key: str, data: Any, expected: bytes) -> None:
    owned = own_message({"type": "any", key: data})[key]
    assert type(owned) is bytes
    assert owned == expected


def test_bytes_stay_as_they_are() -> None:
    data = bytes(1000)
    assert own_message({"type": "http.response.body", "body": data})["body"] is data


@pytest.mark.parametrize("key", ["body", "bytes"])
@pytest.mark.parametrize("data", ["text", [1, 2], 5, {}, object()], ids=lambda data: type(data).__name__)
def test_what_is_not_like_bytes_is_an_error(key: str, data: Any) -> None:
    with pytest.raises(TypeError, match=rf"^a\.kind has {type(data).__name__} where bytes belong$"):
        own_message({"type": "a.kind", key: data})


def test_no_body_is_an_error_and_none_of_two_payloads_is_not() -> None:
    with pytest.raises(TypeError, match="has NoneType where bytes belong"):
        own_message({"type": "http.response.body", "body": None})
    for message in ({"bytes": None, "text": "a"}, {"bytes": b"a", "text": None}):
        message["type"] = "websocket.send"
        assert own_message(message) == message


@pytest.mark.parametrize("text", [b"a", 5, ["a"]])
def test_a_text_that_is_none_is_an_error(text: Any) -> None:
    with pytest.raises(TypeError, match="has text of type"):
        own_message({"type": "websocket.send", "text": text})


@pytest.mark.parametrize("kind", ["http.response.start", "http.response.trailers", "websocket.accept"])
def test_headers_may_be_any_iterable(kind: str) -> None:
    fields = [(b"a", b"1"), (b"b", b"2")]
    for headers in (iter(fields), (field for field in fields), tuple(fields), map(list, fields), dict(fields).items()):
        assert own_message({"type": kind, "headers": headers})["headers"] == fields
    assert own_message({"type": kind, "headers": None})["headers"] == []
    assert "headers" not in own_message({"type": kind})


def test_headers_like_bytes_become_bytes() -> None:
    owned = own_message({"type": "any", "headers": [(bytearray(b"a"), memoryview(b"1"))]})
    assert [type(part) for field in owned["headers"] for part in field] == [bytes, bytes]


@pytest.mark.parametrize("field", [("a", b"1"), (b"a", "1"), (b"a", 5), (b"a", [65]), (b"a", None), b"ab"])
def test_headers_that_are_not_like_bytes_are_an_error(field: Any) -> None:
    with pytest.raises(TypeError, match="where bytes belong"):
        own_message({"type": "any", "headers": [field]})


@pytest.mark.parametrize("field", [(b"a",), (b"a", b"b", b"c"), ()])
def test_a_header_is_a_name_and_a_value(field: Any) -> None:
    with pytest.raises(ValueError, match="values to unpack"):
        own_message({"type": "any", "headers": [field]})


def test_nothing_of_it_is_the_applications_any_more() -> None:
    buffer, fields = bytearray(b"abc"), [[b"a", b"1"]]
    message: Message = {"type": "any", "body": buffer, "headers": fields, "status": 200}
    owned = own_message(message)
    before = own_message(owned)
    buffer[:] = b"xyz"
    fields[0][1] = b"2"
    fields.append([b"b", b"3"])
    message["status"] = 500
    assert owned == before
