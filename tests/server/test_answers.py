"""What an answer may be, over either protocol: lengths, trailers, bodies; and what becomes of one that may not."""

from __future__ import annotations

from typing import Any

import pytest

from sage_edge.app.exchange import Exchange
from sage_edge.core.exchange import Message
from sage_edge.server.http_exchange import TRAILERS_BYTES, HTTPExchange
from tests.kit.asgi_calls import http_scope
from tests.kit.both_protocols import ask, both_protocols
from tests.kit.carrier import RecordingCarrier
from tests.kit.http2_frames import Field
from tests.kit.protocol_host import NeverEvent, body, respond, start


def send(exchange: Exchange, message: Message) -> None:
    """What an application in the same loop does, which has not to wait."""
    with pytest.raises(StopIteration):
        exchange.send(message).send(None)


def trailers(*fields: Field, more: bool = False) -> Message:
    return {"type": "http.response.trailers", "headers": list(fields), "more_trailers": more}


def lengths_of(fields: list[Field]) -> list[bytes]:
    return [value for name, value in fields if name == b"content-length"]


@both_protocols
@pytest.mark.parametrize("lengths", [[b"abc"], [b"2", b"3"], [b"2", b"2"], [b"+2"], [b"-2"], [b"2, 2"], [b""]])
def test_a_length_that_is_not_one_number_cannot_be_sent(protocol: str, lengths: list[bytes]) -> None:
    asked = ask(protocol)
    with pytest.raises(ValueError, match="content-length is not one number"):
        asked.exchange.write(start(200, *[(b"Content-Length", length) for length in lengths]))
    assert not asked.exchange.progress.has_started
    respond(asked.exchange, b"sorry", status=500)
    outcome = asked.take()
    assert (outcome.status, outcome.body, outcome.is_whole) == (500, b"sorry", True)


@both_protocols
@pytest.mark.parametrize("status", [600, 999])
def test_a_status_that_is_none_cannot_be_sent(protocol: str, status: int) -> None:
    asked = ask(protocol)
    with pytest.raises(ValueError, match="not the status of a final response"):
        asked.exchange.write(start(status))
    assert not asked.exchange.progress.has_started
    respond(asked.exchange, b"sorry", status=500)
    outcome = asked.take()
    assert (outcome.status, outcome.body, outcome.is_whole) == (500, b"sorry", True)


@both_protocols
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("given", [[], [(b"Content-Length", b"5")]])
def test_a_reset_content_has_no_length_but_0(protocol: str, given: list[Field], method: str) -> None:
    asked = ask(protocol, method=method)
    respond(asked.exchange, b"12345", *given, status=205)
    asked.end()
    outcome = asked.take()
    assert (outcome.status, outcome.body, outcome.is_whole) == (205, b"", True)
    assert lengths_of(outcome.fields) == [b"0"]  # RFC 9110 section 15.3.6
    assert asked.exchange.ending == "complete"


@both_protocols
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_no_content_has_no_length(protocol: str, method: str) -> None:
    asked = ask(protocol, method=method)
    respond(asked.exchange, b"12345", (b"Content-Length", b"5"), status=204)
    asked.end()
    outcome = asked.take()
    assert (outcome.status, outcome.body, outcome.is_whole) == (204, b"", True)
    assert lengths_of(outcome.fields) == []  # RFC 9110 section 8.6
    assert asked.exchange.ending == "complete"


@both_protocols
@pytest.mark.parametrize(("status", "method"), [(304, "GET"), (200, "HEAD")])
def test_an_answer_without_a_body_may_say_how_long_another_is(protocol: str, status: int, method: str) -> None:
    asked = ask(protocol, method=method)
    respond(asked.exchange, b"", (b"content-length", b"5"), status=status)
    outcome = asked.take()
    assert (outcome.status, lengths_of(outcome.fields), outcome.is_whole) == (status, [b"5"], True)


@both_protocols
@pytest.mark.parametrize(("status", "method"), [(204, "GET"), (304, "GET"), (200, "HEAD")])
def test_an_answer_without_a_body_is_complete_whatever_its_application_goes_on_with(
    protocol: str, status: int, method: str
) -> None:
    asked = ask(protocol, method=method)
    exchange = asked.exchange
    exchange.write(start(status, (b"content-type", b"text/event-stream")))
    exchange.write(body(b"data: token\n\n", more=True))
    assert exchange.timeline.awaited is None, "no event is to come"
    asked.end()
    assert asked.take().is_whole
    assert exchange.ending == "complete"


