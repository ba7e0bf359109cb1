"""Health of a running edge: what it says, and that it answers whatever the gateway does."""

from __future__ import annotations

import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.edge import Edge, running_edge

SEED_BODY = {"status": "ok", "service": "SAGE Edge", "llm_mounted": True, "llm_prefix": "/llm"}


@pytest.fixture(scope="module")
def blocking_edge(certificates: Path) -> Iterator[Edge]:
    with running_edge(
        "--gateway", "tests.kit.gateways.plain:app", "--llm-prefix", "/llm", certificates=certificates
    ) as edge:
        yield edge


def poll(edge: Edge, path: str, until: str, seconds: float) -> float:
    """Ask until a status is reported; the longest time one answer took.

    Raises:
        AssertionError: it was not reported in time.
    """
    slowest = 0.0
    started = time.monotonic()
    with edge.client() as client:
        while time.monotonic() - started < seconds:
            asked = time.monotonic()
            status = client.get(path).json()["status"]
            slowest = max(slowest, time.monotonic() - asked)
            if status == until:
                return slowest
    raise AssertionError(f"{path} never said {until!r} within {seconds} seconds")


def test_health_answers_while_the_gateway_blocks_its_loop(blocking_edge: Edge) -> None:
    def block() -> None:
        with blocking_edge.client() as client:
            client.get("/llm/block")

    blocker = threading.Thread(target=block)
    blocker.start()
    # Polled all the while: an answer that waited for the gateway would take up to its two seconds.
    assert poll(blocking_edge, "/readyz", "degraded", 2) < 1
    assert poll(blocking_edge, "/healthz", "ok", 2) < 1
    blocker.join()
    poll(blocking_edge, "/readyz", "ready", 5)


def test_readiness_names_its_checks(blocking_edge: Edge) -> None:
    with blocking_edge.client() as client:
        response = client.get("/readyz")

    body = response.json()
    checks = body.pop("checks")
    assert body == {**SEED_BODY, "status": "ready"}
    assert set(checks) == {"started", "accepting", "certificate", "gateway_responsive"}
    assert all(check["ok"] for check in checks.values())
    assert checks["certificate"]["days_left"] > 80
    assert checks["gateway_responsive"]["lag_seconds"] < 0.5


@pytest.mark.parametrize("http2", [True, False])
@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/"])
def test_head_has_the_headers_of_get_and_no_body(blocking_edge: Edge, path: str, http2: bool) -> None:
    with blocking_edge.client(http2=http2) as client:
        got, head = client.get(path), client.head(path)

    assert head.status_code == got.status_code == 200
    assert head.content == b""
    assert head.headers["content-type"] == got.headers["content-type"]
    if path == "/healthz":
        assert head.headers["content-length"] == str(len(got.content))


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/"])
def test_other_methods_are_told_which_are_allowed(blocking_edge: Edge, path: str, method: str) -> None:
    with blocking_edge.client() as client:
        response = client.request(method, path)

    assert response.status_code == 405
    assert response.headers["allow"] == "GET, HEAD"
    assert response.json()["error"]["code"] == 405


@pytest.mark.parametrize("flag", ["--http2", "--http1.1"])
def test_curl_gets_health_over_tls(blocking_edge: Edge, flag: str) -> None:
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("curl is not installed")
    for path in ("/healthz", "/readyz", "/llm/v1/models"):
        command = [
            curl,
            "--silent",
            "--fail",
            flag,
            "--cacert",
            str(blocking_edge.ca),
            "-w",
            "%{http_version} %{http_code}",
        ]
        result = subprocess.run(
            [*command, blocking_edge.url + path], capture_output=True, text=True, check=True, timeout=30
        )
        assert result.stdout.endswith("2 200" if flag == "--http2" else "1.1 200")
        if path == "/healthz":
            assert '{"status":"ok","service":"SAGE Edge","llm_mounted":true,"llm_prefix":"/llm"}' in result.stdout


def test_the_gateway_is_not_served_before_it_has_started(tmp_path: Path) -> None:
    (tmp_path / "late.py").write_text(
        "import asyncio, pathlib\n"
        "async def app(scope, receive, send):\n"
        "    if scope['type'] == 'lifespan':\n"
        "        await receive()\n"
        "        while not pathlib.Path('go').exists():\n"
        "            await asyncio.sleep(0.01)\n"
        "        await send({'type': 'lifespan.startup.complete'})\n"
        "        await receive()\n"
        "        await send({'type': 'lifespan.shutdown.complete'})\n"
        "    else:\n"
        "        await send({'type': 'http.response.start', 'status': 200, 'headers': []})\n"
        "        await send({'type': 'http.response.body', 'body': b'served'})\n"
    )
    with (
        running_edge("--gateway", "late:app", cwd=tmp_path, wait_for_ready=False) as edge,
        edge.client() as client,
    ):
        assert client.get("/healthz").status_code == 200
        readiness = client.get("/readyz")
        assert (readiness.status_code, readiness.json()["status"]) == (503, "starting")
        early = client.get("/v1/models")
        assert (early.status_code, early.headers["retry-after"]) == (503, "1")

        (tmp_path / "go").touch()
        edge.log.wait_for(r"\[info\] ready")
        assert client.get("/readyz").json()["status"] == "ready"
        assert client.get("/v1/models").text == "served"
