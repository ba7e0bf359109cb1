"""The layers together, in their order."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

import pytest

from sage_edge.app.asgi import ASGIApplication, Receive, Scope, Send, find_header
from sage_edge.app.dispatch import GuardedDispatcher
from sage_edge.app.lifespan import Mount
from sage_edge.app.native import NativeApplication
from sage_edge.app.stack import build_stack
from sage_edge.core.metric_families import Metrics
from sage_edge.core.readiness import Phase, Readiness
from sage_edge.core.settings import Settings
from tests.app.applications import answer
from tests.kit.asgi_calls import Server, http_scope, lifespan_scope
from tests.kit.exchange import RecordingExchange


async def raise_error(scope: Scope, receive: Receive, send: Send) -> None:
    raise ValueError("on purpose")


def build(gateway: Any, **settings: Any) -> ASGIApplication:
    readiness = Readiness(llm_prefix="/", is_llm_mounted=True)
    readiness.advance(Phase.READY)
    health, mount = [
        Mount("", name, NativeApplication(application))
        for name, application in (("health", answer), ("gateway", gateway))
    ]
    dispatcher = GuardedDispatcher(health, [mount], readiness, startup_seconds=1.0)
    return build_stack(dispatcher, Settings(**settings), Metrics())


async def call(gateway: Any, scope: Scope, **settings: Any) -> RecordingExchange:
    exchange = RecordingExchange(scope=scope)
    await exchange.run(build(gateway, **settings))
    return exchange


@pytest.mark.parametrize("has_access_log", [True, False])
async def test_the_access_log_can_be_left_out(has_access_log: bool, logs: list[MutableMapping[str, Any]]) -> None:
    exchange = await call(answer, http_scope(), access_log=has_access_log)
    assert exchange.body == b"answer"
    assert [entry["event"] for entry in logs] == ["request"] * has_access_log


async def test_the_access_log_sees_the_answers_of_the_layers_below(logs: list[MutableMapping[str, Any]]) -> None:
    assert (await call(raise_error, http_scope())).status == 500
    assert (await call(answer, http_scope("/%00"))).status == 400
    requests = [entry for entry in logs if entry["event"] == "request"]
    assert [(entry["status"], entry["ending"]) for entry in requests] == [(500, "complete"), (400, "complete")]


async def test_a_lifespan_passes_through_every_layer() -> None:
    server = Server({"type": "lifespan.startup"}, {"type": "lifespan.shutdown"})
    await build(answer)(lifespan_scope(), server.receive, server.send)
    assert server.types[0] == "lifespan.startup.complete"


def test_headers_are_found_by_their_lower_case_name() -> None:
    scope = http_scope(headers=[(b"Host", b"first"), (b"host", b"second")])
    assert find_header(scope, b"host") == b"first"
    assert find_header(scope, b"accept") is None
