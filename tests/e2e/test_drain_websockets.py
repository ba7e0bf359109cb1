"""A drain and open WebSockets: they go on until its limit, and are then told that the server ends."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.e2e.test_mount_lifespan import PROTOCOLS
from tests.kit.edge import WAIT_SECONDS, running_edge
from tests.kit.websocket import Close, websocket

GOING_AWAY = Close(1001)
GATEWAY = """
from {library} import sleep

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        return
    await receive()
    await send({{"type": "websocket.accept"}})
    while (message := await receive())["type"] == "websocket.receive":
        await sleep(0)
        await send({{"type": "websocket.send", "text": message["text"]}})
    if scope["path"] == "/slow":
        await sleep(60)
"""

libraries = pytest.mark.parametrize("library", ["asyncio", "trio"])
protocols = pytest.mark.parametrize("protocol", PROTOCOLS)


@libraries
@protocols
@pytest.mark.parametrize("path", ["/", "/slow"])
def test_a_websocket_goes_on_and_is_told_at_the_limit(
    library: str, protocol: str, path: str, certificates: Path, tmp_path: Path
) -> None:
    (tmp_path / "talking.py").write_text(GATEWAY.format(library=library))
    options = ("--gateway", "talking:app", "--gateway-loop", library, "--drain-seconds", "1")
    with running_edge(*options, certificates=certificates, cwd=tmp_path) as edge:
        with websocket(edge, protocol, path) as talk:
            edge.process.send_signal(signal.SIGTERM)
            edge.log.wait_for("draining")
            talk.send("still here")
            assert talk.receive() == "still here"
            assert talk.receive() == GOING_AWAY
        assert edge.process.wait(WAIT_SECONDS) == 0
        assert "ending=drained" in edge.log.text
        assert "[error]" not in edge.log.text


@protocols
def test_a_second_signal_tells_it_at_once(protocol: str, certificates: Path, tmp_path: Path) -> None:
    (tmp_path / "talking.py").write_text(GATEWAY.format(library="asyncio"))
    with running_edge("--gateway", "talking:app", certificates=certificates, cwd=tmp_path) as edge:
        with websocket(edge, protocol, "/") as talk:
            for _ in range(2):
                edge.process.send_signal(signal.SIGTERM)
                edge.log.wait_for("draining")
            assert talk.receive() == GOING_AWAY
        assert edge.process.wait(WAIT_SECONDS) == 0
