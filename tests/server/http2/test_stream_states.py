"""What each frame means in each state of its stream (RFC 9113 section 5.1)."""

from __future__ import annotations

import pytest

from tests.kit.http2_client import HTTP2Client
from tests.kit.http2_frames import (
    CANCEL,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    STREAM_CLOSED,
    data_frame,
    get_fields,
    headers_frame,
    plain_block,
    priority_frame,
    reset_frame,
    window_frame,
)
from tests.kit.protocol_host import body, respond, start

STREAM_ID = 3
TRAILERS = plain_block([(b"a", b"b")])
FRAMES = {
    "DATA": data_frame(STREAM_ID, b"abc"),
    "DATA, the last": data_frame(STREAM_ID, b"abc", end=True),
    "HEADERS": headers_frame(STREAM_ID, TRAILERS, end=False),
    "HEADERS, the last": headers_frame(STREAM_ID, TRAILERS),
    "PRIORITY": priority_frame(STREAM_ID),
    "RST_STREAM": reset_frame(STREAM_ID),
    "WINDOW_UPDATE": window_frame(STREAM_ID, 1),
}


def idle(client: HTTP2Client) -> None:
    client.next_id = STREAM_ID + 2


def skipped(client: HTTP2Client) -> None:
    """Idle streams below one that was opened are closed (section 5.1.1)."""
    client.next_id = STREAM_ID + 2
    client.ask()


def open_(client: HTTP2Client) -> None:
    client.next_id = STREAM_ID
    client.ask(method=b"POST", end=False)


def open_and_answering(client: HTTP2Client) -> None:
    open_(client)
    client.host.exchanges[-1].write(start())


def half_closed_local(client: HTTP2Client) -> None:
    open_(client)
    respond(client.host.exchanges[-1], b"early")
    assert client.answer(STREAM_ID).has_ended


def half_closed_remote(client: HTTP2Client) -> None:
    client.next_id = STREAM_ID
    client.ask()


def closed_by_both(client: HTTP2Client) -> None:
    half_closed_remote(client)
    respond(client.host.exchanges[-1], b"done")
    assert client.answer(STREAM_ID).has_ended


def reset_by_client(client: HTTP2Client) -> None:
    open_(client)
    client.send(reset_frame(STREAM_ID))


def reset_by_server(client: HTTP2Client) -> None:
    open_(client)
    client.connection.end(client.host.exchanges[-1])  # without an answer
    assert client.answer(STREAM_ID).reset_code is not None


def ended_and_reset_by_server(client: HTTP2Client) -> None:
    half_closed_remote(client)
    client.connection.end(client.host.exchanges[-1])
    assert client.answer(STREAM_ID).reset_code is not None


# What is answered: None: nothing, the stream goes on or stays what it is; a code; or a code for the connection.
SILENCE = ("stream", None)
STREAM_ERROR = ("stream", STREAM_CLOSED)
BAD_STREAM = ("stream", PROTOCOL_ERROR)
GOAWAY_CLOSED = ("connection", STREAM_CLOSED)
GOAWAY_PROTOCOL = ("connection", PROTOCOL_ERROR)

Expected = tuple[str, int | None]
KINDS = list(FRAMES)
TABLE: dict[str, tuple[object, list[Expected]]] = {
    # state: DATA, its last, HEADERS, its last, PRIORITY, RST_STREAM, WINDOW_UPDATE
    "idle": (
        idle,
        [GOAWAY_PROTOCOL, GOAWAY_PROTOCOL, BAD_STREAM, BAD_STREAM, SILENCE, GOAWAY_PROTOCOL, GOAWAY_PROTOCOL],
    ),
    "skipped": (
        skipped,
        # DATA, RST_STREAM and WINDOW_UPDATE may be errors or ignored: the stream is closed
        [SILENCE, SILENCE, GOAWAY_PROTOCOL, GOAWAY_PROTOCOL, SILENCE, SILENCE, SILENCE],
    ),
    "open": (open_, [SILENCE, SILENCE, BAD_STREAM, SILENCE, SILENCE, SILENCE, SILENCE]),
    "open, answering": (open_and_answering, [SILENCE, SILENCE, BAD_STREAM, SILENCE, SILENCE, SILENCE, SILENCE]),
    "half closed (local)": (half_closed_local, [SILENCE, SILENCE, BAD_STREAM, SILENCE, SILENCE, SILENCE, SILENCE]),
    "half closed (remote)": (
        half_closed_remote,
        [STREAM_ERROR, STREAM_ERROR, STREAM_ERROR, STREAM_ERROR, SILENCE, SILENCE, SILENCE],
    ),
    "closed, both ended": (
        closed_by_both,
        [GOAWAY_CLOSED, GOAWAY_CLOSED, GOAWAY_CLOSED, GOAWAY_CLOSED, SILENCE, SILENCE, SILENCE],
    ),
    "closed, reset by the client": (
        reset_by_client,
        [STREAM_ERROR, STREAM_ERROR, STREAM_ERROR, STREAM_ERROR, SILENCE, SILENCE, SILENCE],
    ),
    "closed, reset by the server": (reset_by_server, [SILENCE] * 7),
    "closed, ended and reset by the server": (ended_and_reset_by_server, [SILENCE] * 7),
}
CASES = [(state, kind) for state in TABLE for kind in KINDS]


