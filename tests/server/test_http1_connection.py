"""One http/1.1 connection: whose turn it is, limits of time, and the ways it ends."""

from __future__ import annotations

import pytest

from sage_edge.core.exchange import Cause
from sage_edge.server.http1.connection import FAREWELL_SECONDS
from tests.kit.http1_client import GET, HTTP1Client
from tests.kit.http2_frames import PREFACE
from tests.kit.protocol_host import body, read_body, receive, respond, start

POST = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\n"
UPLOAD = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n"
HALF_A_HEAD = b"GET / HTTP/1.1\r\nHost:"


def test_requests_are_answered_one_after_the_other() -> None:
    client = HTTP1Client()
    client.send(GET + GET)
    assert len(client.host.exchanges) == 1
    respond(client.host.exchanges[0], b"one", (b"content-length", b"3"))
    assert client.take().endswith(b"\r\n\r\none")
    assert len(client.host.exchanges) == 2
    assert not client.connection.wants_close


def test_a_body_that_does_not_come_is_given_up() -> None:
    client = HTTP1Client(body_seconds=60)
    exchange = client.ask(POST)
    client.wait(60)
    assert not exchange.is_client_gone
    client.wait(1)
    assert client.take().startswith(b"HTTP/1.1 408 ")
    assert (exchange.cause, client.connection.wants_close) == (Cause.STALLED, True)


def test_a_body_is_not_awaited_while_the_application_does_not_read() -> None:
    client = HTTP1Client(body_seconds=60)
    exchange = client.ask(POST + b"12")
    client.wait(600)
    assert not exchange.is_client_gone
    assert read_body(exchange) == b"12"
    client.wait(61)
    assert exchange.is_client_gone


def test_an_answer_that_has_begun_is_not_cut_for_a_body_that_does_not_come() -> None:
    client = HTTP1Client(body_seconds=60)
    exchange = client.ask(POST)
    exchange.write(start())
    for _ in range(10):
        exchange.write(body(b"data: token\n\n", more=True))
        client.wait(59)
    exchange.write(body())
    assert client.take().count(b"token") == 10
    assert exchange.cause is None
    assert client.connection.wants_close, "what would follow is the body"


@pytest.mark.parametrize(("data", "answer"), [(b"", b""), (HALF_A_HEAD, b"HTTP/1.1 503 ")])
def test_a_drain_waits_a_moment_for_a_request_that_may_be_under_way(data: bytes, answer: bytes) -> None:
    client = HTTP1Client(header_seconds=15)
    client.send(data)
    client.connection.drain()
    client.wait(int(FAREWELL_SECONDS))
    assert not client.connection.wants_close
    client.wait(1)
    assert client.connection.wants_close
    assert client.take()[: len(answer)] == answer


def test_a_request_that_comes_in_that_moment_is_answered() -> None:
    client = HTTP1Client()
    client.send(HALF_A_HEAD)
    client.connection.drain()
    client.wait(1)
    exchange = client.ask(GET.removeprefix(HALF_A_HEAD))
    client.wait(10)
    respond(exchange, b"fine")
    assert b"connection: close" in client.take()
    assert client.connection.wants_close


def test_where_another_goes_on_a_client_is_waited_for_that_thinks() -> None:
    client = HTTP1Client(idle_seconds=75)
    respond(client.ask(), b"before")
    client.connection.drain(keeps_idle=True)
    client.wait(60)
    assert not client.connection.wants_close
    assert b"connection: close" not in client.take()
    respond(client.ask(POST + b"body"), b"after")
    assert b"connection: close" in client.take()
    assert client.connection.wants_close


def test_an_answer_under_way_that_did_not_say_so_is_not_the_last() -> None:
    client = HTTP1Client()
    exchange = client.ask()
    exchange.write(start())
    client.connection.drain(keeps_idle=True)
    exchange.write(body(b"whole"))
    assert b"connection: close" not in client.take()
    assert not client.connection.wants_close
    respond(client.ask(), b"last")
    assert b"connection: close" in client.take()
    assert client.connection.wants_close


def test_such_a_client_is_waited_for_no_longer_than_any_and_not_once_all_end() -> None:
    client = HTTP1Client(idle_seconds=75)
    client.connection.drain(keeps_idle=True)
    client.wait(75)
    assert not client.connection.wants_close
    client.wait(1)
    assert client.connection.wants_close
    other = HTTP1Client(idle_seconds=75)
    other.connection.drain(keeps_idle=True)
    other.wait(10)
    other.connection.drain()
    other.wait(int(FAREWELL_SECONDS))
    assert not other.connection.wants_close
    other.wait(1)
    assert other.connection.wants_close


