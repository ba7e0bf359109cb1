"""What an application's messages become (RFC 9113 section 8.1, RFC 9110)."""

from __future__ import annotations

import pytest

from tests.kit.http2_client import HTTP2Client
from tests.kit.http2_frames import (
    CANCEL,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    INTERNAL_ERROR,
    Field,
    data_frame,
    settings_frame,
    window_frame,
)
from tests.kit.protocol_host import body, read_body, receive, respond, start


def test_an_answer_has_the_fields_of_the_application_and_a_date() -> None:
    client = HTTP2Client()
    stream_id, exchange = client.ask()
    respond(exchange, b"{}", (b"Content-Type", b"application/json"), (b"connection", b"close"), status=201)
    answer = client.answer(stream_id)
    assert answer.fields[:2] == [(b":status", b"201"), (b"content-type", b"application/json")]
    assert [name for name, _ in answer.fields[2:]] == [b"date"]
    assert (bytes(answer.body), answer.has_ended, answer.reset_code) == (b"{}", True, None)
    assert (exchange.status, exchange.sent_bytes) == (201, 2)
    assert exchange.progress.is_complete
    assert client.connection.is_idle


def test_a_large_head_goes_in_pieces() -> None:
    client = HTTP2Client()
    stream_id, exchange = client.ask()
    fields: list[Field] = [(b"x-%d" % number, bytes((97 + number,)) * 9000) for number in range(5)]
    respond(exchange, b"", *fields)
    kinds = [(one.kind, one.flags & END_HEADERS) for one in client.take()]
    assert kinds == [(HEADERS, 0), (9, 0), (9, END_HEADERS), (DATA, 0)]
    assert client.answers[stream_id].fields[1:6] == fields


@pytest.mark.parametrize("size", [16_384 * 2 - 14, 16_384 * 2 - 13])
def test_a_head_that_fills_its_frames_ends_in_the_last(size: int) -> None:
    client = HTTP2Client()
    stream_id, exchange = client.ask()
    respond(exchange, b"", (b"date", b""), (b"x", b"a" * size))
    assert dict(client.answer(stream_id).fields)[b"x"] == b"a" * size


def test_the_answer_to_head_is_its_head() -> None:
    client = HTTP2Client()
    stream_id, exchange = client.ask(method=b"HEAD")
    exchange.write(start(200, (b"content-length", b"5")))
    exchange.write(body(b"hello"))
    client.connection.end(exchange)
    assert [(one.kind, one.flags & END_STREAM) for one in client.take()] == [(HEADERS, END_STREAM)]
    assert dict(client.answers[stream_id].fields)[b"content-length"] == b"5"
    assert exchange.sent_bytes == 0


@pytest.mark.parametrize("status", [204, 205, 304])
def test_answers_without_a_body_have_none(status: int) -> None:
    client = HTTP2Client()
    stream_id, exchange = client.ask()
    respond(exchange, b"hello", status=status)
    client.connection.end(exchange)
    answer = client.answer(stream_id)
    assert (answer.status, answer.has_ended, bytes(answer.body), answer.frame_sizes) == (status, True, b"", [])
    assert answer.reset_code is None


def test_a_204_has_no_content_length() -> None:
    client = HTTP2Client()
    stream_id, exchange = client.ask()
    respond(exchange, b"", (b"Content-Length", b"0"), status=204)
    assert b"content-length" not in dict(client.answer(stream_id).fields)  # RFC 9110 section 8.6


@pytest.mark.parametrize("has_data", [False, True])
def test_trailers_follow_the_body(has_data: bool) -> None:
    client = HTTP2Client()
    client.send(settings_frame((4, 5)))
    stream_id, exchange = client.ask((b"te", b"trailers"))
    exchange.write(start(trailers=True))
    exchange.write(body(b"hello world" if has_data else b""))
    exchange.write({"type": "http.response.trailers", "headers": [(b"X-Sum", b"1")]})
    assert exchange.progress.is_complete
    if has_data:
        assert client.answer(stream_id).trailers is None
        client.send(window_frame(stream_id, 100))
    answer = client.answer(stream_id)
    assert (answer.trailers, answer.has_ended) == ([(b"x-sum", b"1")], True)
    assert client.connection.is_idle


