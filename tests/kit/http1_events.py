"""Bytes in, events out: the request parser as the tests ask it."""

from __future__ import annotations

from sage_edge.server.http1.parser import BadRequestError, BodyPart, EndOfRequest, Event, Request, RequestParser

HEAD_BYTES = 4096
HOST = b"Host: edge.test\r\n"


def collect(*pieces: bytes, max_head_bytes: int = HEAD_BYTES) -> tuple[list[Event], BadRequestError | None]:
    """What a client's bytes are read as, request after request, with the fault at their end.

    The parts of each body are joined.
    """
    parser = RequestParser(max_head_bytes=max_head_bytes)
    events: list[Event] = []
    try:
        for piece in pieces:
            parser.feed(piece)
            while (event := parser.next_event()) is not None:
                last = events[-1] if events else None
                if isinstance(event, BodyPart) and isinstance(last, BodyPart):
                    last.data += event.data
                else:
                    events.append(event)
                if isinstance(event, EndOfRequest):
                    parser.start_next()
    except BadRequestError as error:
        return events, error
    return events, None


def read_request(data: bytes) -> Request:
    """The head of the one request in these bytes, which is read to its end."""
    events, fault = collect(data)
    assert fault is None, fault.detail
    assert isinstance(events[-1], EndOfRequest)
    head = events[0]
    assert isinstance(head, Request)
    return head


def read_body(data: bytes) -> bytes:
    """The body of the one request in these bytes."""
    events, fault = collect(data)
    assert fault is None, fault.detail
    assert [type(event) for event in events] in ([Request, BodyPart, EndOfRequest], [Request, EndOfRequest])
    return b"".join(event.data for event in events if isinstance(event, BodyPart))


def refusal(*pieces: bytes, max_head_bytes: int = HEAD_BYTES) -> tuple[int, str]:
    """The status and detail that these bytes are refused with."""
    _, fault = collect(*pieces, max_head_bytes=max_head_bytes)
    assert fault is not None, "accepted"
    return fault.status.value, fault.detail


def get(*lines: bytes, line: bytes = b"GET / HTTP/1.1", host: bytes = HOST) -> bytes:
    """A request without a body, from its field lines."""
    return line + b"\r\n" + host + b"".join(field + b"\r\n" for field in lines) + b"\r\n"


def post(*lines: bytes, body: bytes) -> bytes:
    """A request with a body, from its field lines."""
    return get(*lines, line=b"POST / HTTP/1.1") + body
