"""Embeddings: of length 1, in the texts' order, and near for texts that mean the same."""

from __future__ import annotations

import asyncio
import math

import pytest

pytest.importorskip("sagellm_protocol", reason="the SAGE gateway is published for Python 3.11 only")
pytest.importorskip("xllamacpp")

from sage_edge.demo.embeddings import EmbeddingEngine
from sage_edge.demo.generation import GenerationError

pytestmark = pytest.mark.demo

CAT = "The cat sat on the mat."
KITTEN = "A kitten was sitting on a rug."
MARKETS = "Stock markets fell sharply today."


def multiply(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


def test_each_text_has_an_embedding_of_length_1(embedding_engine: EmbeddingEngine) -> None:
    embeddings = asyncio.run(embedding_engine.encode([CAT, KITTEN, MARKETS, CAT, KITTEN]))
    assert [len(embedding) for embedding in embeddings] == [576] * 5
    assert [math.hypot(*embedding) for embedding in embeddings] == pytest.approx([1.0] * 5, abs=1e-4)


def test_texts_that_mean_the_same_are_nearer(embedding_engine: EmbeddingEngine) -> None:
    cat, kitten, markets = asyncio.run(embedding_engine.encode([CAT, KITTEN, MARKETS]))
    assert multiply(cat, kitten) > multiply(cat, markets) + 0.1


def test_a_text_has_the_same_embedding_in_any_company(embedding_engine: EmbeddingEngine) -> None:
    alone = asyncio.run(embedding_engine.encode([MARKETS]))[0]
    last = asyncio.run(embedding_engine.encode([CAT, KITTEN, MARKETS]))[-1]
    assert multiply(alone, last) == pytest.approx(1.0, abs=1e-3)


def test_first_uses_at_once_are_all_answered(embedding_engine: EmbeddingEngine) -> None:
    async def use_at_once() -> list[list[list[float]]]:
        await embedding_engine.stop()  # so that these are first uses
        return await asyncio.gather(*(embedding_engine.encode([CAT]) for _ in range(4)))

    one, *others = asyncio.run(use_at_once())
    assert all(multiply(one[0], other[0]) == pytest.approx(1.0, abs=1e-3) for other in others)


def test_a_text_longer_than_the_context_is_refused(embedding_engine: EmbeddingEngine) -> None:
    with pytest.raises(GenerationError, match="too large"):
        asyncio.run(embedding_engine.encode(["word " * 3000]))