def test_answers_say_that_a_drain_is_near() -> None:
    client = HTTP1Client(idle_seconds=75)
    client.connection.prepare_drain()
    client.wait(60)
    assert not client.connection.wants_close
    respond(client.ask(), b"fine")
    assert b"connection: close" in client.take()
    assert client.connection.wants_close


def test_an_answer_that_was_whole_is_written_after_the_end_of_its_clients_side() -> None:
    client = HTTP1Client()
    client.send(GET + GET)
    respond(client.host.exchanges[0], bytes(200_000))
    client.connection.take_output(150_000)
    behind = client.host.exchanges[1]  # begun before all of the first was written
    behind.write(start())
    client.connection.end_input()
    assert behind.cause is Cause.CLIENT_LEFT
    assert client.host.exchanges[0].cause is None
    assert client.connection.wants_close
    client.send(GET)
    assert len(client.host.exchanges) == 2
    assert client.take().count(bytes(50_000)) == 1


def test_a_head_is_as_large_as_it_was_sent_with_its_target() -> None:
    client = HTTP1Client()
    head = b"GET /%b HTTP/1.1\r\nHost: localhost\r\nX-Padded:    1\r\n" % (b"x" * 1000)
    assert client.ask(b"\r\n" + head + b"\r\n").head_bytes == len(head)


def test_nothing_of_an_answer_that_was_not_begun_follows_the_end_of_its_clients_side() -> None:
    client = HTTP1Client()
    exchange = client.ask()
    client.connection.end_input()
    assert (exchange.cause, client.connection.wants_close) == (Cause.CLIENT_LEFT, True)
    respond(exchange, b"late")
    assert not client.connection.has_output


HEAD = b"HEAD / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def test_an_answer_without_a_body_is_whole_with_its_head() -> None:
    client = HTTP1Client()
    exchange = client.ask(HEAD)
    exchange.write(start())
    assert client.connection.wants_close
    client.take()
    client.connection.lose()
    exchange.write(body(b"not for the client"))
    client.connection.end(exchange)
    assert (exchange.cause, exchange.ending) == (None, "complete")


@pytest.mark.parametrize("status", [200, 204, 304])
def test_an_application_has_the_grace_period_to_end_an_answer_without_a_body(status: int) -> None:
    client = HTTP1Client()
    exchange = client.ask(HEAD if status == 200 else GET)
    asked: list[str] = []
    exchange.cancel_later = lambda: asked.append("to end")
    exchange.spare = lambda: asked.append("no more")
    exchange.write(start(status))
    assert asked == ["to end"]
    exchange.write(body(b"piece", more=True))
    assert asked == ["to end"]
    exchange.write(body())
    assert asked == ["to end", "no more"]


def test_what_was_not_sent_is_not_counted() -> None:
    client = HTTP1Client()
    exchange = client.ask()
    exchange.write(start(200, (b"content-length", b"100")))
    exchange.write(body(bytes(50)))
    assert exchange.sent_bytes == 0
    assert exchange.cause is Cause.ERROR


def test_what_waits_of_requests_is_accounted_for() -> None:
    client = HTTP1Client()
    client.send(b"GET / HTTP/1.1\r\nHost: x\r\nX-Half: " + b"y" * 1000)
    half_bytes = client.host.account.buffered_bytes
    assert half_bytes > 1000
    client.send(b"\r\n\r\n" + GET * 10)
    (exchange,) = client.host.exchanges
    assert exchange.head_bytes > 1000
    assert client.host.account.buffered_bytes == 10 * len(GET)
    client.connection.lose()
    assert client.host.account.buffered_bytes == 0


@pytest.mark.parametrize(
    ("fields", "end"),
    [
        (b"", b"0\r\n\r\n"),
        (b"TE: gzip\r\n", b"0\r\n\r\n"),
        (b"TE: trailers;q=0\r\n", b"0\r\n\r\n"),
        (b"TE: trailers\r\nConnection: TE\r\n", b"0\r\nx-sum: 1\r\n\r\n"),
        (b"TE: gzip;q=0.5,Trailers\r\n", b"0\r\nx-sum: 1\r\n\r\n"),
        (b"TE: trailers\r\nTE: gzip\r\n", b"0\r\nx-sum: 1\r\n\r\n"),
    ],
)
def test_trailers_are_for_clients_that_ask_for_them_and_others_have_the_end_of_their_answer(
    fields: bytes, end: bytes
) -> None:
    client = HTTP1Client()
    exchange = client.ask(b"GET / HTTP/1.1\r\nHost: localhost\r\n" + fields + b"\r\n")
    assert "http.response.trailers" in exchange.scope["extensions"]
    exchange.write(start(trailers=True))
    exchange.write(body(b"ok"))
    for more in (True, False):
        assert exchange.ending == "error", "it is not whole"
        sent = [] if more else [(b"x-sum", b"1")]
        exchange.write({"type": "http.response.trailers", "headers": sent, "more_trailers": more})
    assert client.take().endswith(b"\r\n\r\n2\r\nok\r\n" + end)
    assert exchange.ending == "complete"
    respond(client.ask(), b"next", (b"content-length", b"4"))
    assert client.take().endswith(b"next")


