"""How far an answer is, told from every sequence of messages up to a length, against the specification's states."""

from __future__ import annotations

from itertools import product

import pytest

from sage_edge.core.exchange import Message, ResponseProgress, UnexpectedMessageError

# Each table: state, then message, then the next state; what is not named is refused.
START: Message = {"type": "http.response.start", "status": 200}
START_TRAILERS: Message = {**START, "trailers": True}
PART, LAST = {"type": "http.response.body", "more_body": True}, {"type": "http.response.body"}
TRAILER, LAST_TRAILER = {"type": "http.response.trailers", "more_trailers": True}, {"type": "http.response.trailers"}
HTTP = {"start": START, "start+": START_TRAILERS, "part": PART, "last": LAST, "trailer": TRAILER, "end": LAST_TRAILER}
HTTP_STATES = {
    "new": {"start": "body", "start+": "body, trailers"},
    "body": {"part": "body", "last": "complete"},
    "body, trailers": {"part": "body, trailers", "last": "trailers"},
    "trailers": {"trailer": "trailers", "end": "complete"},
    "complete": {},
}

ACCEPT, SEND, CLOSE = {"type": "websocket.accept"}, {"type": "websocket.send"}, {"type": "websocket.close"}
DENY = {"type": "websocket.http.response.start", "status": 403}
DENY_PART = {"type": "websocket.http.response.body", "more_body": True}
DENY_LAST = {"type": "websocket.http.response.body"}
WEBSOCKET = {"accept": ACCEPT, "send": SEND, "close": CLOSE, "deny": DENY, "part": DENY_PART, "last": DENY_LAST}
WEBSOCKET_STATES = {
    "new": {"accept": "open", "close": "complete", "deny": "denial"},
    "open": {"send": "open", "close": "complete"},
    "denial": {"part": "denial", "last": "complete"},
    "complete": {},
}


def walk(sequence: tuple[str, ...], messages: dict[str, Message], states: dict[str, dict[str, str]]) -> None:
    progress, state = ResponseProgress(), "new"
    for name in sequence:
        if name in states[state]:
            progress.note(messages[name])
            state = states[state][name]
        else:
            with pytest.raises(UnexpectedMessageError, match=f"{messages[name]['type']} was sent, but"):
                progress.note(messages[name])
        assert progress.has_started == (state != "new"), sequence
        assert progress.is_complete == (state == "complete"), sequence


def test_every_sequence_of_http_messages() -> None:
    for sequence in product(HTTP, repeat=5):
        walk(sequence, HTTP, HTTP_STATES)


@pytest.mark.parametrize("names", [("accept", "send", "close"), ("deny", "part", "last")], ids="-".join)
def test_every_sequence_of_websocket_messages(names: tuple[str, ...]) -> None:
    for sequence in product(names, repeat=5):
        walk(sequence, WEBSOCKET, WEBSOCKET_STATES)


@pytest.mark.parametrize(
    "sequence", [("accept", "part"), ("accept", "last"), ("close", "part"), ("deny", "send")], ids="-".join
)
def test_a_websocket_is_either_accepted_or_denied(sequence: tuple[str, ...]) -> None:
    walk(sequence, WEBSOCKET, WEBSOCKET_STATES)


@pytest.mark.parametrize("kind", ["http.response.push", "http.response.debug", "lifespan.startup.complete"])
def test_messages_of_other_types_change_nothing(kind: str) -> None:
    progress = ResponseProgress()
    for message in (None, START, LAST):
        if message is not None:
            progress.note(message)
        before = (progress.has_started, progress.is_complete)
        progress.note({"type": kind})
        assert (progress.has_started, progress.is_complete) == before


def test_an_answer_of_announced_length_is_delivered_with_its_last_byte() -> None:
    progress = ResponseProgress()
    progress.note({**START, "headers": [(b"Content-Length", b"5")]})
    assert not progress.is_delivered
    progress.note({"type": "http.response.body", "body": b"he", "more_body": True})
    assert not progress.is_delivered
    progress.note({"type": "http.response.body", "body": b"llo", "more_body": True})
    assert progress.is_delivered
    assert not progress.is_complete
    progress.note({"type": "http.response.body"})
    assert progress.is_complete


