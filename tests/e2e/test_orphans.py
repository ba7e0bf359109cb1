"""Workers whose supervisor was killed leave the address to an edge that is started in its place, whatever they do."""

from __future__ import annotations

import signal
import socket
from pathlib import Path

import pytest

from tests.kit.edge import Edge, running_edge
from tests.kit.eventually import eventually

GATEWAY = """
import pathlib, time

def hang(path):
    pathlib.Path(path).touch()
    while pathlib.Path("hang").exists():
        time.sleep(0.1)

hang("imported")

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        return
    hang("asked")
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"served"})
"""


@pytest.fixture
def gateway(tmp_path: Path) -> Path:
    (tmp_path / "hanging.py").write_text(GATEWAY)
    return tmp_path


def serve_in_the_place_of(edge: Edge, gateway: Path) -> str:
    """What another edge answers at the address of one whose supervisor was killed, once its workers have ended."""
    edge.log.wait_for_end()
    (gateway / "hang").unlink()
    binds = ("--host", "127.0.0.1", "--port", str(edge.port))
    with running_edge("--gateway", "hanging:app", cwd=gateway, binds=binds) as other, other.client() as client:
        return client.get("/").text


def test_a_worker_that_imports_its_gateway_ends_with_its_supervisor(gateway: Path) -> None:
    with running_edge("--gateway", "hanging:app", "--workers", "1", cwd=gateway) as edge:
        (gateway / "hang").touch()
        (gateway / "imported").unlink()
        edge.process.send_signal(signal.SIGUSR2)
        assert eventually((gateway / "imported").exists)
        edge.process.kill()
        assert serve_in_the_place_of(edge, gateway) == "served"
        edge.log.wait_for(r"the supervisor is gone: ending at once .*worker=1")


def test_a_worker_whose_loop_hangs_ends_with_its_supervisor(gateway: Path) -> None:
    options = ("--gateway", "hanging:app", "--gateway-loop", "trio", "--workers", "1")
    with (
        running_edge(*options, cwd=gateway) as edge,
        socket.create_connection(("127.0.0.1", edge.port)) as client,
    ):
        (gateway / "hang").touch()
        client.sendall(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
        assert eventually((gateway / "asked").exists)
        edge.process.kill()
        assert serve_in_the_place_of(edge, gateway) == "served"
        edge.log.wait_for(r"the supervisor is gone: ending at once .*worker=1")