def test_a_body_that_comes_by_the_byte_counts_for_what_its_pieces_take_in_memory() -> None:
    client = HTTP1Client(stream_window_bytes=65_535)
    exchange = client.ask(UPLOAD)
    pieces = 0
    while client.connection.may_read:
        client.send(b"x")
        pieces += 1
    cost_bytes = client.host.account.buffered_bytes
    assert cost_bytes > 64 * 1024 > 200 * pieces
    for _ in range(pieces // 2):
        receive(exchange)
    assert client.connection.may_read
    assert abs(client.host.account.buffered_bytes - cost_bytes / 2) < 1000
    while receive(exchange):
        pass
    assert client.host.account.buffered_bytes == 0


def test_as_much_of_a_body_is_read_as_of_a_stream() -> None:
    client = HTTP1Client(stream_window_bytes=200_000)
    exchange = client.ask(UPLOAD)
    client.send(bytes(200_000 - 256))
    assert client.connection.may_read
    client.send(b"x")
    assert not client.connection.may_read
    assert len(read_body(exchange)) == 200_000 - 255
    assert client.connection.may_read


def test_one_read_may_wait_however_large_it_is_and_no_more_where_much_waits_for_its_address() -> None:
    client = HTTP1Client(max_buffered_bytes=2**20)
    client.host.account.buffered_bytes += 2**18  # of its other connections
    exchange = client.ask(UPLOAD)
    client.send(bytes(64 * 1024))
    assert client.connection.may_read
    client.send(b"x")
    assert not client.connection.may_read
    wakes = client.host.wakes
    receive(exchange)
    assert client.connection.may_read
    assert client.host.wakes == wakes + 1


def test_a_body_is_read_on_when_its_application_reads_though_others_of_its_address_made_the_room() -> None:
    client = HTTP1Client(max_buffered_bytes=2**20)
    exchange = client.ask(UPLOAD)
    for _ in range(3):
        client.send(bytes(50_000))
    assert client.connection.may_read
    client.host.account.buffered_bytes += 2**18
    assert not client.connection.may_read
    client.host.account.buffered_bytes -= 2**18
    wakes = client.host.wakes
    receive(exchange)
    assert client.connection.may_read
    assert client.host.wakes == wakes + 1


def test_what_came_before_another_protocol_is_its_own_to_account_for() -> None:
    client = HTTP1Client()
    client.host.is_tls = False
    passed_on: list[bytes] = []
    client.host.become_http2 = passed_on.append  # type: ignore[method-assign]
    client.send(PREFACE[:10])
    assert client.host.account.buffered_bytes > 0
    client.send(PREFACE[10:] + b"rest")
    assert passed_on == [PREFACE + b"rest"]
    assert client.host.account.buffered_bytes == 0


def test_what_came_before_a_websocket_is_open_counts_until_it_is_taken() -> None:
    client = HTTP1Client()
    exchange = client.ask(
        b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDAwMDAwMDAwMDAwMDAwMA==\r\n\r\n"
        b"\x82\x85\x00\x00\x00\x00hello"
    )
    assert client.host.account.buffered_bytes > 0
    assert receive(exchange) == {"type": "websocket.connect"}
    exchange.write({"type": "websocket.accept"})
    message = receive(exchange)
    assert message is not None
    assert message["bytes"] == b"hello"
    client.take()
    assert client.host.account.buffered_bytes == 0


@pytest.mark.parametrize(
    "fields", ["Host: localhost\r\nContent-Length: x\r\n", f"Host: localhost\r\nContent-Length: {10**15}\r\n"]
)
def test_a_head_request_that_is_refused_has_no_body_in_its_answer(fields: str) -> None:
    # RFC 9110 section 9.3.2: content-length is what a GET's answer would have.
    answers = []
    for method in ("HEAD", "GET"):
        client = HTTP1Client()
        client.send(f"{method} / HTTP/1.1\r\n{fields}\r\n".encode())
        answers.append(client.take().partition(b"\r\n\r\n"))
    (head, _, nothing), (_, _, body) = answers
    assert nothing == b""
    assert body
    assert b"\r\ncontent-length: %d\r\n" % len(body) in head