@pytest.mark.parametrize("headers", [[], [(b"content-type", b"0")]])
def test_an_answer_of_unknown_length_is_delivered_when_it_is_complete(headers: list[tuple[bytes, bytes]]) -> None:
    progress = ResponseProgress()
    progress.note({**START, "headers": headers})
    progress.note({"type": "http.response.body", "body": b"all", "more_body": True})
    assert not progress.is_delivered


def test_what_is_missing_of_an_announced_length_is_known() -> None:
    progress = ResponseProgress()
    assert progress.missing_bytes == 0, "nothing is announced"
    progress.note({**START, "headers": [(b"content-length", b"5")]})
    assert progress.missing_bytes == 5
    progress.note({"type": "http.response.body", "body": b"hell", "more_body": True})
    assert progress.missing_bytes == 1
    progress.note({"type": "http.response.body", "body": b"o, world"})
    assert progress.missing_bytes == -7
    assert progress.is_complete


def test_nothing_is_missing_of_an_answer_of_unknown_length() -> None:
    progress = ResponseProgress()
    for message in (START, PART, LAST):
        progress.note(message)
        assert progress.missing_bytes == 0


def test_trailers_that_are_expected_are_a_part_of_what_is_delivered() -> None:
    progress = ResponseProgress()
    progress.note({**START_TRAILERS, "headers": [(b"content-length", b"0")]})
    progress.note(LAST)
    assert not progress.is_delivered
    progress.note(LAST_TRAILER)
    assert progress.is_delivered


@pytest.mark.parametrize(("status", "is_head"), [(204, False), (205, False), (304, False), (200, True)])
def test_an_answer_without_a_body_is_delivered_with_its_head(status: int, is_head: bool) -> None:
    progress = ResponseProgress(is_head=is_head)
    assert not progress.is_delivered
    progress.note({**START, "status": status, "headers": [(b"content-length", b"5")]})
    assert progress.is_bodiless
    assert progress.is_delivered
    progress.note(PART)
    assert not progress.is_complete, "its application goes on"


@pytest.mark.parametrize("status", [None, "many"])
def test_an_answer_does_not_start_with_what_is_no_status(status: object) -> None:
    progress = ResponseProgress()
    with pytest.raises((TypeError, ValueError)):
        progress.note({**START, "status": status, "headers": [(b"content-length", b"0")]})
    assert not progress.has_started
    assert not progress.is_delivered


@pytest.mark.parametrize("first", HTTP_STATES["new"])
def test_an_answer_whose_start_could_not_be_sent_may_be_any_other(first: str) -> None:
    for sequence in product(HTTP, repeat=4):
        progress, fresh = ResponseProgress(), ResponseProgress()
        progress.note({**HTTP[first], "headers": [(b"content-length", b"0")]})
        progress.unstart()
        assert not progress.has_started
        assert not progress.is_delivered
        assert_alike(progress, fresh, [HTTP[name] for name in sequence])


@pytest.mark.parametrize("first", ["accept", "deny"])
def test_a_websocket_whose_start_could_not_be_sent_may_be_begun_anew(first: str) -> None:
    for sequence in product(WEBSOCKET, repeat=4):
        progress, fresh = ResponseProgress(), ResponseProgress()
        progress.note({**WEBSOCKET[first], "headers": [(b"content-length", b"0")]})
        progress.unstart()
        assert not progress.has_started
        assert not progress.is_delivered
        assert_alike(progress, fresh, [WEBSOCKET[name] for name in sequence])


def assert_alike(progress: ResponseProgress, fresh: ResponseProgress, messages: list[Message]) -> None:
    for message in messages:
        outcomes = []
        for each in (progress, fresh):
            try:
                each.note(message)
                outcomes.append("")
            except UnexpectedMessageError as error:
                outcomes.append(str(error))
        assert outcomes[0] == outcomes[1], messages
        assert progress.is_complete == fresh.is_complete, messages
        assert progress.is_delivered == fresh.is_delivered, messages
