"""Requests and WebSockets go where routing says, each mount with a state and a path of its own."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from sage_edge.app.asgi import ASGIApplication, Receive, Scope, Send
from sage_edge.app.dispatch import GuardedDispatcher
from sage_edge.app.exchange import EXCHANGE
from sage_edge.app.lifespan import Mount
from sage_edge.core.readiness import Phase, Readiness
from tests.app.applications import answer
from tests.kit.asgi_calls import Server, http_scope, request, websocket_scope
from tests.kit.exchange import RecordingExchange


class Recorder:
    """An application that answers and keeps the scopes of its calls."""

    def __init__(self) -> None:
        self.scopes: list[Scope] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scopes.append(scope)
        await answer(scope, receive, send)


def build(*mounts: Mount, health: ASGIApplication = answer, phase: Phase = Phase.READY) -> GuardedDispatcher:
    readiness = Readiness(llm_prefix="/", is_llm_mounted=True)
    readiness.advance(phase)
    return GuardedDispatcher(Mount("", "health", health), mounts, readiness, startup_seconds=5.0)


async def call(dispatcher: GuardedDispatcher, scope: Scope) -> Server:
    server = Server()
    await dispatcher(scope, server.receive, server.send)
    return server


async def test_the_longest_prefix_answers() -> None:
    root, outer, inner = Recorder(), Recorder(), Recorder()
    dispatcher = build(Mount("/a", "a", outer), Mount("", "root", root), Mount("/a/b", "b", inner))
    for path in ("/x", "/a/x", "/a/b/x", "/ab"):
        await call(dispatcher, http_scope(path))
    assert [scope["path"] for scope in root.scopes] == ["/x", "/ab"]
    assert [scope["path"] for scope in outer.scopes] == ["/a/x"]
    assert [scope["path"] for scope in inner.scopes] == ["/a/b/x"]


async def test_a_mount_is_told_its_prefix_and_given_the_whole_path() -> None:
    gateway = Recorder()
    dispatcher = build(Mount("/llm", "gateway", gateway))
    await call(dispatcher, http_scope("/llm/models/a/b", raw_path=b"/llm/models/a%2Fb", root_path="/outer"))
    scope = gateway.scopes[0]
    assert (scope["root_path"], scope["path"], scope["raw_path"]) == (
        "/outer/llm",
        "/llm/models/a/b",
        b"/llm/models/a%2Fb",
    )


async def test_a_missing_root_path_is_an_empty_one() -> None:
    gateway = Recorder()
    scope = http_scope("/llm")
    del scope["root_path"]
    await call(build(Mount("/llm", "gateway", gateway)), scope)
    assert gateway.scopes[0]["root_path"] == "/llm"


async def test_the_rest_of_the_scope_reaches_a_mount_as_it_is() -> None:
    gateway = Recorder()
    scope = RecordingExchange(scope=http_scope("/llm/x")).scope
    await call(build(Mount("/llm", "gateway", gateway)), scope)
    assert gateway.scopes[0] == {**scope, "root_path": "/llm"}
    assert gateway.scopes[0][EXCHANGE] is scope[EXCHANGE]
    assert gateway.scopes[0]["asgi"] == {"version": "3.0", "spec_version": "2.4"}
    assert scope["root_path"] == "", "the server's own scope is left alone"


async def test_states_are_kept_apart_and_copied_for_each_request() -> None:
    first, second = Recorder(), Recorder()
    shared = object()
    dispatcher = build(
        Mount("/a", "a", first, state={"name": "a", "shared": shared}), Mount("/b", "b", second, state={"name": "b"})
    )
    await call(dispatcher, http_scope("/a"))
    first.scopes[0]["state"]["name"] = "changed by a request"
    for path in ("/a", "/b"):
        await call(dispatcher, http_scope(path))
    assert first.scopes[1]["state"] == {"name": "a", "shared": shared}
    assert first.scopes[1]["state"]["shared"] is shared, "the copy is shallow, as the specification says"
    assert second.scopes[0]["state"] == {"name": "b"}


async def test_health_and_landing_go_to_the_health_application_while_the_edge_starts() -> None:
    health = Recorder()
    dispatcher = build(Mount("/llm", "gateway", answer), health=health, phase=Phase.STARTING)
    for path in ("/healthz", "/readyz", "/"):
        await call(dispatcher, http_scope(path))
    assert [scope["path"] for scope in health.scopes] == ["/healthz", "/readyz", "/"]


async def test_mounts_answer_503_while_the_edge_starts() -> None:
    gateway = Recorder()
    server = await call(build(Mount("", "gateway", gateway), phase=Phase.STARTING), http_scope("/v1/models"))
    assert server.status == 503
    assert server.headers["retry-after"] == "1"
    assert server.json == {"error": {"message": "The gateway is starting.", "type": "service_unavailable", "code": 503}}
    assert gateway.scopes == []


@pytest.mark.parametrize("phase", [Phase.READY, Phase.DRAINING])
async def test_mounts_are_served_once_the_edge_has_started(phase: Phase) -> None:
    assert (await call(build(Mount("", "gateway", answer), phase=phase), http_scope())).body == b"answer"


REFUSALS: Sequence[tuple[Scope, int, str]] = [
    (http_scope("/nothing"), 404, "not_found"),
    (http_scope("/llm/../x"), 400, "bad_request"),
    (http_scope("/healthz", method="POST"), 405, "method_not_allowed"),
    (http_scope("/llm", method="TRACE"), 405, "method_not_allowed"),
]


@pytest.mark.parametrize(("scope", "status", "kind"), REFUSALS)
async def test_refusals_are_json_that_is_not_cached(scope: Scope, status: int, kind: str) -> None:
    server = await call(build(Mount("/llm", "gateway", answer)), scope)
    assert server.status == status
    assert server.json["error"]["type"] == kind
    assert server.json["error"]["code"] == status
    assert server.json["error"]["message"].endswith(".")
    assert server.headers["content-type"] == "application/json"
    assert server.headers["content-length"] == str(len(server.body))
    assert server.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("scope", "allow"),
    [
        (http_scope("/healthz", method="POST"), "GET, HEAD"),
        (http_scope("/llm", method="TRACE"), "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"),
        (http_scope("/nothing"), None),
    ],
)
async def test_405_says_which_methods_are_allowed(scope: Scope, allow: str | None) -> None:
    server = await call(build(Mount("/llm", "gateway", answer)), scope)
    assert server.headers.get("allow") == allow


@pytest.mark.parametrize(
    ("scope", "mount"),
    [
        (http_scope("/healthz"), "health"),
        (http_scope("/healthz", method="POST"), "health"),
        (http_scope("/", method="DELETE"), "health"),
        (websocket_scope("/readyz"), "health"),
        (http_scope("/llm"), "/llm"),
        (http_scope("/llm", method="TRACE"), "none"),
        (http_scope("/nothing"), "none"),
    ],
)
async def test_logs_and_metrics_are_told_whose_a_request_was(scope: Scope, mount: str) -> None:
    exchange = RecordingExchange(request(), scope=scope)
    await exchange.run(build(Mount("/llm", "gateway", answer)))
    assert exchange.mount == mount


async def test_a_websocket_reaches_its_mount() -> None:
    gateway = Recorder()
    await call(build(Mount("/llm", "gateway", gateway)), websocket_scope("/llm/live"))
    assert gateway.scopes[0]["root_path"] == "/llm"


WEBSOCKET_REFUSALS = [
    ("/nothing", Phase.READY, 404),
    ("/healthz", Phase.READY, 404),
    ("/", Phase.READY, 404),
    ("/llm/%00", Phase.READY, 400),
    ("/llm/live", Phase.STARTING, 503),
]


@pytest.mark.parametrize(("path", "phase", "status"), WEBSOCKET_REFUSALS)
async def test_a_refused_websocket_is_closed_before_it_is_accepted(path: str, phase: Phase, status: int) -> None:
    dispatcher = build(Mount("/llm", "gateway", answer), phase=phase)
    server = await call(dispatcher, websocket_scope(path))
    assert server.sent == [{"type": "websocket.close", "code": 1008}]


@pytest.mark.parametrize(("path", "phase", "status"), WEBSOCKET_REFUSALS)
async def test_a_refused_websocket_is_told_why_where_the_server_can(path: str, phase: Phase, status: int) -> None:
    dispatcher = build(Mount("/llm", "gateway", answer), phase=phase)
    server = await call(dispatcher, websocket_scope(path, extensions={"websocket.http.response": {}}))
    assert server.types == ["websocket.http.response.start", "websocket.http.response.body"]
    assert server.status == status
    assert server.json["error"]["code"] == status
