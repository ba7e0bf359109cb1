"""WebSockets of mounted applications, over HTTP/1.1 and as streams of HTTP/2 (RFC 8441)."""

from __future__ import annotations

from pathlib import Path

import pytest
from wsproto.events import Pong

from tests.e2e.test_mount_lifespan import MOUNTINGS, PROTOCOLS, Mounted, new_key, share
from tests.kit.gateways.starlette_app import SUBPROTOCOL
from tests.kit.raw_http2 import raw_http2
from tests.kit.websocket import LOST, Close, HTTP2WebSocket, websocket

protocols = pytest.mark.parametrize("protocol", PROTOCOLS)


@pytest.fixture(scope="module", params=MOUNTINGS, ids=str)
def mounted(request: pytest.FixtureRequest, certificates: Path) -> Mounted:
    return share(request.param, request.config, certificates)


@pytest.fixture(scope="module", params=[mounting for mounting in MOUNTINGS if "quart" not in mounting.name], ids=str)
def starlette(request: pytest.FixtureRequest, certificates: Path) -> Mounted:
    """Those that tell a close code; Quart only cancels."""
    return share(request.param, request.config, certificates)


@protocols
def test_text_and_binary_messages_are_echoed_in_order(mounted: Mounted, protocol: str) -> None:
    messages: list[str | bytes] = ["text", b"\x00\xff", "caf\u00e9 \U0001f600", b"x" * 100_000, "y" * 70_000, "end"]

    with websocket(mounted.edge, protocol, mounted.path(f"/talk/{new_key()}")) as talk:
        assert talk.is_open
        echoed = []
        for message in messages:
            talk.send(message)
            echoed.append(talk.receive())

        assert echoed == messages
        assert talk.close() == Close(1000)


@protocols
def test_messages_that_were_sent_at_once_are_all_echoed(mounted: Mounted, protocol: str) -> None:
    messages = [str(number) for number in range(200)]

    with websocket(mounted.edge, protocol, mounted.path(f"/talk/{new_key()}")) as talk:
        for message in messages:
            talk.send(message)

        assert [talk.receive() for _ in messages] == messages


@protocols
def test_a_message_in_fragments_arrives_as_one(mounted: Mounted, protocol: str) -> None:
    with websocket(mounted.edge, protocol, mounted.path(f"/talk/{new_key()}")) as talk:
        talk.send("in several parts", fragment_size=3)

        assert talk.receive() == "in several parts"


@protocols
def test_a_ping_is_answered(mounted: Mounted, protocol: str) -> None:
    with websocket(mounted.edge, protocol, mounted.path(f"/talk/{new_key()}")) as talk:
        talk.ping(b"are you there")

        assert talk.receive() == Pong(b"are you there")


@protocols
def test_the_application_chooses_one_of_the_offered_subprotocols(mounted: Mounted, protocol: str) -> None:
    path = mounted.path(f"/talk/{new_key()}")

    with websocket(mounted.edge, protocol, path, ["chat.v1", SUBPROTOCOL]) as talk:
        assert talk.subprotocol == SUBPROTOCOL
    with websocket(mounted.edge, protocol, path) as talk:
        assert talk.subprotocol is None


@protocols
@pytest.mark.parametrize(("code", "reason"), [(1011, ""), (4001, "own code")])
def test_the_client_sees_the_code_and_reason_of_the_applications_close(
    mounted: Mounted, protocol: str, code: int, reason: str
) -> None:
    with websocket(mounted.edge, protocol, mounted.path(f"/talk/{new_key()}")) as talk:
        talk.send(f"close {code} {reason}")

        assert talk.receive() == Close(code, reason)


@protocols
@pytest.mark.parametrize("code", [1001, 4002])
def test_the_application_sees_the_code_of_the_clients_close(starlette: Mounted, protocol: str, code: int) -> None:
    key = new_key()

    with websocket(starlette.edge, protocol, starlette.path(f"/talk/{key}")) as talk:
        assert talk.close(code, "bye") == Close(code, "bye")

    assert any(note.startswith(f"disconnect {code}") for note in starlette.wait_for(key, "ended"))


@protocols
def test_the_application_is_told_when_its_client_vanishes(mounted: Mounted, protocol: str) -> None:
    key = new_key()

    with websocket(mounted.edge, protocol, mounted.path(f"/talk/{key}")) as talk:
        talk.send("here")
        assert talk.receive() == "here"
        talk.vanish()

    notes = mounted.wait_for(key, "ended")
    assert mounted.is_quart or f"disconnect {LOST}" in notes


@protocols
def test_a_websocket_to_a_path_the_application_does_not_serve_is_refused(mounted: Mounted, protocol: str) -> None:
    with websocket(mounted.edge, protocol, mounted.path("/no-such-talk")) as talk:
        assert talk.status in {403, 404}


@protocols
def test_a_websocket_that_the_application_refuses_gets_403(mounted: Mounted, protocol: str) -> None:
    with websocket(mounted.edge, protocol, mounted.path("/refuse-to-talk")) as talk:
        assert talk.status == 403


@protocols
@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_a_websocket_to_the_edges_own_pages_is_refused_with_404(mounted: Mounted, protocol: str, path: str) -> None:
    with websocket(mounted.edge, protocol, path) as talk:
        assert talk.status == 404
        assert b"No WebSocket is served at this path." in talk.refusal


@protocols
@pytest.mark.parametrize("path", ["/", "/llmx", "//llm"])
def test_a_websocket_outside_the_prefix_is_refused_with_404(mounted: Mounted, protocol: str, path: str) -> None:
    if not mounted.prefix:
        path = "/no-such-talk"
    with websocket(mounted.edge, protocol, path) as talk:
        assert talk.status in ({404} if mounted.prefix else {403, 404})

    with websocket(mounted.edge, protocol, mounted.path(f"/talk/{new_key()}")) as talk:
        assert talk.is_open


def test_websockets_and_requests_share_an_http2_connection(mounted: Mounted) -> None:
    describe = mounted.path("/describe").encode()
    with raw_http2(mounted.edge) as connection:
        connection.wait_until(lambda: connection.connection.remote_settings.enable_connect_protocol == 1)
        first, second = (HTTP2WebSocket(connection, mounted.path(f"/talk/{new_key()}")) for _ in range(2))
        refused = HTTP2WebSocket(connection, mounted.path("/no-such-talk"))
        second.send("second")
        first.send("first")

        assert not refused.is_open
        assert connection.wait_for(connection.request(describe)).status == 200
        assert (first.receive(), second.receive()) == ("first", "second")

        first.vanish()
        second.send("still here")
        assert second.receive() == "still here"
        assert second.close(4003) == Close(4003)
        assert connection.wait_for(connection.request(describe)).status == 200


def test_an_http2_stream_ends_with_its_websocket(mounted: Mounted) -> None:
    with raw_http2(mounted.edge) as connection:
        connection.wait_until(lambda: connection.connection.remote_settings.enable_connect_protocol == 1)
        talk = HTTP2WebSocket(connection, mounted.path(f"/talk/{new_key()}"))
        talk.send("close 1000 done")

        assert talk.receive() == Close(1000, "done")
        connection.wait_until(lambda: connection.responses[1].is_over)
        assert connection.responses[1].is_ended
