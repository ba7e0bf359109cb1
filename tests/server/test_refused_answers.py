"""What a client is told of a request that its connection refuses: over either protocol the same, in words."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

import pytest

from tests.kit.both_protocols import both_protocols
from tests.kit.captured_logs import captured_logs
from tests.kit.http1_client import HTTP1Client
from tests.kit.http2_client import HTTP2Client
from tests.kit.http2_frames import INITIAL_WINDOW_SIZE, Field, data_frame, get_fields, headers_frame, settings_frame

LIMITS = {"max_body_bytes": 1000, "max_header_bytes": 2000}
WEBSOCKET: list[Field] = [
    (b"connection", b"upgrade"),
    (b"upgrade", b"websocket"),
    (b"sec-websocket-version", b"13"),
    (b"sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZQ=="),
]
DETAILS = {
    "malformed host": (400, "The host is malformed."),
    "no host": (400, "The request names no host."),
    "malformed target": (400, "The request's target is malformed."),
    "too long a body": (413, "The request's body is too large."),
    "too large a head": (431, "The request's head is too large."),
    "malformed handshake": (400, "sec-websocket-protocol is malformed"),
}


@dataclass
class Refused:
    """The answer, and what was logged of it."""

    status: int
    fields: dict[bytes, bytes]
    body: bytes
    line: dict[str, Any]


@pytest.fixture
def lines() -> Iterator[list[dict[str, Any]]]:
    """What is logged."""
    with captured_logs() as logged:
        yield logged


def ask(
    protocol: str, lines: list[dict[str, Any]], *extra: Field, host: bytes | None = b"localhost", **rest: Any
) -> Refused:
    """Send a request that is refused."""
    method, path, is_websocket = rest.get("method", b"GET"), rest.get("path", b"/"), rest.get("is_websocket", False)
    if protocol == "2":
        http2 = HTTP2Client(**LIMITS)
        pseudo = {"method": b"CONNECT", "protocol": b"websocket"} if is_websocket else {"method": method}
        stream_id = http2.request(*extra, authority=host, path=path, **pseudo)
        answer = http2.answer(stream_id)
        assert answer.has_ended
        assert http2.host.account.buffered_bytes == 0
        assert http2.connection.is_idle
        status, fields, body = answer.status, dict(answer.fields), bytes(answer.body)
    else:
        http1 = HTTP1Client(**LIMITS)
        sent = [*([(b"host", host)] if host is not None else []), *(WEBSOCKET if is_websocket else []), *extra]
        head = b"".join(b"%b: %b\r\n" % field for field in sent)
        http1.send(b"%b %b HTTP/1.1\r\n%b\r\n" % (method, path, head))
        first, _, body = http1.take().partition(b"\r\n\r\n")
        status_line, *given = first.split(b"\r\n")
        status, fields = int(status_line.split()[1]), dict(field.split(b": ", 1) for field in given)  # type: ignore[misc]
    (line,) = lines
    return Refused(status, fields, body, line)


def refuse(what: str, protocol: str, lines: list[dict[str, Any]]) -> Refused:
    """Have a request refused for what is wrong with it."""
    match what:
        case "malformed host":
            return ask(protocol, lines, host=b"a b")
        case "no host":
            return ask(protocol, lines, host=None)
        case "malformed target":
            return ask(protocol, lines, path=b"a")
        case "too long a body":
            return ask(protocol, lines, (b"content-length", b"1001"), method=b"POST")
        case "too large a head":
            return ask(protocol, lines, (b"x", b"y" * 2000))
        case _:
            return ask(protocol, lines, (b"sec-websocket-protocol", b"a/b"), is_websocket=True)


@both_protocols
@pytest.mark.parametrize("what", DETAILS)
def test_a_refusal_says_why_to_its_client_and_in_the_log(protocol: str, what: str, lines: list[dict[str, Any]]) -> None:
    status, detail = DETAILS[what]
    refused = refuse(what, protocol, lines)
    assert refused.status == refused.line["status"] == status
    assert refused.line["reason"] == detail
    error = json.loads(refused.body)["error"]
    assert (error["message"], error["code"]) == (detail, status)
    assert parsedate_to_datetime(refused.fields[b"date"].decode())  # RFC 9110 section 6.6.1
    assert refused.fields[b"content-type"] == b"application/json"
    assert refused.fields[b"cache-control"] == b"no-store"
    assert int(refused.fields[b"content-length"]) == len(refused.body) == refused.line["sent_bytes"]


@both_protocols
def test_who_asks_for_a_head_alone_is_refused_with_one(protocol: str, lines: list[dict[str, Any]]) -> None:
    refused = ask(protocol, lines, host=b"a b", method=b"HEAD")
    assert (refused.status, refused.body, refused.line["sent_bytes"]) == (400, b"", 0)
    assert int(refused.fields[b"content-length"]) > 0
    assert refused.line["reason"] == "The host is malformed."


@pytest.mark.parametrize("is_websocket", [False, True])
@pytest.mark.parametrize("is_whole", [False, True])
def test_what_is_refused_for_what_follows_its_head_is_told_why(is_websocket: bool, is_whole: bool) -> None:
    client = HTTP2Client(max_body_bytes=4)
    pseudo = {"method": b"CONNECT", "protocol": b"websocket"} if is_websocket else {"method": b"POST"}
    frames = [headers_frame(1, client.block(get_fields(**pseudo)), end=False), data_frame(1, b"hello")]
    for sent in [frames] if is_whole else [frames[:1], frames[1:]]:
        client.send(*sent)
    answer = client.answer(1)
    assert (answer.status, answer.has_ended, answer.reset_code) == (400 if is_websocket else 413, True, None)
    detail = "Bytes came before the WebSocket was open." if is_websocket else "The request's body is too large."
    assert json.loads(answer.body)["error"]["message"] == detail
    assert b"date" in dict(answer.fields)
    if not is_whole:
        (exchange,) = client.host.exchanges
        client.connection.end(exchange)
        assert (exchange.ending, exchange.status, exchange.passed_on_bytes) == (
            "refused",
            answer.status,
            len(answer.body),
        )
    assert client.answer(1).reset_code is None
    assert client.host.account.buffered_bytes == 0


def test_a_refusal_waits_for_its_client_s_window_and_not_for_ever() -> None:
    client = HTTP2Client()
    client.send(settings_frame((INITIAL_WINDOW_SIZE, 0)))
    stream_id = client.request(authority=b"a b")
    answer = client.answer(stream_id)
    assert (answer.status, answer.has_ended, bytes(answer.body)) == (400, False, b"")
    assert client.host.account.buffered_bytes > 0  # it is accounted for
    for _ in range(int(client.host.limits.stall_seconds) + 2):
        client.wait(1)
    assert client.answer(stream_id).reset_code is not None
    assert client.host.account.buffered_bytes == 0


@both_protocols
def test_a_websocket_is_opened_with_a_date(protocol: str) -> None:
    if protocol == "2":
        http2 = HTTP2Client()
        stream_id, exchange = http2.ask(method=b"CONNECT", protocol=b"websocket", end=False)
        exchange.write({"type": "websocket.accept", "headers": [(b"x", b"y")]})
        fields = dict(http2.answer(stream_id).fields)
    else:
        http1 = HTTP1Client()
        head = b"".join(b"%b: %b\r\n" % field for field in [(b"host", b"x"), *WEBSOCKET])
        http1.ask(b"GET / HTTP/1.1\r\n%b\r\n" % head).write({"type": "websocket.accept", "headers": [(b"x", b"y")]})
        fields = dict(field.split(b": ", 1) for field in http1.take().split(b"\r\n")[1:-2])  # type: ignore[misc]
    assert parsedate_to_datetime(fields[b"date"].decode())
    assert fields[b"x"] == b"y"