@both_protocols
def test_trailers_of_several_messages_are_sent_together(protocol: str) -> None:
    asked = ask(protocol)
    asked.exchange.write(start(trailers=True))
    asked.exchange.write(body(b"ok"))
    asked.exchange.write(trailers((b"a", b"1"), more=True))
    asked.exchange.write(trailers(more=True))
    assert not asked.take().is_whole
    asked.exchange.write(trailers((b"b", b"2"), (b"c", b"3")))
    outcome = asked.take()
    assert (outcome.body, outcome.is_whole) == (b"ok", True)
    assert outcome.trailers == [(b"a", b"1"), (b"b", b"2"), (b"c", b"3")]
    assert asked.exchange.ending == "complete"


@both_protocols
@pytest.mark.parametrize("fields", [[(b"a", bytes(TRAILERS_BYTES // 4))], [(b"", b"")] * 600], ids=["large", "many"])
def test_not_more_than_a_bound_is_kept_of_trailers(protocol: str, fields: list[Field]) -> None:
    asked = ask(protocol)
    asked.exchange.write(start(trailers=True))
    asked.exchange.write(body(b"ok"))
    for _ in range(3):
        asked.exchange.write(trailers(*fields, more=True))
    assert not asked.take().is_cut
    with pytest.raises(ValueError, match="trailers are too large"):
        asked.exchange.write(trailers(*fields, more=True))
    asked.end()
    assert asked.take().is_cut
    assert asked.exchange.ending == "error"


@both_protocols
@pytest.mark.parametrize("data", ["text", [1, 2], None])
@pytest.mark.parametrize("is_begun", [False, True])
@pytest.mark.parametrize("more", [False, True])
def test_a_body_that_is_no_bytes_ends_its_own_answer(protocol: str, data: Any, is_begun: bool, more: bool) -> None:
    asked = ask(protocol)
    send(asked.exchange, start())
    if is_begun:
        send(asked.exchange, body(b"x", more=True))
        asked.take()
    with pytest.raises(TypeError, match="where bytes belong"):
        asked.exchange.send(body(data, more=more)).send(None)
    asked.end()
    outcome = asked.take()
    assert (outcome.body, outcome.is_whole, outcome.is_cut) == (b"x" * is_begun, False, True)
    assert asked.exchange.ending == "error"


@both_protocols
def test_a_view_of_integers_is_framed_by_its_bytes(protocol: str) -> None:
    asked = ask(protocol)
    send(asked.exchange, start())
    send(asked.exchange, body(memoryview(b"abcdefghijkl").cast("I"), more=True))
    send(asked.exchange, body(bytearray(b"m")))
    outcome = asked.take()
    assert (outcome.body, outcome.is_whole) == (b"abcdefghijklm", True)


@both_protocols
def test_headers_that_can_be_gone_through_once_are_sent(protocol: str) -> None:
    asked = ask(protocol)
    send(asked.exchange, {**start(), "headers": iter([(b"content-length", b"2"), (b"x-a", b"1")])})
    send(asked.exchange, body(b"ok"))
    outcome = asked.take()
    assert (outcome.body, outcome.is_whole) == (b"ok", True)
    assert {(b"content-length", b"2"), (b"x-a", b"1")} < set(outcome.fields)


class FailingCarrier(RecordingCarrier):
    """One that a piece of a body is too much for."""

    def write(self, data: bytes, *, is_last: bool) -> None:
        raise RuntimeError("on purpose")


@pytest.mark.parametrize("more", [False, True])
def test_an_answer_whose_carrier_fails_is_cut_though_it_was_complete(more: bool) -> None:
    carrier = FailingCarrier()
    exchange = HTTPExchange(http_scope(), NeverEvent, carrier)
    exchange.write(start())
    with pytest.raises(RuntimeError, match="on purpose"):
        exchange.write(body(b"x", more=more))
    assert carrier.is_aborted
    exchange.end()
    assert exchange.ending == "error"


@both_protocols
def test_a_second_head_ends_the_answer(protocol: str) -> None:
    asked = ask(protocol)
    asked.exchange.write(start())
    asked.exchange.progress.unstart()  # as a fault of the edge's own would
    with pytest.raises(RuntimeError, match="has a head already"):
        asked.exchange.write(start())
    asked.end()
    outcome = asked.take()
    assert (outcome.is_whole, outcome.is_cut) == (False, True)