def test_trailers_of_an_answer_to_head_are_left_out() -> None:
    client = HTTP2Client()
    stream_id, exchange = client.ask(method=b"HEAD")
    exchange.write(start(trailers=True))
    exchange.write(body())
    exchange.write({"type": "http.response.trailers", "headers": [(b"x-sum", b"1")]})
    client.connection.end(exchange)
    answer = client.answer(stream_id)
    assert (answer.trailers, answer.has_ended, answer.reset_code) == (None, True, None)


@pytest.mark.parametrize("has_data", [False, True])
def test_trailers_that_cannot_be_sent_reset_the_stream(has_data: bool) -> None:
    client = HTTP2Client()
    stream_id, exchange = client.ask()
    exchange.write(start(trailers=True))
    exchange.write(body(b"x" if has_data else b""))
    with pytest.raises(ValueError, match="control character"):
        exchange.write({"type": "http.response.trailers", "headers": [(b"a", b"b\nc")]})
    client.connection.end(exchange)
    answer = client.answer(stream_id)
    assert (answer.has_ended, answer.reset_code) == (False, INTERNAL_ERROR)
    assert client.connection.is_idle
    assert client.host.account.buffered_bytes == 0


@pytest.mark.parametrize("field", [(b"a", b"b\r\nc: d"), (b"a b", b""), (b":status", b"200"), (b"a\n", b"")])
def test_a_head_that_cannot_be_sent_may_be_followed_by_another(field: Field) -> None:
    client = HTTP2Client()
    stream_id, exchange = client.ask()
    with pytest.raises(ValueError, match="header"):
        exchange.write(start(200, field))
    assert not exchange.progress.has_started
    respond(exchange, b"sorry", status=500)
    assert (client.answer(stream_id).status, client.answer(stream_id).body) == (500, b"sorry")


@pytest.mark.parametrize("status", [99, 100, 101, 103, 199, 600, 999, 1000])
def test_a_status_that_is_not_final_cannot_be_sent(status: int) -> None:
    client = HTTP2Client()
    _, exchange = client.ask()
    with pytest.raises(ValueError, match="final"):
        exchange.write(start(status))
    assert client.take() == []


@pytest.mark.parametrize("status", [200, 204, 206, 304, 404, 418, 500, 599])
def test_every_final_status_is_sent(status: int) -> None:
    client = HTTP2Client()
    stream_id, exchange = client.ask()
    respond(exchange, status=status)
    assert client.answer(stream_id).status == status


def test_an_answer_that_the_application_does_not_end_is_reset() -> None:
    client = HTTP2Client()
    stream_id, exchange = client.ask()
    exchange.write(start())
    exchange.write(body(b"half", more=True))
    assert client.answer(stream_id).body == b"half"
    client.connection.end(exchange)
    answer = client.answer(stream_id)
    assert (answer.has_ended, answer.reset_code) == (False, INTERNAL_ERROR)
    assert client.connection.is_idle


@pytest.mark.parametrize("ended_by", ["end", "content-length"])
def test_what_was_sent_of_an_answer_that_is_cut_comes_before_the_reset(ended_by: str) -> None:
    client = HTTP2Client()
    stream_id, exchange = client.ask()
    exchange.write(start(200, (b"content-length", b"9")))
    exchange.write(body(b"error: ", more=True))
    if ended_by == "content-length":
        with pytest.raises(ValueError, match="longer"):
            exchange.write(body(b"out of memory", more=True))
    else:
        client.connection.end(exchange)
    answer = client.answer(stream_id)
    assert (answer.body, answer.has_ended, answer.reset_code) == (b"error: ", False, INTERNAL_ERROR)
    assert exchange.passed_on_bytes == len(b"error: ")
    assert client.connection.is_idle
    assert client.host.account.buffered_bytes == 0


