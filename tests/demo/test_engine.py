"""The engine answers with the real model, in SAGE's protocol."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

pytest.importorskip("sagellm_protocol", reason="the SAGE gateway is published for Python 3.11 only")
pytest.importorskip("xllamacpp")

from sage_edge.demo.engine import Engine
from sage_edge.demo.generation import GenerationError
from tests.demo.support import LONG_STORY, make_request, wait_until

pytestmark = pytest.mark.demo


async def collect(engine: Engine, request: Any) -> list[Any]:
    return [event async for event in engine.stream(request)]


def test_a_chat_is_answered_whole(engine: Engine) -> None:
    response = asyncio.run(engine.execute(make_request("What is the capital of France?", max_tokens=30)))
    assert "Paris" in response.output_text
    assert response.finish_reason == "stop"
    assert response.prompt_tokens > 0
    assert response.metrics.ttft_ms > 0
    assert response.metrics.throughput_tps > 0
    assert response.metrics.peak_mem_mb > 0


def test_a_prompt_without_messages_is_continued(engine: Engine) -> None:
    response = asyncio.run(engine.execute(make_request(prompt="The capital of France is", max_tokens=3)))
    assert response.output_text.startswith(" Paris")
    assert len(response.output_tokens) == 3


def test_streamed_text_joins_to_the_end_events(engine: Engine) -> None:
    start, *deltas, end = asyncio.run(collect(engine, make_request(LONG_STORY, max_tokens=12)))
    assert (start.event, end.event) == ("start", "end")
    assert {delta.event for delta in deltas} == {"delta"}
    assert "".join(delta.content for delta in deltas) == end.content
    assert {event.engine_id for event in (start, *deltas, end)} == {engine.engine_id}


def test_an_answer_cut_at_max_tokens_has_that_many(engine: Engine) -> None:
    before = engine.statistics.tokens_generated
    _, *deltas, end = asyncio.run(collect(engine, make_request(LONG_STORY, max_tokens=7)))
    assert end.finish_reason == "length"
    assert len(end.output_tokens) == sum(len(delta.content_tokens) for delta in deltas) == 7
    assert engine.statistics.tokens_generated - before == 7


def test_tokens_that_are_parts_of_a_character_are_counted(engine: Engine) -> None:
    before = engine.statistics.tokens_generated
    response = asyncio.run(engine.execute(make_request("Repeat exactly: 😀 🎉 日本語 ☃", max_tokens=12)))
    assert response.finish_reason == "length"
    assert len(response.output_tokens) == 12
    assert engine.statistics.tokens_generated - before == 12


def test_a_message_with_a_name_is_answered(engine: Engine) -> None:
    request = make_request("Hello", max_tokens=2)
    assert request.messages[0].name is None
    assert asyncio.run(engine.execute(request)).output_text


def test_a_prompt_longer_than_the_context_is_refused(engine: Engine) -> None:
    with pytest.raises(GenerationError, match="exceeds the available context size"):
        asyncio.run(engine.execute(make_request("word " * 3000)))


def test_a_refused_request_leaves_the_engine_usable(engine: Engine) -> None:
    async def refuse_then_answer() -> str:
        with pytest.raises(GenerationError):
            await collect(engine, make_request("word " * 3000))
        return str((await engine.execute(make_request("Hello", max_tokens=2))).output_text)

    assert asyncio.run(refuse_then_answer())


def test_more_requests_than_slots_are_all_answered(engine: Engine) -> None:
    async def answer_many() -> list[Any]:
        return await asyncio.gather(
            *(engine.execute(make_request(f"{LONG_STORY} {n}", max_tokens=5)) for n in range(9))
        )

    before = engine.statistics.tokens_generated
    assert [len(response.output_tokens) for response in asyncio.run(answer_many())] == [5] * 9
    assert engine.statistics.tokens_generated - before == 45


def test_statistics_show_what_runs(engine: Engine) -> None:
    async def look() -> None:
        stream = engine.stream(make_request(LONG_STORY, max_tokens=100))
        async for event in stream:
            if event.event == "delta":
                break
        assert engine.statistics.running == 1
        await stream.aclose()  # type: ignore[attr-defined]  # an async generator, typed as an iterator
        await wait_until(lambda: engine.statistics.running == 0)

    asyncio.run(look())
