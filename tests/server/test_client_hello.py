"""What is read of a client's first message. The messages are OpenSSL's own."""

from __future__ import annotations

import ssl

import pytest

from sage_edge.server.client_hello import ClientHello, IncompleteError, read_client_hello


def hello(server_name: str | None = "edge.test", protocols: tuple[str, ...] = ("h2", "http/1.1")) -> bytes:
    """A first message as a client sends it."""
    context = ssl.create_default_context()
    context.check_hostname = server_name is not None
    if protocols:
        context.set_alpn_protocols(list(protocols))
    outgoing = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=server_name)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


def rename(message: bytes, name: bytes) -> bytes:
    """The message with another server name, of the same length."""
    assert message.count(b"edge.test") == 1
    assert len(name) == len(b"edge.test")
    return message.replace(b"edge.test", name)


def in_records(message: bytes, size_bytes: int) -> bytes:
    """The message in smaller records."""
    body = message[5:]
    parts = [body[start : start + size_bytes] for start in range(0, len(body), size_bytes)]
    return b"".join(message[:3] + len(part).to_bytes(2) + part for part in parts)


def test_the_name_and_the_protocols_are_read() -> None:
    assert read_client_hello(hello()) == ClientHello("edge.test", (b"h2", b"http/1.1"))


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (hello(None), ClientHello(None, (b"h2", b"http/1.1"))),
        (hello(protocols=()), ClientHello("edge.test", None)),
        (hello(None, ()), ClientHello()),
    ],
    ids=["no name", "no protocols", "neither"],
)
def test_what_a_client_does_not_say_is_none(message: bytes, expected: ClientHello) -> None:
    assert read_client_hello(message) == expected


@pytest.mark.parametrize(
    ("sent", "name"),
    [(b"EDGE.Test", "edge.test"), (b"edge.tes.", "edge.tes"), (b"\xff" * 9, "\ufffd" * 9)],
    ids=["case", "a dot at the end", "not ASCII"],
)
def test_names_are_brought_into_one_form(sent: bytes, name: str) -> None:
    assert read_client_hello(rename(hello(), sent)).server_name == name


@pytest.mark.parametrize("size_bytes", [40, 100, 1000])
def test_a_message_in_several_records_is_put_together(size_bytes: int) -> None:
    assert read_client_hello(in_records(hello(), size_bytes)).server_name == "edge.test"


def test_every_beginning_of_a_message_is_incomplete() -> None:
    message = hello()
    for end in range(len(message)):
        with pytest.raises(IncompleteError):
            read_client_hello(message[:end])


@pytest.mark.parametrize("message", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x00\x04\x02\x00\x00\x00"])
def test_what_is_no_such_message_says_nothing(message: bytes) -> None:
    assert read_client_hello(message) == ClientHello()


def test_extensions_that_are_cut_short_are_left_to_openssl() -> None:
    message = hello()
    at = message.index(b"edge.test")
    broken = message[: at - 2] + b"\xff\xff" + message[at:]  # the name's length
    assert read_client_hello(broken) == ClientHello()
