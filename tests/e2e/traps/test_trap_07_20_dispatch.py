"""Traps 7 and 20: a prefix is whole segments of a path, for whatever asks for it, and a mount's failure is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypercorn.middleware.dispatcher import TrioDispatcherMiddleware

from sage_edge.app.dispatch import GuardedDispatcher
from sage_edge.app.lifespan import Mount
from sage_edge.core.readiness import Phase, Readiness
from tests.e2e.traps.conftest import Launch
from tests.kit.frame_client import frame_client
from tests.kit.raw_http1 import exchange
from tests.kit.stock import IS_STOCK, PREFIX, run_to_its_end

MOUNTED: dict[str, object] = {PREFIX: "/llm"}


def test_what_is_below_the_prefix_is_the_mounts(launch: Launch) -> None:
    with launch(MOUNTED) as server, frame_client(server) as client:
        assert client.get(b"/llm/ok").body == b"ok"


@pytest.mark.parametrize("path", [b"/llmok", b"/llmx", b"/llm-ok/ok", b"/nowhere"])
def test_another_name_that_begins_with_the_prefix_is_not(launch: Launch, path: bytes) -> None:
    with launch(MOUNTED) as server, frame_client(server) as client:
        assert client.get(path).status == 404


def test_a_websocket_that_nobody_serves_is_refused(launch: Launch) -> None:
    head = (
        b"GET /nowhere HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
        b"sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    with launch(MOUNTED, is_tls=False) as server:
        assert exchange(server, head)[0] in {403, 404}


def test_a_mount_that_fails_to_start_ends_the_start_up_with_its_reason(directory: Path) -> None:
    code, text = run_to_its_end(directory, gateway="failing:app", options=MOUNTED)
    assert code not in {0, None}
    assert "no model is there" in text


async def test_a_request_without_the_optional_root_path_is_served() -> None:
    answered: list[str] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        answered.append(scope["root_path"])

    async def nothing(*_: Any) -> Any:
        return None

    dispatcher: Any
    if IS_STOCK:
        dispatcher = TrioDispatcherMiddleware({"/llm": application})
    else:
        readiness = Readiness(llm_prefix="/llm", is_llm_mounted=True)
        readiness.advance(Phase.READY)
        mounts = [Mount("/llm", "gateway", application)]
        dispatcher = GuardedDispatcher(Mount("", "health", application), mounts, readiness, startup_seconds=1.0)
    scope = {"type": "http", "method": "GET", "path": "/llm/ok", "raw_path": b"/llm/ok", "headers": []}
    scope["http_version"] = "2"
    await dispatcher(scope, nothing, nothing)
    assert answered == ["/llm"]