def test_what_was_sent_of_an_answer_that_is_cut_waits_for_its_clients_window_and_for_nobody_else() -> None:
    client = HTTP2Client()
    stream_id, exchange = client.ask(body=b"", end=False)
    exchange.write(start())
    exchange.write(body(bytes(100_000), more=True))
    client.connection.end(exchange)
    answer = client.answer(stream_id)
    assert (len(answer.body), answer.reset_code) == (65_535, None)
    client.send(data_frame(stream_id, b"more of the request"))  # may come; is nobody's
    assert exchange.is_client_gone
    assert not client.connection.is_idle
    client.credit(stream_id, 100_000)
    answer = client.answer(stream_id)
    assert (len(answer.body), answer.has_ended, answer.reset_code) == (100_000, False, INTERNAL_ERROR)
    assert client.host.account.buffered_bytes == 0
    client.send(data_frame(stream_id, b"late"))
    assert client.goaway_code() is None


def test_a_client_that_does_not_take_what_was_sent_of_a_cut_answer_is_not_waited_for() -> None:
    client = HTTP2Client(stall_seconds=30.0)
    stream_id, exchange = client.ask()
    exchange.write(start())
    exchange.write(body(bytes(100_000), more=True))
    client.connection.end(exchange)
    client.take()
    client.wait(5.0)
    client.wait(31.0)
    assert client.answer(stream_id).reset_code == CANCEL
    assert client.connection.is_idle
    assert client.host.account.buffered_bytes == 0


def test_a_request_that_is_never_answered_is_reset() -> None:
    client = HTTP2Client()
    stream_id, exchange = client.ask()
    client.connection.end(exchange)
    assert client.answer(stream_id).reset_code == INTERNAL_ERROR


def test_an_application_that_ends_before_its_answer_is_written_does_not_cut_it() -> None:
    client = HTTP2Client()
    stream_id, exchange = client.ask()
    respond(exchange, bytes(100_000))
    client.take()
    client.connection.end(exchange)
    client.credit(stream_id, 100_000)
    assert (len(client.answer(stream_id).body), client.answer(stream_id).has_ended) == (100_000, True)


def test_an_answer_shorter_than_announced_is_reset_and_never_ended() -> None:
    client = HTTP2Client()
    stream_id, exchange = client.ask()
    exchange.write(start(200, (b"content-length", b"5")))
    exchange.write(body(b"abc", more=True))
    client.take()
    exchange.write(body())
    client.connection.end(exchange)
    answer = client.answer(stream_id)
    assert (answer.has_ended, answer.reset_code) == (False, INTERNAL_ERROR)  # section 8.1.1


def test_an_answer_shorter_than_announced_is_reset_whatever_its_trailers() -> None:
    client = HTTP2Client()
    stream_id, exchange = client.ask()
    exchange.write(start(200, (b"content-length", b"5"), trailers=True))
    exchange.write(body(b"abc"))
    exchange.write({"type": "http.response.trailers", "headers": [(b"a", b"b")]})
    client.connection.end(exchange)
    answer = client.answer(stream_id)
    assert (answer.has_ended, answer.reset_code) == (False, INTERNAL_ERROR)
    assert client.host.account.buffered_bytes == 0


def test_trailers_of_an_answer_longer_than_announced_are_not_sent() -> None:
    client = HTTP2Client()
    stream_id, exchange = client.ask()
    exchange.write(start(200, (b"content-length", b"5"), trailers=True))
    with pytest.raises(ValueError, match="longer"):
        exchange.write(body(b"abcdef"))
    exchange.write({"type": "http.response.trailers", "headers": [(b"a", b"b")]})
    client.connection.end(exchange)
    answer = client.answer(stream_id)
    assert (answer.has_ended, answer.trailers, answer.reset_code) == (False, None, INTERNAL_ERROR)


