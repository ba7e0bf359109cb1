"""The real SAGE gateway behind the edge answers as it does alone."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.kit.edge import WAIT_SECONDS, Edge, Output, clean_environment, running_edge

pytest.importorskip("sagellm_gateway", reason="the SAGE gateway is published for Python 3.11 only")

VARIABLE = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"  # identifiers
    r"|\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?"  # moments
    r"|\b\d{10}(\.\d+)?\b"  # and as seconds
)


@pytest.fixture(scope="module")
def edge(certificates: Path) -> Iterator[Edge]:
    with running_edge("--llm-prefix", "/llm", certificates=certificates) as edge:
        yield edge


@contextmanager
def gateway_alone() -> Iterator[str]:
    """The gateway under uvicorn; its base URL."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        sock.set_inheritable(True)
        process = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", "sagellm_gateway.server:app", "--fd", str(sock.fileno())],
            env=clean_environment(),
            pass_fds=[sock.fileno()],
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stderr is not None
        with process.stderr:
            log = Output(process.stderr)
            try:
                log.wait_for("Application startup complete")
                yield f"http://127.0.0.1:{sock.getsockname()[1]}"
            finally:
                process.terminate()
                process.wait(WAIT_SECONDS)
                log.wait_for_end()


def use_everything(client: httpx2.Client, base_url: str) -> list[tuple[str, int, Any]]:
    """Go through sessions, management and router; each request with its status and JSON."""
    answers = []

    def ask(method: str, path: str, json: Any = None) -> Any:
        response = client.request(method, base_url + path, json=json)
        text = VARIABLE.sub("*", response.text)
        answers.append((f"{method} {VARIABLE.sub('*', path)}", response.status_code, text))
        return response.json()

    ask("GET", "/v1/models")
    session = ask("POST", "/sessions", {})["id"]
    ask("GET", "/sessions")
    ask("GET", f"/sessions/{session}")
    ask("PATCH", f"/sessions/{session}/title", {"title": "A title"})
    ask("GET", f"/sessions/{session}")
    ask("POST", f"/sessions/{session}/clear")
    ask("DELETE", f"/sessions/{session}")
    ask("GET", f"/sessions/{session}")
    ask("GET", "/v1/management/engines")
    engine = {
        "engine_id": "e1",
        "model_id": "m",
        "host": "127.0.0.1",
        "port": 9,
        "metadata": {"pre_verified_healthy": True},
    }
    ask("POST", "/v1/management/engines/register", engine)
    ask("POST", "/v1/management/engines/register", engine)
    ask("GET", "/v1/management/engines")
    ask("GET", "/v1/management/engines/e1")
    ask("DELETE", "/v1/management/engines/e1")
    ask("GET", "/v1/router/summary")
    ask("GET", "/v1/router/engines")
    ask("POST", "/v1/chat/completions", {"model": "none", "messages": [{"role": "user", "content": "hi"}]})
    ask("POST", "/v1/chat/completions", {"messages": "not a list"})
    ask("GET", "/v1/nothing")
    return answers


def test_sessions_management_and_router_answer_as_on_the_gateway_alone(edge: Edge) -> None:
    with gateway_alone() as alone_url, httpx2.Client(trust_env=False) as client:
        alone = use_everything(client, alone_url)
    with edge.client() as client:
        mounted = use_everything(client, f"{edge.url}/llm")

    assert [status for _, status, _ in alone].count(200) >= 14
    assert mounted == alone


def test_docs_and_schema_name_the_prefix(edge: Edge) -> None:
    with edge.client() as client:
        docs = client.get("/llm/docs")
        schema = client.get("/llm/openapi.json")

    assert docs.http_version == "HTTP/2"
    assert docs.status_code == 200
    assert "/llm/openapi.json" in docs.text
    assert schema.json()["servers"] == [{"url": "/llm"}]
    assert "/v1/chat/completions" in schema.json()["paths"]


def test_the_gateways_own_state_is_ready(edge: Edge) -> None:
    with edge.client() as client:
        assert client.get("/llm/ready").json()["status"] == "ready"
        assert client.get("/llm/health").json()["status"] == "healthy"


def test_keep_alive_of_the_gateway_is_off_unless_the_user_set_it(tmp_path: Path) -> None:
    (tmp_path / "shows.py").write_text(
        "import os\n"
        "value = os.environ['SAGELLM_SSE_KEEPALIVE'].encode()\n"
        "async def app(scope, receive, send):\n"
        "    assert scope['type'] == 'http'\n"
        "    await send({'type': 'http.response.start', 'status': 200, 'headers': []})\n"
        "    await send({'type': 'http.response.body', 'body': value})\n"
    )
    for env, expected in [({}, "false"), ({"SAGELLM_SSE_KEEPALIVE": "true"}, "true")]:
        with running_edge("--gateway", "shows:app", cwd=tmp_path, env=env) as edge, edge.client() as client:
            assert client.get("/").text == expected
