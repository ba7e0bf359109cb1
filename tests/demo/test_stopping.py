"""The model works no longer than someone waits for its answer.

Measured by the engine's counter of tokens: after a request has gone, a second one of known length is
answered, and the counter may have moved by that length and no more. A generation that went on in its
slot would have moved it too, at the same pace.
"""

from __future__ import annotations

import asyncio

import pytest

pytest.importorskip("sagellm_protocol", reason="the SAGE gateway is published for Python 3.11 only")
pytest.importorskip("xllamacpp")

from sage_edge.demo.engine import Engine
from sage_edge.demo.generation import GenerationError
from sage_edge.demo.model import SLOTS
from tests.demo.support import LONG_STORY, WAIT_SECONDS, make_request, wait_until

pytestmark = pytest.mark.demo

LONG = 900  # tokens: longer than any test waits for
SHORT = 15
IN_FLIGHT = 2  # a generation stops at its next token


async def count_during_a_short_answer(engine: Engine) -> int:
    """How many tokens were generated while one answer of SHORT tokens was."""
    before = engine.statistics.tokens_generated
    response = await engine.execute(make_request(LONG_STORY, max_tokens=SHORT))
    assert len(response.output_tokens) == SHORT
    return engine.statistics.tokens_generated - before


def test_a_stream_that_is_closed_stops_the_model(engine: Engine) -> None:
    async def leave() -> int:
        stream = engine.stream(make_request(LONG_STORY, max_tokens=LONG))
        deltas = 0
        async for event in stream:
            deltas += event.event == "delta"
            if deltas == 10:
                break
        await stream.aclose()  # type: ignore[attr-defined]  # an async generator, typed as an iterator
        return await count_during_a_short_answer(engine)

    assert asyncio.run(leave()) <= SHORT + IN_FLIGHT


def test_a_task_that_is_cancelled_stops_the_model(engine: Engine) -> None:
    async def cancel() -> int:
        before = engine.statistics.tokens_generated
        task = asyncio.create_task(engine.execute(make_request(LONG_STORY, max_tokens=LONG)))
        await wait_until(lambda: engine.statistics.tokens_generated >= before + 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return await count_during_a_short_answer(engine)

    assert asyncio.run(cancel()) <= SHORT + IN_FLIGHT


def test_a_request_cancelled_while_it_waits_for_a_slot_never_runs(engine: Engine) -> None:
    async def cancel_the_waiting() -> None:
        before = engine.statistics.tokens_generated
        first = [
            asyncio.create_task(engine.execute(make_request(f"{LONG_STORY} {n}", max_tokens=SHORT)))
            for n in range(SLOTS)
        ]
        await asyncio.sleep(0)  # a turn of the loop for each to take its slot
        waiting = asyncio.create_task(engine.execute(make_request(LONG_STORY, max_tokens=LONG)))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        responses = await asyncio.gather(*first)
        await count_during_a_short_answer(engine)  # in a slot that the cancelled request could have had
        awaited = sum(len(response.output_tokens) for response in responses) + SHORT
        assert engine.statistics.tokens_generated - before == awaited

    asyncio.run(cancel_the_waiting())


def test_closing_ends_what_runs() -> None:
    async def close_while_running() -> None:
        engine = Engine()
        await asyncio.to_thread(engine.load)
        task = asyncio.create_task(engine.execute(make_request(LONG_STORY, max_tokens=LONG)))
        await wait_until(lambda: engine.statistics.tokens_generated >= 3)
        async with asyncio.timeout(WAIT_SECONDS):
            await asyncio.to_thread(engine.close)
            with pytest.raises(GenerationError):
                await task
        assert engine.statistics.tokens_generated < LONG
        assert not await engine.health_check()

    asyncio.run(close_while_running())


def test_closing_ends_what_waits_for_a_slot() -> None:
    async def close_while_waiting() -> None:
        engine = Engine()
        await asyncio.to_thread(engine.load)
        tasks = [
            asyncio.create_task(engine.execute(make_request(LONG_STORY, max_tokens=LONG))) for _ in range(SLOTS + 1)
        ]
        await wait_until(lambda: engine.statistics.tokens_generated >= 3)
        await asyncio.to_thread(engine.close)
        async with asyncio.timeout(2):
            assert all(isinstance(end, GenerationError) for end in await asyncio.gather(*tasks, return_exceptions=True))

    asyncio.run(close_while_waiting())
