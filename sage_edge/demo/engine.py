"""The language model as an engine of SAGE's control plane: its protocol in, its protocol out.

How a run of the model is streamed and stopped is `generation`'s; HTTP is the gateway's.
"""

from __future__ import annotations

import resource
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sagellm_protocol import Metrics, Request, Response, StreamEventDelta, StreamEventEnd, StreamEventStart

from sage_edge.demo.generation import Generation, Summary
from sage_edge.demo.model import MODEL_ID, SLOTS, ModelError, load_server, prepare_parameters
from sage_edge.demo.payload import build_payload

UNKNOWN_TOKEN = -1
"""Stands for every token in the protocol's lists of tokens, whose lengths are right.

llama.cpp's OpenAI-compatible handlers, the only ones xllamacpp has, accept `return_tokens` and
return none.
"""

BATCH_TOKENS = 128
"""Of a prompt. A long one can be stopped after each batch: with one thread, within 0.7 seconds."""


@dataclass(frozen=True)
class EngineStatistics:
    """What the engine does at one moment.

    Attributes:
        model: the model's name.
        slots: how many requests it works on at once.
        running: how many it works on now.
        waiting: how many wait for a slot.
        tokens_generated: in all since the engine was created; never decreases.
    """

    model: str
    slots: int
    running: int
    waiting: int
    tokens_generated: int


class Engine:
    """Runs the model in worker threads, one for each slot. `load` it before use, and `close` it.

    The model works on a request no longer than someone waits for it. When a stream is closed, or
    the task that awaits an answer is cancelled, it stops at its next token; a request that still
    waits for a slot never gets one.
    """

    engine_id = "smollm2"
    """What the control plane calls it."""

    def __init__(self) -> None:
        self._server: Any = None
        self._workers: ThreadPoolExecutor | None = None
        self._generations: set[Generation] = set()  # until the model has left them
        self._tokens_generated = 0
        self._tokens_lock = threading.Lock()

    @property
    def statistics(self) -> EngineStatistics:
        """A snapshot. May be read in any thread."""
        started = [generation.has_started for generation in self._generations.copy()]
        return EngineStatistics(MODEL_ID, SLOTS, started.count(True), started.count(False), self._tokens_generated)

    def load(self) -> None:
        """Load the model. Blocks for about half a second.

        Raises:
            ModelError: it could not be loaded.
        """
        parameters = prepare_parameters(slots=SLOTS)
        parameters.n_batch = BATCH_TOKENS
        parameters.force_pure_content_parser = True  # what the model writes is text, whatever it looks like
        self._server = load_server(parameters)
        self._workers = ThreadPoolExecutor(SLOTS, "llama")

    def close(self) -> None:
        """Stop what runs and what waits, which ends with GenerationError, and free the model. Blocks meanwhile."""
        workers, self._workers = self._workers, None
        for generation in self._generations.copy():
            generation.stop()
        if workers is not None:
            workers.shutdown(cancel_futures=True)
        self._server = None

    async def health_check(self) -> bool:
        """Whether the model is loaded."""
        return self._workers is not None

    async def execute(self, request: Request) -> Response:
        """Answer a request whole.

        Raises:
            ModelError: the model refused it (too long, for one), or failed.
        """
        with self._generate(request) as generation:
            text = "".join([piece.text async for piece in generation])
        summary = generation.summary
        return Response(
            request_id=request.request_id,
            trace_id=request.trace_id,
            output_text=text,
            output_tokens=[UNKNOWN_TOKEN] * summary.completion_tokens,
            prompt_tokens=summary.prompt_tokens,
            finish_reason=summary.finish_reason,
            metrics=_measure(summary),
        )

    async def stream(self, request: Request) -> AsyncIterator[StreamEventStart | StreamEventDelta | StreamEventEnd]:
        """Answer a request piece by piece: one start, deltas, and one end that has all their text.

        Raises:
            ModelError: as `execute`.
        """
        ids = {"request_id": request.request_id, "trace_id": request.trace_id, "engine_id": self.engine_id}
        with self._generate(request) as generation:
            yield StreamEventStart(**ids)
            texts = []
            async for piece in generation:
                texts.append(piece.text)
                yield StreamEventDelta(**ids, content=piece.text, content_tokens=[UNKNOWN_TOKEN] * piece.tokens)
        summary = generation.summary
        yield StreamEventEnd(
            **ids,
            content="".join(texts),
            output_tokens=[UNKNOWN_TOKEN] * summary.completion_tokens,
            prompt_tokens=summary.prompt_tokens,
            finish_reason=summary.finish_reason,
            metrics=_measure(summary),
        )

    @contextmanager
    def _generate(self, request: Request) -> Iterator[Generation]:
        """Queue a run of the model, and stop it on the way out, whatever the way."""
        if self._workers is None:
            raise ModelError("the model is not loaded")
        payload = build_payload(request)
        handler = self._server.handle_chat_completions if "messages" in payload else self._server.handle_completions
        generation = Generation(payload, self._count_tokens)
        self._generations.add(generation)
        run = self._workers.submit(generation.run, handler)
        run.add_done_callback(lambda _: self._generations.discard(generation))
        try:
            yield generation
        finally:
            generation.stop()
            run.cancel()

    def _count_tokens(self, tokens: int) -> None:
        with self._tokens_lock:  # the workers all count here
            self._tokens_generated += tokens


def _measure(summary: Summary) -> Metrics:
    between_tokens = summary.decode_milliseconds / max(1, summary.completion_tokens - 1)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # of this process, in KiB; on macOS in bytes
    return Metrics(
        ttft_ms=summary.first_token_seconds * 1000,
        tbt_ms=between_tokens,
        tpot_ms=between_tokens,
        throughput_tps=summary.completion_tokens / summary.total_seconds,
        peak_mem_mb=peak // (1024 * 1024 if sys.platform == "darwin" else 1024),
        error_rate=0.0,
        kv_used_tokens=summary.prompt_tokens + summary.completion_tokens,
        prefix_hit_rate=summary.cached_tokens / max(1, summary.prompt_tokens),
        prefill_ms=summary.prefill_milliseconds,
        decode_ms=summary.decode_milliseconds,
    )
