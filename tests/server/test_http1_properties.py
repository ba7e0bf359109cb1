"""What holds for every request, and for every way its bytes may come."""

from __future__ import annotations

import h11
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from sage_edge.server.http1.parser import (
    HTTP2_PREFACE,
    BadRequestError,
    BodyPart,
    EndOfRequest,
    Event,
    Request,
    RequestParser,
)
from tests.kit.http1_events import HEAD_BYTES, collect

LIMIT_BYTES = 120
"""Of a head in the streams below, so that some are too large."""

methods = st.sampled_from([b"GET", b"POST", b"OPTIONS", b"get"])
targets = st.sampled_from([b"/", b"/a?b=c", b"http://a.test/", b"*"])
values = st.text("az,;= \t~\xa0\xff", max_size=9).map(lambda text: text.encode("latin-1"))
plain_fields = st.tuples(st.sampled_from([b"X-One", b"accept", b"Connection", b"Cookie"]), values).map(b":".join)
cuts = st.lists(st.integers(0, 600), max_size=12)


@st.composite
def chunked_bodies(draw: st.DrawFn) -> bytes:
    chunks = draw(st.lists(st.tuples(st.binary(min_size=1, max_size=20), st.sampled_from([b"", b";a=b"])), max_size=3))
    trailers = draw(st.lists(st.tuples(st.sampled_from([b"X", b"y"]), values).map(b":".join), max_size=2))
    data = b"".join(b"%x%b\r\n%b\r\n" % (len(data), extension, data) for data, extension in chunks)
    return data + b"0\r\n" + b"".join(line + b"\r\n" for line in trailers) + b"\r\n"


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """A request, nearly always a good one."""
    fields = [b"Host: a.test", *draw(st.lists(plain_fields, max_size=3))]
    body = b""
    match draw(st.sampled_from(["none", "sized", "chunked"])):
        case "sized":
            body = draw(st.binary(max_size=40))
            fields.append(b"Content-Length: %d" % len(body))
        case "chunked":
            body = draw(chunked_bodies())
            fields.append(b"Transfer-Encoding: chunked")
    version = draw(st.sampled_from([b"1.1", b"1.1", b"1.0"]))
    head = [b"%b %b HTTP/%b" % (draw(methods), draw(targets), version), *draw(st.permutations(fields))]
    return draw(st.sampled_from([b"", b"", b"\r\n"])) + b"\r\n".join(head) + b"\r\n\r\n" + body


SNIPPETS = [b"\r", b"\n", b"\r\n", b"\r\n\r\n", b" ", b"\t", b":", b",", b";", b"0", b"\x00", b"\xff", b"chunked"]
SNIPPETS += [b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n", b"Host: b\r\n", b"HTTP/1.1", HTTP2_PREFACE]


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    """Some requests, with some faults."""
    data = b"".join(draw(st.lists(requests(), min_size=1, max_size=3)))
    for _ in range(draw(st.integers(0, 2))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.integers(0, 3)))
        data = data[:start] + draw(st.sampled_from([b"", *SNIPPETS])) + data[end:]
    return data


def cut_up(data: bytes, positions: list[int]) -> list[bytes]:
    ends = [*sorted(position % (len(data) + 1) for position in positions), len(data)]
    return [data[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def verdict(pieces: list[bytes]) -> tuple[list[Event], tuple[int, str] | None]:
    events, fault = collect(*pieces, max_head_bytes=LIMIT_BYTES)
    return events, None if fault is None else (fault.status.value, fault.detail)


@given(streams(), cuts)
@example(b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", [2])
@example(b"GET / HTTP/3.0\r\nHost: a\n\r\n\r\n", [24])
@example(b"GET /" + b"a" * LIMIT_BYTES + b"\n", [LIMIT_BYTES])
@settings(max_examples=300)
def test_however_a_stream_is_cut_it_is_read_and_refused_in_the_same_way(data: bytes, positions: list[int]) -> None:
    whole = verdict([data])
    assert verdict(cut_up(data, positions)) == whole
    assert verdict([data[index : index + 1] for index in range(len(data))]) == whole


@given(st.lists(st.one_of(st.binary(max_size=30), st.sampled_from([*SNIPPETS, b"GET ", b"GET / HTTP/1.1\r\n"]))))
def test_any_bytes_are_read_or_refused_and_come_to_an_end(pieces: list[bytes]) -> None:
    parser = RequestParser(max_head_bytes=LIMIT_BYTES)
    size_bytes = 0
    try:
        for piece in pieces:
            size_bytes += len(piece)
            parser.feed(piece)
            for _ in range(2 * size_bytes + 2):
                event = parser.next_event()
                if isinstance(event, EndOfRequest):
                    parser.start_next()
                if event is None:
                    break
            else:
                raise AssertionError("the events do not come to an end")
    except BadRequestError:
        assert parser.next_event() is None
    assert parser.buffered_bytes <= size_bytes


def next_of_h11(reader: h11.Connection) -> object:
    try:
        return reader.next_event()
    except h11.RemoteProtocolError as error:
        # An empty line before a request (RFC 9112 section 2.2) is the one thing that h11 is stricter about.
        assume(str(error) != "no request line received")
        raise


@given(streams())
@settings(max_examples=300)
def test_what_is_accepted_h11_reads_in_the_same_way(data: bytes) -> None:
    events, _ = collect(data)
    assume(events and isinstance(events[0], Request))
    reader = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_BYTES)
    reader.receive_data(data)
    is_over = False
    while events and not is_over:
        head = events.pop(0)
        assert isinstance(head, Request)
        request = next_of_h11(reader)
        assert isinstance(request, h11.Request)
        assert (request.method.decode(), request.target.removeprefix(b"http://a.test")) == (head.method, head.target)
        # An absolute target takes the place of the host that was given.
        assert [field for field in head.fields if field[0] != b"host"] == [
            field for field in request.headers if field[0] != b"host"
        ]
        body = b""
        if events and isinstance(events[0], BodyPart):
            body = events[0].data
            del events[0]
        if not events:
            return  # the rest of this body is missing or at fault
        assert isinstance(events.pop(0), EndOfRequest)
        read = b""
        while isinstance(event := next_of_h11(reader), h11.Data):
            read += event.data
        assert isinstance(event, h11.EndOfMessage)
        assert read == body
        is_over = reader.their_state is not h11.DONE
        assert is_over or head.keeps_alive
        if not is_over:
            reader.send(h11.Response(status_code=204, headers=[]))
            reader.send(h11.EndOfMessage())
            reader.start_next_cycle()