def test_an_answer_longer_than_announced_is_reset() -> None:
    client = HTTP2Client()
    stream_id, exchange = client.ask()
    exchange.write(start(200, (b"content-length", b"5")))
    exchange.write(body(b"abc", more=True))
    with pytest.raises(ValueError, match="longer"):
        exchange.write(body(b"def", more=True))
    client.connection.end(exchange)
    answer = client.answer(stream_id)
    assert (answer.has_ended, answer.reset_code) == (False, INTERNAL_ERROR)


def test_a_message_out_of_order_is_refused_and_sends_nothing() -> None:
    client = HTTP2Client()
    stream_id, exchange = client.ask()
    with pytest.raises(RuntimeError):
        exchange.write(body(b"x"))
    with pytest.raises(ValueError, match="not a message"):
        exchange.write({"type": "http.response.zerocopysend"})
    assert client.take() == []
    respond(exchange, b"done")
    with pytest.raises(RuntimeError):
        exchange.write(body(b"more"))
    assert client.answer(stream_id).body == b"done"


@pytest.mark.parametrize("media_type", [b"text/event-stream; charset=utf-8", b"Text/Event-Stream"])
def test_an_event_stream_is_not_to_be_collected_on_the_way(media_type: bytes) -> None:
    client = HTTP2Client()
    stream_id, exchange = client.ask()
    respond(exchange, b"", (b"content-type", media_type))
    fields = dict(client.answer(stream_id).fields)
    assert (fields[b"cache-control"], fields[b"x-accel-buffering"]) == (b"no-cache", b"no")


def test_an_event_streams_own_fields_are_left_as_they_are() -> None:
    client = HTTP2Client()
    stream_id, exchange = client.ask()
    given = [(b"content-type", b"text/event-stream"), (b"Cache-Control", b"no-store"), (b"X-Accel-Buffering", b"yes")]
    respond(exchange, b"", *given, (b"date", b"today"))
    assert client.answer(stream_id).fields == [
        (b":status", b"200"),
        *((name.lower(), value) for name, value in given),
        (b"date", b"today"),
    ]


def test_after_its_answer_an_application_sees_a_disconnect() -> None:
    client = HTTP2Client()
    _, exchange = client.ask()
    assert receive(exchange) == {"type": "http.request", "body": b"", "more_body": False}
    assert receive(exchange) is None
    respond(exchange)
    assert receive(exchange) == {"type": "http.disconnect"}


def test_a_client_that_waits_to_be_asked_for_its_body_is_asked() -> None:
    client = HTTP2Client()
    stream_id, exchange = client.ask((b"expect", b"100-continue"), method=b"POST", end=False)
    assert client.answer(stream_id).interim == []  # the application may not want it
    assert receive(exchange) is None
    assert client.answer(stream_id).interim == [[(b":status", b"100")]]  # RFC 9110 section 10.1.1
    client.send(data_frame(stream_id, b"body", end=True))
    assert read_body(exchange) == b"body"
    respond(exchange, b"thanks")
    answer = client.answer(stream_id)
    assert (len(answer.interim), answer.status, bytes(answer.body)) == (1, 200, b"thanks")


def test_a_client_that_does_not_wait_to_be_asked_is_not() -> None:
    client = HTTP2Client()
    stream_id, exchange = client.ask((b"expect", b"100-continue"), body=b"body")
    assert read_body(exchange) == b"body"
    receive(exchange)
    assert client.answer(stream_id).interim == []


def test_a_client_is_not_asked_for_a_body_that_is_not_wanted() -> None:
    client = HTTP2Client()
    stream_id, exchange = client.ask((b"expect", b"100-continue"), method=b"POST", end=False)
    respond(exchange, status=401)
    receive(exchange)
    answer = client.answer(stream_id)
    assert (answer.interim, answer.status) == ([], 401)
