"""The loaded engines. Imported where they are made: the demo's packages exist for Python 3.11 only."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from sage_edge.demo.embeddings import EmbeddingEngine
    from sage_edge.demo.engine import Engine


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    from sage_edge.demo.engine import Engine

    engine = Engine()
    engine.load()
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def embedding_engine() -> Iterator[EmbeddingEngine]:
    from sage_edge.demo.embeddings import EmbeddingEngine

    engine = EmbeddingEngine()
    yield engine
    engine.close()
