"""What is written when: turns, coalescing, memory."""

from __future__ import annotations

from tests.kit.http2_client import HTTP2Client
from tests.kit.http2_frames import (
    DATA,
    END_STREAM,
    FRAME_BYTES,
    HEADERS,
    PING,
    RST_STREAM,
    ping_frame,
    reset_frame,
    settings_frame,
    window_frame,
)
from tests.kit.protocol_host import body, respond, start

LARGE_WINDOW = settings_frame((4, 2**30))


def wide_client() -> HTTP2Client:
    """A client whose windows do not matter."""
    client = HTTP2Client()
    client.send(LARGE_WINDOW, window_frame(0, 2**30))
    client.take()
    return client


def test_an_answer_is_one_write() -> None:
    client = HTTP2Client()
    _, exchange = client.ask()
    respond(exchange, b"fine")
    assert [(one.kind, one.flags & END_STREAM) for one in client.take(is_once=True)] == [(HEADERS, 0), (DATA, 1)]


def test_small_pieces_become_one_frame() -> None:
    client = HTTP2Client()
    stream_id, exchange = client.ask()
    exchange.write(start())
    for _ in range(100):
        exchange.write(body(b"token ", more=True))
    exchange.write(body())
    answer = client.answer(stream_id)
    assert answer.frame_sizes == [600]
    assert answer.has_ended


def test_pieces_that_come_one_by_one_go_one_by_one() -> None:
    client = HTTP2Client()
    stream_id, exchange = client.ask()
    exchange.write(start())
    for number in range(3):
        exchange.write(body(b"%d" % number, more=True))
        client.take()
    assert client.answer(stream_id).frame_sizes == [1, 1, 1]


def test_a_piece_may_wait_for_others_unless_it_is_the_last() -> None:
    client = HTTP2Client()
    _, exchange = client.ask()
    exchange.write(start())
    assert client.host.late_wakes == 0
    exchange.write(body(b"a", more=True))
    exchange.write(body(b"b", more=True))
    assert client.host.late_wakes == 2
    before = client.host.wakes
    exchange.write(body(b"c"))
    assert (client.host.wakes, client.host.late_wakes) == (before + 1, 2)


def test_empty_pieces_are_no_frames() -> None:
    client = HTTP2Client()
    stream_id, exchange = client.ask()
    exchange.write(start())
    exchange.write(body(more=True))
    exchange.write(body(more=True))
    assert client.answer(stream_id).frame_sizes == []
    exchange.write(body())
    assert client.answer(stream_id).frame_sizes == [0]


def test_pieces_are_cut_and_joined_at_the_frames_size() -> None:
    client = wide_client()
    stream_id, exchange = client.ask()
    data = [bytes((number,)) * 10_000 for number in range(10)]
    exchange.write(start())
    for piece in data:
        exchange.write(body(piece, more=True))
    exchange.write(body(b"end"))
    answer = client.answer(stream_id)
    assert answer.body == b"".join(data) + b"end"
    assert answer.frame_sizes == [FRAME_BYTES] * 6 + [100_003 - 6 * FRAME_BYTES]


def test_a_small_answer_does_not_wait_for_a_large_one() -> None:
    client = wide_client()
    large, exchange = client.ask()
    respond(exchange, bytes(4 * 2**20))
    client.take(is_once=True)
    small, exchange = client.ask()
    respond(exchange, b"small")
    frames = client.take(is_once=True)
    kinds = [(one.kind, one.stream_id) for one in frames]
    assert kinds.index((DATA, small)) <= 2  # its head, at most one turn of the other, itself
    assert client.answers[small].has_ended
    assert not client.answers[large].has_ended


def test_streams_take_turns() -> None:
    client = wide_client()
    for _ in range(5):
        respond(client.ask()[1], bytes(10 * FRAME_BYTES))
    turns = [one.stream_id for one in client.take() if one.kind == DATA]
    assert turns == [1, 3, 5, 7, 9] * 10


