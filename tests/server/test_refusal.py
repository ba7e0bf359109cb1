"""Requests that a connection refuses itself: each has one line, one count, and an id that its answer carries."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from sage_edge.server.carrier import ConnectionProtocol
from sage_edge.server.http1.connection import HTTP1Connection
from sage_edge.server.refusal import note_unbegun
from tests.kit.captured_logs import captured_logs
from tests.kit.http2_client import HTTP2Client
from tests.kit.http2_frames import (
    CANCEL,
    ENHANCE_YOUR_CALM,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    data_frame,
    get_fields,
    headers_frame,
    ping_frame,
    priority_frame,
    reset_frame,
    window_frame,
)
from tests.kit.protocol_host import FakeHost, default_limits, respond

Lines = list[dict[str, Any]]

LONG = b"x" * 70_000


@pytest.fixture
def lines() -> Iterator[Lines]:
    """What is logged."""
    with captured_logs() as logged:
        yield logged


def counts(host: FakeHost, family: str) -> dict[tuple[str, ...], float]:
    """What was counted."""
    return {tuple(row[0]): row[-1] for row in host.metrics.snapshot().get(f"sage_edge_{family}", ()) if row[-1]}


def say(data: bytes, **limits: Any) -> tuple[FakeHost, bytes]:
    """Say something over http/1.1, and wait for a minute."""
    host = FakeHost(default_limits(**limits))
    connection: ConnectionProtocol = HTTP1Connection(host)
    connection.receive(data)
    for _ in range(60):
        host.now += 1
        connection.check_time(host.now)
    answer = b""
    while part := connection.take_output(65_536):
        answer += part
    return host, answer


@pytest.mark.parametrize(
    ("said", "status", "method", "path"),
    [
        (b"GET /a?key=secret HTTP/1.1\r\n\r\n", 400, "GET", "/a"),
        (b"POST /a HTTP/1.1\r\nhost: a\r\ncontent-length: 2000\r\n\r\n", 413, "POST", "/a"),
        (b"GET /a?key=secret HTTP/2.0\r\nhost: a\r\n\r\n", 505, "GET", "/a"),
        (b"GET /a HTTP/1.1\r\nhost: a\r\nx: " + LONG, 431, "GET", "/a"),
        (b"GET /" + LONG, 414, "GET", "/" + "x" * 1023 + "…"),
        (b"GET /a HTTP/1.1\r\nhost: a\r\n", 408, "GET", "/a"),
        (b"GET /a HTTP/1.1\r\nhost: a\r\nexpect: more\r\n\r\n", 417, "GET", "/a"),
        (b"POST /a HTTP/1.1\r\nhost: a\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n", 400, "POST", "/a"),
        (b"GET http://me:secret@a/b HTTP/1.1\r\nhost: a\r\n\r\n", 400, "GET", "http://a/b"),
        (b"CONNECT me:secret@a:443 HTTP/1.1\r\nhost: a\r\n\r\n", 400, "CONNECT", "a:443"),
        (b"GET /@me HTTP/1.1\r\n\r\n", 400, "GET", "/@me"),
        (b"MADE /up HTTP/1.1\r\n\r\n", 400, "MADE", "/up"),
        (b"WEBSOCKET /up HTTP/1.1\r\n\r\n", 400, "other", "/up"),
        (b"M" * 4000 + b" /up HTTP/1.1\r\n\r\n", 400, "M" * 1024 + "…", "/up"),
        (b"GET\r\n\r\n", 400, "-", "-"),
    ],
)
def test_what_http1_refuses(lines: Lines, said: bytes, status: int, method: str, path: str) -> None:
    host, answer = say(said, max_body_bytes=1000)
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    identifier = re.search(rb"\r\nx-request-id: (\S+)\r\n", answer)
    assert identifier is not None
    (line,) = [line for line in lines if line["event"] == "request"]
    assert line.pop("reason")
    assert line == {
        "event": "request",
        "log_level": "info",
        "client": "192.0.2.7",
        "protocol": "HTTP/1.1",
        "method": method,
        "path": path,
        "status": status,
        "received_bytes": 0,
        "sent_bytes": len(answer.partition(b"\r\n\r\n")[2]),
        "ending": "refused",
        "mount": "none",
        "request_id": identifier[1].decode(),
    }
    label = method if method in {"GET", "POST", "CONNECT"} else "other"
    assert counts(host, "requests") == {("none", "1.1", label, str(status)): 1}
    assert sum(counts(host, "protocol_errors").values()) == 1


@pytest.mark.parametrize(
    "said",
    [
        b"GET me:1 HTTP/1.0\r\n\r\n",
        b"GET /a HTTP/1.0\r\nhost: a b\r\n\r\n",
        b"POST /a HTTP/1.0\r\ncontent-length: 2000\r\n\r\n",
        b"POST /a HTTP/1.0\r\ncontent-length: 20\r\n\r\n",
    ],
)
def test_what_spoke_http_1_0_is_told_and_counted_as_such(lines: Lines, said: bytes) -> None:
    host, answer = say(said, max_body_bytes=1000, body_seconds=10.0)
    assert answer
    assert [line["protocol"] for line in lines if line["event"] == "request"] in ([], ["HTTP/1.0"])
    assert {protocol for protocol, _ in counts(host, "protocol_errors")} == {"1.0"}
    assert {protocol for _, protocol, *_ in counts(host, "requests")} <= {"1.0"}


def test_a_client_s_own_id_is_kept_where_its_head_could_be_read(lines: Lines) -> None:
    _, answer = say(
        b"POST / HTTP/1.1\r\nhost: a\r\nx-request-id: mine\r\ncontent-length: 2000\r\n\r\n", max_body_bytes=1000
    )
    assert b"\r\nx-request-id: mine\r\n" in answer
    assert lines[-1]["request_id"] == "mine"


@pytest.mark.parametrize("given", [b"", b"x-request-id: mine\r\n", b"x-request-id: not sane\r\n"])
@pytest.mark.parametrize("has_begun", [False, True])
def test_what_is_too_large_has_its_id_before_any_layer_has_seen_it(lines: Lines, has_begun: bool, given: bytes) -> None:
    host = FakeHost(default_limits(max_body_bytes=4))
    connection = HTTP1Connection(host)
    connection.receive(b"POST / HTTP/1.1\r\nhost: a\r\n%btransfer-encoding: chunked\r\n\r\n" % given)
    (exchange,) = host.exchanges
    exchange.has_begun = has_begun  # otherwise it waits for its turn
    connection.receive(b"5\r\nhello\r\n")
    answer = connection.take_output(65_536)
    assert exchange.passed_on_bytes == len(answer.partition(b"\r\n\r\n")[2]) > 0
    identifier = re.search(rb"\r\nx-request-id: (\S+)\r\n", answer)
    assert identifier is not None
    assert exchange.request_id == identifier[1].decode()
    assert (exchange.request_id == "mine") is (b"mine" in given)
    if not has_begun:
        note_unbegun(host, exchange)
        (line,) = lines
        assert line["reason"] == "The request's body is too large."
        assert (line["status"], line["request_id"]) == (413, exchange.request_id)
        assert (line["received_bytes"], line["sent_bytes"]) == (5, exchange.passed_on_bytes)
        assert line["duration_ms"] >= 0


def test_what_is_not_http_is_told_with_its_client(lines: Lines) -> None:
    host, answer = say(b"EHLO mail example\r\n\r\n")
    assert answer == b""
    assert [(line["event"], line["client"]) for line in lines] == [("connection refused", "192.0.2.7")]
    assert counts(host, "protocol_errors") == {("1.1", "not_http"): 1}


@pytest.mark.parametrize("line", [b"GET /x HTTP", b"GET /x http", b"GET /x HTTP1.1", b"GET /x"])
def test_a_request_line_of_http_without_a_version_is_answered(lines: Lines, line: bytes) -> None:
    _, answer = say(line + b"\r\nHost: localhost\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize(
    ("pseudo", "status", "code", "method", "path"),
    [
        ({"path": b"/a b?key=secret"}, 400, None, "GET", "/a b"),
        ({"method": b"CONNECT", "scheme": None, "path": None}, 405, None, "CONNECT", "-"),
        ({"path": None}, None, PROTOCOL_ERROR, "GET", "-"),
        ({"method": None}, None, PROTOCOL_ERROR, "-", "/"),
    ],
)
def test_what_http2_refuses(
    lines: Lines, pseudo: dict[str, bytes | None], status: int | None, code: int | None, method: str, path: str
) -> None:
    client = HTTP2Client()
    stream_id = client.request(**pseudo)
    answer = client.answer(stream_id)
    assert (answer.status or None, answer.reset_code) == (status, code)
    (line,) = [line for line in lines if line["event"] == "request"]
    told = ("HTTP/2", method, path, status or "-", "refused", "none", stream_id)
    assert tuple(line[name] for name in ("protocol", "method", "path", "status", "ending", "mount", "stream")) == told
    assert line["reason"]
    if status:
        assert (b"x-request-id", line["request_id"].encode()) in answer.fields
    label = method if method != "-" else "other"
    assert counts(client.host, "requests") == {("none", "2", label, str(status or "none")): 1}
    assert sum(counts(client.host, "protocol_errors").values()) == 1


def test_streams_that_are_too_many_are_told_and_are_no_breach(lines: Lines) -> None:
    client = HTTP2Client(max_streams=1)
    client.ask()
    extra = client.request(path=b"/extra")
    assert client.answer(extra).reset_code == REFUSED_STREAM
    (line,) = lines
    assert (line["path"], line["status"], line["stream"]) == ("/extra", "-", extra)
    assert line["reason"] == "too many streams"
    assert counts(client.host, "requests") == {("none", "2", "GET", "none"): 1}
    assert counts(client.host, "limits_exceeded") == {("streams",): 1}
    assert counts(client.host, "protocol_errors") == {}


def test_a_request_behind_the_last_goaway_is_told(lines: Lines) -> None:
    client = HTTP2Client()
    _, exchange = client.ask()
    client.connection.drain()
    client.take()
    client.send(ping_frame(b"draining", is_ack=True))
    client.take()
    late = client.request(path=b"/late")
    assert client.answer(late).reset_code == REFUSED_STREAM
    assert [(line["path"], line["reason"]) for line in lines] == [("/late", "the connection is draining")]
    respond(exchange)


def test_a_request_that_breaks_a_rule_before_it_begins_is_told(lines: Lines) -> None:
    client = HTTP2Client()
    block = client.block([(b":method", b"POST"), (b":scheme", b"https"), (b":path", b"/a"), (b":authority", b"a")])
    client.send(headers_frame(1, block, end=False), window_frame(1, 0))
    assert client.answer(1).reset_code == PROTOCOL_ERROR
    assert not client.host.exchanges
    assert [(line["path"], line["status"], line["ending"]) for line in lines] == [("/a", "-", "protocol error")]
    assert counts(client.host, "cancellations") == {("none", "protocol_error"): 1}


@pytest.mark.parametrize("is_whole", [True, False])
def test_a_request_that_is_reset_in_the_same_breath_is_told_and_counted(lines: Lines, is_whole: bool) -> None:
    client = HTTP2Client()
    block = client.block([(b":method", b"POST"), (b":scheme", b"https"), (b":path", b"/a"), (b":authority", b"a")])
    client.send(headers_frame(1, block, end=is_whole), reset_frame(1, CANCEL))
    assert not client.host.exchanges
    (line,) = lines
    told = ("request", "HTTP/2", "POST", "/a", "-", "client left", "none", 1)
    names = ("event", "protocol", "method", "path", "status", "ending", "mount", "stream")
    assert tuple(line[name] for name in names) == told
    assert "reason" not in line
    assert counts(client.host, "requests") == {("none", "2", "POST", "none"): 1}
    assert counts(client.host, "cancellations") == {("none", "client_left"): 1}
    assert counts(client.host, "protocol_errors") == {}


WEBSOCKET = {"method": b"CONNECT", "protocol": b"websocket"}


@pytest.mark.parametrize(("pseudo", "status"), [({"method": b"POST"}, 413), (WEBSOCKET, 400)])
@pytest.mark.parametrize("is_whole", [True, False])
def test_what_is_refused_before_any_layer_has_seen_it_has_its_id(
    lines: Lines, pseudo: dict[str, bytes], status: int, is_whole: bool
) -> None:
    client = HTTP2Client(max_body_bytes=4)
    block = client.block(get_fields(**pseudo))
    frames = [headers_frame(1, block, end=False), data_frame(1, b"hello")]
    for sent in [frames] if is_whole else [frames[:1], frames[1:]]:
        client.send(*sent)
    answer = client.answer(1)
    assert answer.status == status
    identifier = dict(answer.fields)[b"x-request-id"].decode()
    if is_whole:
        (line,) = lines
        assert (line["status"], line["request_id"]) == (status, identifier)
        assert line["reason"] == json.loads(answer.body)["error"]["message"]
        assert (line["received_bytes"], line["sent_bytes"]) == (5 if status == 413 else 0, len(answer.body))
        assert line["duration_ms"] >= 0
    else:
        assert client.host.exchanges[0].request_id == identifier


@pytest.mark.parametrize("is_whole", [True, False])
def test_a_websocket_whose_stream_ends_before_it_is_open_is_told_so(lines: Lines, is_whole: bool) -> None:
    client = HTTP2Client()
    stream_id = client.request(**WEBSOCKET, end=is_whole)
    if not is_whole:
        client.send(data_frame(stream_id, b"", end=True))
    answer = client.answer(stream_id)
    assert answer.status == 400
    detail = json.loads(answer.body)["error"]["message"]
    assert detail == "The stream ended before the WebSocket was open."
    assert [line["reason"] for line in lines] == [detail] * is_whole, "otherwise its layers tell"


@pytest.mark.parametrize("is_announced", [True, False])
def test_a_413_is_one_breach_though_its_client_ends_its_body_early(is_announced: bool) -> None:
    client = HTTP2Client(max_body_bytes=1000)
    length = [(b"content-length", b"2000")] if is_announced else []
    stream_id = client.request(*length, method=b"POST", end=False)
    client.send(data_frame(stream_id, bytes(500)))
    client.send(data_frame(stream_id, bytes(501), end=True))
    answer = client.answer(stream_id)
    assert (answer.status, answer.reset_code) == (413, None)
    assert client.connection.is_idle
    assert counts(client.host, "protocol_errors") == {("2", "request_entity_too_large"): 1}


def test_faults_of_streams_are_counted_by_their_codes() -> None:
    client = HTTP2Client()
    stream_id, _ = client.ask(method=b"POST", end=False)
    client.send(window_frame(stream_id, 0))
    assert client.answer(stream_id).reset_code == PROTOCOL_ERROR
    assert counts(client.host, "protocol_errors") == {("2", "protocol_error"): 1}


@pytest.mark.parametrize("has_started", [False, True])
def test_a_body_that_is_too_large_is_counted_and_is_refused(has_started: bool) -> None:
    client = HTTP2Client(max_body_bytes=1000)
    stream_id, exchange = client.ask(method=b"POST", end=False)
    if has_started:
        exchange.write({"type": "http.response.start", "status": 200, "headers": []})
    client.send(data_frame(stream_id, bytes(1001)))
    answer = client.answer(stream_id)
    assert (answer.status, answer.reset_code) == ((200, CANCEL) if has_started else (413, None))
    assert exchange.ending == "refused"
    assert counts(client.host, "protocol_errors") == {("2", "request_entity_too_large"): 1}


def test_a_connection_that_is_ended_for_its_client_s_fault_names_it(lines: Lines) -> None:
    client = HTTP2Client(max_pings=1)
    client.send(*[ping_frame(bytes(8))] * 3)
    assert client.goaway_code() == ENHANCE_YOUR_CALM
    (line,) = lines
    assert (line["event"], line["client"]) == ("connection ended for its client's fault", "192.0.2.7")
    other = HTTP2Client()
    other.send(priority_frame(1, depends_on=1))
    assert other.goaway_code() == PROTOCOL_ERROR
    assert counts(other.host, "protocol_errors") == {("2", "protocol_error"): 1}
