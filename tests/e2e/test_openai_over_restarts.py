"""A generation that the openai SDK reads while the edge drains or replaces its workers; no model is needed for that."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import openai
import pytest

from tests.kit.edge import Edge, running_edge

pytestmark = pytest.mark.usefixtures("unmeasured_workers")

GATEWAY = """
import asyncio, json, pathlib

def event(content):
    choice = {"index": 0, "delta": {"content": content}, "finish_reason": None}
    chunk = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    return {"type": "http.response.body", "body": b"data: " + json.dumps(chunk).encode() + b"\\n\\n", "more_body": True}

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        return
    headers = [(b"content-type", b"text/event-stream")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send(event("begun "))
    while not pathlib.Path("finish").exists():
        await asyncio.sleep(0.01)
    await send(event("finished"))
    await send({"type": "http.response.body", "body": b"data: [DONE]\\n\\n"})
"""
DRAINS = pytest.mark.parametrize(
    ("workers", "number"),
    [((), signal.SIGTERM), (("--workers", "1"), signal.SIGUSR2)],
    ids=["drain", "rolling restart"],
)


@pytest.fixture
def gateway(tmp_path: Path) -> Path:
    """A directory with a gateway whose generations end once `finish` is beside it."""
    (tmp_path / "generating.py").write_text(GATEWAY)
    return tmp_path


@contextmanager
def generation(edge: Edge, http_client: httpx2.Client) -> Iterator[Iterator[str]]:
    """The contents of a generation, of which the first has come."""
    client = openai.OpenAI(base_url=f"{edge.url}/v1", api_key="unused", http_client=http_client)
    messages = [{"role": "user", "content": "Go on."}]
    with client, client.chat.completions.create(model="m", messages=messages, stream=True) as stream:
        contents = (event.choices[0].delta.content or "" for event in stream)
        assert next(contents) == "begun "
        yield contents


@DRAINS
def test_over_http1_it_comes_whole(
    gateway: Path, certificates: Path, workers: tuple[str, ...], number: signal.Signals
) -> None:
    with running_edge("--gateway", "generating:app", *workers, cwd=gateway, certificates=certificates) as edge:
        http_client = openai.DefaultHttpxClient(verify=edge.ssl_context())
        with generation(edge, http_client) as contents:
            edge.process.send_signal(number)
            edge.log.wait_for(r"\[info\] draining .*streams=1")
            (gateway / "finish").touch()
            assert "".join(contents) == "finished"
        assert edge.stop() == 0


@DRAINS
def test_over_http2_the_client_gives_it_up_at_goaway(
    gateway: Path, certificates: Path, workers: tuple[str, ...], number: signal.Signals
) -> None:
    """What README, docs/operating.md and docs/troubleshooting.md say: once this fails, it is no longer so."""
    with running_edge("--gateway", "generating:app", *workers, cwd=gateway, certificates=certificates) as edge:
        with generation(edge, edge.client()) as contents:
            edge.process.send_signal(number)
            with pytest.raises(openai.APIConnectionError) as raised:
                next(contents)
            assert isinstance(raised.value.__cause__, httpx2.RemoteProtocolError)
            assert str(raised.value.__cause__).startswith("<ConnectionTerminated error_code:0,")
        edge.log.wait_for(r"\[sage_edge\.access\] .*ending='client left'")
        assert edge.stop() == 0