def test_streams_take_turns_when_the_connections_window_is_small() -> None:
    client = HTTP2Client()
    for _ in range(3):
        respond(client.ask()[1], bytes(200_000))
    client.take()
    turns = []
    for _ in range(9):
        client.send(*[window_frame(stream_id, 1000) for stream_id in (1, 3, 5)], window_frame(0, 1000))
        turns += [one.stream_id for one in client.take() if one.kind == DATA]
    assert turns.count(1) == turns.count(3) == turns.count(5) == 3


def test_a_stream_whose_window_is_shut_does_not_keep_the_others_waiting() -> None:
    client = HTTP2Client()
    client.send(window_frame(0, 2**20))
    shut, exchange = client.ask()
    respond(exchange, bytes(200_000))
    other, exchange = client.ask()
    respond(exchange, bytes(50_000))
    assert client.answer(other).has_ended
    assert not client.answer(shut).has_ended


def test_what_is_taken_at_once_is_bounded() -> None:
    client = wide_client()
    respond(client.ask()[1], bytes(2**20))
    data = client.connection.take_output(65_536)
    assert 65_536 <= len(data) <= 65_536 + FRAME_BYTES + 100


def test_answers_to_pings_go_before_data() -> None:
    client = wide_client()
    respond(client.ask()[1], bytes(2**20))
    client.take(is_once=True)
    client.send(ping_frame())
    assert client.take(is_once=True)[0].kind == PING


def test_a_reset_goes_before_the_data_of_others_where_nothing_waits_on_its_stream() -> None:
    client = wide_client()
    cut, exchange = client.ask()
    exchange.write(start())
    respond(client.ask()[1], bytes(2**20))
    client.take(is_once=True)
    client.connection.end(exchange)
    frames = client.take()
    assert (frames[0].kind, frames[0].stream_id) == (RST_STREAM, cut)
    assert all(one.stream_id != cut for one in frames[1:])


def test_a_cut_answer_takes_its_turns_and_its_reset_comes_behind_it() -> None:
    client = wide_client()
    cut, exchange = client.ask()
    exchange.write(start())
    exchange.write(body(bytes(100_000), more=True))
    respond(client.ask()[1], bytes(100_000))
    client.connection.end(exchange)
    frames = [one for one in client.take() if one.kind in (DATA, RST_STREAM)]
    assert {one.stream_id for one in frames[:2]} == {cut, cut + 2}
    own = [one for one in frames if one.stream_id == cut]
    assert [one.kind for one in own] == [DATA] * (len(own) - 1) + [RST_STREAM]
    assert sum(len(one.payload) for one in own[:-1]) == 100_000


def test_an_applications_memory_is_not_kept_once_it_is_written() -> None:
    client = HTTP2Client()
    stream_id, exchange = client.ask()
    exchange.write(start())
    exchange.write(body(bytes(100_000), more=True))
    assert client.host.account.buffered_bytes == 100_000
    assert exchange.is_congested
    client.take()
    assert client.host.account.buffered_bytes == 100_000 - 65_535
    client.credit(stream_id, 100_000)
    client.take()
    assert client.host.account.buffered_bytes == 0
    assert not exchange.is_congested


def test_a_reset_stream_drops_what_waits_on_it() -> None:
    client = HTTP2Client()
    stream_id, exchange = client.ask()
    respond(exchange, bytes(100_000))
    client.take()
    client.send(reset_frame(stream_id))
    assert client.host.account.buffered_bytes == 0
    client.send(window_frame(0, 100_000), window_frame(stream_id, 100_000))
    assert not client.connection.has_output
    assert client.take() == []


def test_a_lost_connection_drops_everything() -> None:
    client = HTTP2Client()
    _, reading = client.ask(method=b"POST", body=b"abc", end=False)
    _, writing = client.ask()
    respond(writing, bytes(100_000))
    client.connection.lose()
    client.connection.lose()
    assert reading.is_abandoned
    assert writing.is_client_gone
    assert client.connection.is_idle
    assert client.connection.wants_close
    for exchange in (reading, writing):
        client.connection.end(exchange)
    assert not any(one.kind == DATA for one in client.take())
    assert client.host.account.buffered_bytes == 0