@pytest.mark.parametrize(("state", "kind"), CASES, ids=[", on ".join(reversed(case)) for case in CASES])
def test_each_frame_has_its_meaning_in_each_state(state: str, kind: str) -> None:
    client = HTTP2Client()
    reach, expected = TABLE[state]
    assert callable(reach)
    reach(client)
    before = client.answer(STREAM_ID).reset_code
    client.send(FRAMES[kind])
    what, code = expected[KINDS.index(kind)]
    after = client.answer(STREAM_ID).reset_code
    if what == "connection":
        assert client.goaway_code() == code
        return
    assert client.goaway_code() is None
    assert after == (before if code is None else code)
    _, exchange = client.ask()  # the connection goes on
    respond(exchange, b"fine")


@pytest.mark.parametrize("state", ["open", "open, answering", "half closed (remote)"])
def test_an_application_learns_that_its_stream_was_reset(state: str) -> None:
    client = HTTP2Client()
    reach, _ = TABLE[state]
    assert callable(reach)
    reach(client)
    exchange = client.host.exchanges[-1]
    client.send(reset_frame(STREAM_ID))
    assert exchange.is_client_gone
    assert exchange.is_abandoned
    assert client.connection.is_idle


@pytest.mark.parametrize("stream_id", [2, 4, 2**31 - 2])
@pytest.mark.parametrize("kind", [data_frame, lambda stream_id: window_frame(stream_id, 1), reset_frame])
def test_frames_on_streams_that_only_a_server_opens_end_the_connection(kind: object, stream_id: int) -> None:
    client = HTTP2Client()
    client.next_id = 101
    client.ask()
    assert callable(kind)
    client.send(kind(stream_id))
    assert client.goaway_code() == PROTOCOL_ERROR


@pytest.mark.parametrize("stream_id", [2, 2**31 - 2])
def test_a_client_cannot_open_a_stream_with_an_even_number(stream_id: int) -> None:
    client = HTTP2Client()
    client.send(headers_frame(stream_id, plain_block(get_fields())))
    assert client.goaway_code() == PROTOCOL_ERROR  # section 5.1.1


def test_the_last_stream_may_have_the_largest_number() -> None:
    client = HTTP2Client()
    client.next_id = 2**31 - 1
    stream_id, exchange = client.ask()
    respond(exchange, b"last")
    assert client.answer(stream_id).body == b"last"


def test_only_the_latest_closed_streams_are_told_apart() -> None:
    client = HTTP2Client()
    for _ in range(300):
        _, exchange = client.ask()
        respond(exchange)
        client.connection.end(exchange)
        client.take()
    client.send(data_frame(1, b"late"), window_frame(3, 1), reset_frame(5), priority_frame(7))
    assert client.goaway_code() is None
    client.send(headers_frame(1, plain_block(get_fields())))
    assert client.goaway_code() == PROTOCOL_ERROR


def test_one_stream_too_many_is_refused_and_the_others_go_on() -> None:
    client = HTTP2Client(max_streams=3)
    served = [client.ask() for _ in range(3)]
    extra = client.request()
    assert client.answer(extra).reset_code == REFUSED_STREAM  # section 5.1.2
    assert len(client.host.exchanges) == 3
    for stream_id, exchange in served:
        respond(exchange, b"fine")
        assert client.answer(stream_id).body == b"fine"
    client.ask()


def test_a_stream_that_the_client_has_not_ended_counts() -> None:
    client = HTTP2Client(max_streams=1)
    stream_id, exchange = client.ask(method=b"POST", end=False)
    respond(exchange, b"early")
    client.take()
    assert client.answer(client.request()).reset_code == REFUSED_STREAM
    client.send(data_frame(stream_id, end=True))
    client.ask()


def test_applications_that_go_on_after_their_answers_take_no_place() -> None:
    client = HTTP2Client(max_streams=2, max_resets=1)
    for _ in range(20):
        stream_id, exchange = client.ask()
        respond(exchange, b"fine")
        assert client.answer(stream_id).body == b"fine"
    assert client.goaway_code() is None


def test_a_request_that_is_reset_in_the_same_breath_is_not_run() -> None:
    client = HTTP2Client()
    client.send(headers_frame(1, plain_block(get_fields())), reset_frame(1, CANCEL))
    assert not client.host.exchanges
    assert client.connection.is_idle


def test_what_an_application_does_on_a_reset_stream_has_no_effect() -> None:
    client = HTTP2Client()
    stream_id, exchange = client.ask(body=b"abc", end=False)
    client.send(reset_frame(stream_id))
    exchange.write(start())
    exchange.write(body(b"x"))
    exchange.consume(3)
    client.connection.end(exchange)
    assert client.take() == []
    assert client.host.account.buffered_bytes == 0
