"""The demo gateway: SAGE's application answers with the model, and stops it when a client leaves."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import httpx2
import pytest
from starlette.requests import ClientDisconnect

pytest.importorskip("sagellm_gateway", reason="the SAGE gateway is published for Python 3.11 only")
pytest.importorskip("xllamacpp")

from sage_edge.demo.gateway import create
from sage_edge.demo.model import EMBEDDING_MODEL_ID, MODEL_ID
from tests.demo.support import LONG_STORY, WAIT_SECONDS

pytestmark = pytest.mark.demo


class RunningGateway:
    """An ASGI application whose lifespan has started, in one event loop for all its requests."""

    def __init__(self, application: Any, runner: asyncio.Runner) -> None:
        self.application = application
        self.run = runner.run

    def request(self, method: str, path: str, **arguments: Any) -> httpx2.Response:
        async def send() -> httpx2.Response:
            transport = httpx2.ASGITransport(app=self.application)
            async with httpx2.AsyncClient(transport=transport, base_url="http://demo", timeout=WAIT_SECONDS) as client:
                return await client.request(method, path, **arguments)

        return self.run(send())

    def chat(self, **fields: Any) -> httpx2.Response:
        return self.request("POST", "/v1/chat/completions", json={"model": MODEL_ID, "temperature": 0, **fields})


@contextmanager
def running(application: Any) -> Iterator[RunningGateway]:
    """Drive the lifespan as a server does: one task for it, start-up before anything and shutdown after."""
    with asyncio.Runner() as runner:
        to_application: asyncio.Queue[dict[str, str]] = asyncio.Queue()
        from_application: asyncio.Queue[dict[str, str]] = asyncio.Queue()

        async def start() -> asyncio.Task[None]:
            scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}
            task = asyncio.create_task(application(scope, to_application.get, from_application.put))
            await tell("startup")
            return task

        async def stop(task: asyncio.Task[None]) -> None:
            await tell("shutdown")
            await task

        async def tell(phase: str) -> None:
            await to_application.put({"type": f"lifespan.{phase}"})
            async with asyncio.timeout(WAIT_SECONDS):
                assert await from_application.get() == {"type": f"lifespan.{phase}.complete"}

        task = runner.run(start())
        yield RunningGateway(application, runner)
        runner.run(stop(task))


@pytest.fixture(scope="module")
def gateway() -> Iterator[RunningGateway]:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("SAGELLM_SSE_KEEPALIVE", "false")  # as the edge sets it before it loads a gateway
        with running(create()) as gateway:
            yield gateway


def test_both_models_are_listed(gateway: RunningGateway) -> None:
    models = gateway.request("GET", "/v1/models").json()["data"]
    assert [model["id"] for model in models] == [MODEL_ID, EMBEDDING_MODEL_ID]


def test_the_gateway_says_it_is_ready(gateway: RunningGateway) -> None:
    assert gateway.request("GET", "/ready").json()["status"] == "ready"


def test_a_chat_is_answered(gateway: RunningGateway) -> None:
    response = gateway.chat(messages=[{"role": "user", "content": "What is the capital of France?"}], max_tokens=20)
    assert response.status_code == 200
    answer = response.json()
    assert "Paris" in answer["choices"][0]["message"]["content"]
    assert answer["usage"]["completion_tokens"] > 0
    assert answer["usage"]["prompt_tokens"] > 0


def test_a_chat_is_streamed(gateway: RunningGateway) -> None:
    message = {"role": "user", "content": "What is the capital of France?"}
    response = gateway.chat(messages=[message], max_tokens=20, stream=True)
    *events, end = [line.removeprefix("data: ") for line in response.text.splitlines() if line]
    assert end == "[DONE]"
    choices = [choice for event in events for choice in json.loads(event)["choices"]]
    assert "Paris" in "".join(choice["delta"].get("content") or "" for choice in choices)
    assert choices[-1]["finish_reason"] == "stop"


def test_a_prompt_is_completed(gateway: RunningGateway) -> None:
    body = {"model": MODEL_ID, "prompt": "The capital of France is", "max_tokens": 3, "temperature": 0}
    answer = gateway.request("POST", "/v1/completions", json=body).json()
    assert answer["choices"][0]["text"].startswith(" Paris")
    assert answer["usage"]["completion_tokens"] == 3


def test_texts_are_embedded(gateway: RunningGateway) -> None:
    body = {"model": EMBEDDING_MODEL_ID, "input": ["one", "two"]}
    answer = gateway.request("POST", "/v1/embeddings", json=body).json()
    assert [(row["index"], len(row["embedding"])) for row in answer["data"]] == [(0, 576), (1, 576)]


def test_a_prompt_longer_than_the_context_fails_with_the_reason(gateway: RunningGateway) -> None:
    response = gateway.chat(messages=[{"role": "user", "content": "word " * 3000}], max_tokens=5)
    assert response.status_code >= 400
    assert "exceeds the available context size" in response.text


def test_what_the_engine_does_is_shown(gateway: RunningGateway) -> None:
    before = gateway.request("GET", "/demo/engine").json()
    assert before["model"] == MODEL_ID
    gateway.chat(messages=[{"role": "user", "content": LONG_STORY}], max_tokens=5)
    after = gateway.request("GET", "/demo/engine").json()
    assert after["tokens_generated"] - before["tokens_generated"] == 5


def test_a_client_that_leaves_stops_the_model(gateway: RunningGateway) -> None:
    def count() -> int:
        return int(gateway.request("GET", "/demo/engine").json()["tokens_generated"])

    before = count()
    gateway.run(stream_and_leave(gateway.application, after_events=10))
    left = count()
    gateway.chat(messages=[{"role": "user", "content": LONG_STORY}], max_tokens=15)
    assert left - before < 900
    # A generation that had gone on would have moved the counter as fast as this answer did.
    assert count() - left <= 15 + 2


async def stream_and_leave(application: Any, *, after_events: int) -> None:
    """Ask for a long stream as the edge does, and be gone after some of its events."""
    body = {
        "model": MODEL_ID,
        "messages": [{"role": "user", "content": LONG_STORY}],
        "max_tokens": 900,
        "stream": True,
        "temperature": 0,
    }
    requests = [{"type": "http.request", "body": json.dumps(body).encode()}]
    events = 0
    has_left = asyncio.Event()

    async def receive() -> dict[str, Any]:
        if requests:
            return requests.pop()
        await has_left.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        nonlocal events
        if has_left.is_set():
            raise OSError("the client has left")
        events += message["type"] == "http.response.body"
        if events >= after_events:
            has_left.set()

    path = "/v1/chat/completions"
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "2",
        "method": "POST",
        "scheme": "https",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [(b"host", b"demo"), (b"content-type", b"application/json")],
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 443),
        "state": {},
    }
    async with asyncio.timeout(WAIT_SECONDS):
        with suppress(ClientDisconnect, OSError):
            await application(scope, receive, send)
    assert has_left.is_set()
