"""Embeddings from the same model, as SAGE's control plane takes them in process.

The mean over a text's tokens, normalised. A generating model's embeddings are a demonstration's:
texts of the same meaning come out closer than others, and no more is claimed.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from xllamacpp import llama_pooling_type

from sage_edge.demo.generation import GenerationError
from sage_edge.demo.model import CONTEXT_TOKENS, load_server, prepare_parameters

TEXTS_PER_BATCH = 8
"""How many texts are worked on at once. A cancelled request runs on to the end of its batch."""


class EmbeddingEngine:
    """Loads the model a second time, in embedding mode, when it is first asked."""

    def __init__(self) -> None:
        self._server: Any = None  # the worker's own
        # One thread: the first use loads, and later ones wait for it.
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="llama-embedding")

    async def start(self) -> None:
        """Nothing: the model is loaded when it is needed, since few ask for embeddings."""

    async def stop(self) -> None:
        """Free the model."""
        await asyncio.get_running_loop().run_in_executor(self._executor, self._free)

    def close(self) -> None:
        """Free the model for good, once what runs has ended."""
        self._executor.shutdown(wait=True, cancel_futures=True)
        self._free()

    async def health_check(self) -> bool:
        """Always well: a model that cannot be loaded fails the request that needs it."""
        return True

    async def encode(self, texts: list[str]) -> list[list[float]]:
        """One vector of length 1 for each text.

        Raises:
            GenerationError: a text is longer than the model takes.
        """
        vectors: list[list[float]] = []
        for start in range(0, len(texts), TEXTS_PER_BATCH):
            batch = texts[start : start + TEXTS_PER_BATCH]
            vectors += await asyncio.get_running_loop().run_in_executor(self._executor, self._encode, batch)
        return vectors

    def _encode(self, texts: list[str]) -> list[list[float]]:
        if self._server is None:
            self._server = _load()
        answer = self._server.handle_embeddings({"input": texts})
        if "error" in answer:
            raise GenerationError(answer["error"]["message"])
        return [entry["embedding"] for entry in sorted(answer["data"], key=lambda entry: int(entry["index"]))]

    def _free(self) -> None:
        self._server = None


def _load() -> Any:
    # Not several slots: llama.cpp's embeddings of texts in one batch then differ from those alone.
    parameters = prepare_parameters(slots=1)
    parameters.embedding = True
    parameters.pooling_type = llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    parameters.n_batch = parameters.n_ubatch = CONTEXT_TOKENS  # a text is embedded in one piece
    return load_server(parameters)
