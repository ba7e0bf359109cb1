"""The openai SDK against the demo model, over TLS and HTTP/2, at the root and below a prefix."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.kit.edge import Edge, running_edge

pytest.importorskip("sagellm_gateway", reason="the SAGE gateway is published for Python 3.11 only")
pytestmark = pytest.mark.demo

MODEL = "SmolLM2-135M-Instruct"
EMBEDDING_MODEL = "SmolLM2-135M-Instruct-embedding"
QUESTION: list[Any] = [{"role": "user", "content": "What is the capital of France?"}]


@pytest.fixture(scope="module", params=["/", "/llm"])
def served(request: pytest.FixtureRequest, certificates: Path) -> Iterator[tuple[Edge, str]]:
    """An edge with the demo gateway, and the SDK's base URL."""
    with running_edge("--gateway", "demo", "--llm-prefix", request.param, certificates=certificates) as edge:
        yield edge, f"{edge.url}{request.param.rstrip('/')}/v1"


@pytest.fixture
def client(served: tuple[Edge, str]) -> Iterator[openai.OpenAI]:
    edge, base_url = served
    versions: list[str] = []
    with edge.client(
        event_hooks={"response": [lambda response: versions.append(response.http_version)]}
    ) as http_client:
        yield openai.OpenAI(base_url=base_url, api_key="unused", http_client=http_client, max_retries=0)
    assert set(versions) == {"HTTP/2"}


def test_whole_chat_completion(client: openai.OpenAI) -> None:
    completion = client.chat.completions.create(model=MODEL, messages=QUESTION, max_tokens=40, temperature=0)

    assert "Paris" in (completion.choices[0].message.content or "")
    assert completion.choices[0].finish_reason in {"stop", "length"}
    assert completion.usage is not None
    assert completion.usage.prompt_tokens > 0
    assert 0 < completion.usage.completion_tokens <= 40


def test_streamed_chat_completion_comes_in_pieces(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(model=MODEL, messages=QUESTION, max_tokens=40, temperature=0)
    stream = client.chat.completions.create(model=MODEL, messages=QUESTION, max_tokens=40, temperature=0, stream=True)
    events = list(stream)

    pieces = [event.choices[0].delta.content for event in events if event.choices and event.choices[0].delta.content]
    assert len(pieces) > 3
    assert "".join(pieces) == whole.choices[0].message.content
    assert events[-1].choices[0].finish_reason == whole.choices[0].finish_reason


def test_a_length_limit_is_kept(client: openai.OpenAI) -> None:
    completion = client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": "Tell a long story."}], max_tokens=5, temperature=0
    )

    assert completion.choices[0].finish_reason == "length"
    assert completion.usage is not None
    assert completion.usage.completion_tokens == 5


def test_completion(client: openai.OpenAI) -> None:
    completion = client.completions.create(model=MODEL, prompt="Once upon a", max_tokens=8, temperature=0)

    assert completion.choices[0].text.strip()


def test_embeddings(client: openai.OpenAI) -> None:
    texts = ["The cat sat on the mat.", "A cat was sitting on a mat.", "Interest rates rose sharply in March."]
    answer = client.embeddings.create(model=EMBEDDING_MODEL, input=texts, encoding_format="float")
    cat, other_cat, money = (entry.embedding for entry in answer.data)

    def similarity(one: list[float], other: list[float]) -> float:
        return sum(a * b for a, b in zip(one, other, strict=True))

    assert similarity(cat, other_cat) > similarity(cat, money)


def test_models(client: openai.OpenAI) -> None:
    assert {model.id for model in client.models.list()} == {MODEL, EMBEDDING_MODEL}


def test_a_model_that_does_not_exist_is_the_gateways_error(client: openai.OpenAI) -> None:
    with pytest.raises(openai.InternalServerError) as raised:
        client.chat.completions.create(model="nothing", messages=QUESTION)
    assert "No healthy engines available for model nothing" in raised.value.response.text


def test_a_path_that_is_not_served_is_an_error_the_sdk_can_read(served: tuple[Edge, str]) -> None:
    edge, base_url = served
    whose = "Nothing is served at this path" if base_url.endswith("/llm/v1") else "Not Found"
    with edge.client() as http_client:
        client = openai.OpenAI(base_url=f"{edge.url}/elsewhere", api_key="unused", http_client=http_client)
        with pytest.raises(openai.NotFoundError) as raised:
            client.models.list()
    assert whose in raised.value.response.text


def test_asynchronously_with_many_at_once(served: tuple[Edge, str]) -> None:
    edge, base_url = served

    async def main() -> list[tuple[str, str]]:
        async with edge.async_client() as http_client:
            client = openai.AsyncOpenAI(base_url=base_url, api_key="unused", http_client=http_client, max_retries=0)

            async def ask() -> tuple[str, str]:
                whole = await client.chat.completions.create(
                    model=MODEL, messages=QUESTION, max_tokens=12, temperature=0
                )
                pieces = []
                async for event in await client.chat.completions.create(
                    model=MODEL, messages=QUESTION, max_tokens=12, temperature=0, stream=True
                ):
                    pieces.append(event.choices[0].delta.content or "")  # noqa: PERF401  # the stream is the subject
                return whole.choices[0].message.content or "", "".join(pieces)

            return await asyncio.gather(*(ask() for _ in range(6)))

    answers = asyncio.run(main())

    assert len(answers) == 6
    assert all(whole and streamed for whole, streamed in answers)
