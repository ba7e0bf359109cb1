"""The engine that SAGE's control plane calls: its protocol on one side, `demo.generation` on the other."""

from __future__ import annotations

import resource
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from sagellm_protocol import (
    Metrics,
    Request,
    Response,
    StreamEvent,
    StreamEventDelta,
    StreamEventEnd,
    StreamEventStart,
)

from sage_edge.demo.generation import Counters, Piece, generate
from sage_edge.demo.model import MODEL_ID, SLOTS, LlamaServer

SYSTEM_MESSAGE = {"role": "system", "content": "You are a helpful assistant. Keep answers short and correct."}
"""Put before a conversation that has none: with the one in its chat template the model babbles."""

MIN_P = 0.3
"""Only tokens at least so likely, relative to the likeliest, are drawn.

The gateway asks for temperature 1.0 when its client does not say. At llama.cpp's 0.05 this model then
names the capital of France 7 times out of 10, and at 0.3 each time.
"""


@dataclass(frozen=True)
class EngineStatistics:
    """What the engine has done and does: `running` generations now, and `tokens_generated` since it was loaded."""

    model: str
    running: int
    tokens_generated: int


class Engine:
    """A language model as SAGE's control plane takes one in process. Load it before use, close it after."""

    engine_id = "smollm2"

    def __init__(self) -> None:
        self._server: LlamaServer | None = None
        self._executor = ThreadPoolExecutor(SLOTS, thread_name_prefix="llama")
        self._stop = threading.Event()
        self._counters = Counters()

    @property
    def statistics(self) -> EngineStatistics:
        """The counters now."""
        return EngineStatistics(MODEL_ID, self._counters.running, self._counters.tokens_generated)

    def load(self) -> None:
        """Load the model; takes about half a second."""
        self._server = LlamaServer(slots=SLOTS)

    def close(self) -> None:
        """Stop what is generated and free the model."""
        self._stop.set()
        self._executor.shutdown(wait=True, cancel_futures=True)
        if self._server is not None:
            self._server.close()
            self._server = None

    async def health_check(self) -> bool:
        """Whether the model is loaded."""
        return self._server is not None

    async def execute(self, request: Request) -> Response:
        """Generate a whole answer. Cancelling the task stops the model.

        Raises:
            GenerationError: the request cannot be answered.
        """
        answer = _Answer()
        async with aclosing(self._generate(request)) as pieces:
            async for piece in pieces:
                answer.add(piece)
        return Response(
            request_id=request.request_id,
            trace_id=request.trace_id,
            output_text=answer.text,
            output_tokens=answer.tokens,
            prompt_tokens=answer.prompt_tokens,
            finish_reason=answer.finish_reason,
            metrics=answer.measure(),
        )

    async def stream(self, request: Request) -> AsyncIterator[StreamEvent]:
        """Generate an answer event by event. Closing the iterator stops the model.

        Raises:
            GenerationError: the request cannot be answered.
        """
        names = {"request_id": request.request_id, "trace_id": request.trace_id, "engine_id": self.engine_id}
        answer = _Answer()
        yield StreamEventStart(**names)
        async with aclosing(self._generate(request)) as pieces:
            async for piece in pieces:
                answer.add(piece)
                if piece.text:
                    yield StreamEventDelta(**names, content=piece.text, content_tokens=piece.tokens)
        yield StreamEventEnd(
            **names,
            prompt_tokens=answer.prompt_tokens,
            content=answer.text,
            output_tokens=answer.tokens,
            finish_reason=answer.finish_reason,
            metrics=answer.measure(),
        )

    async def _generate(self, request: Request) -> AsyncGenerator[Piece, None]:
        if self._server is None:
            raise RuntimeError("the model is not loaded")
        call, payload = _translate(request, self._server.calls)
        async with aclosing(generate(call, payload, self._executor, self._counters, self._stop)) as pieces:
            async for piece in pieces:
                yield piece


class _Answer:
    """What has been generated so far, and when."""

    def __init__(self) -> None:
        self._began_at = time.perf_counter()
        self._first_at: float | None = None
        self._texts: list[str] = []
        self.tokens: list[int] = []
        self.finish_reason = "stop"
        self.prompt_tokens: int | None = None

    @property
    def text(self) -> str:
        return "".join(self._texts)

    def add(self, piece: Piece) -> None:
        if self._first_at is None and piece.tokens:
            self._first_at = time.perf_counter()
        self._texts.append(piece.text)
        self.tokens += piece.tokens
        self.finish_reason = piece.finish_reason or self.finish_reason
        self.prompt_tokens = piece.prompt_tokens or self.prompt_tokens

    def measure(self) -> Metrics:
        ended_at = time.perf_counter()
        first_at = self._first_at or ended_at
        later_tokens = max(len(self.tokens) - 1, 1)
        return Metrics(
            ttft_ms=(first_at - self._began_at) * 1000,
            tpot_ms=(ended_at - first_at) * 1000 / later_tokens,
            throughput_tps=len(self.tokens) / (ended_at - self._began_at),
            peak_mem_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
            error_rate=0.0,
        )


def _translate(request: Request, calls: Any) -> tuple[Callable[..., Any], dict[str, Any]]:
    """The call of llama.cpp's and its request. Fields that are None are left out: it refuses nulls."""
    payload: dict[str, Any] = {
        "max_tokens": request.max_tokens,
        "min_p": MIN_P,
        "stream": True,
        "stream_options": {"include_usage": True},
        "top_logprobs": 1,  # the only way in which a streamed answer names its tokens
    }
    for name in ("temperature", "top_p"):
        if (value := getattr(request, name)) is not None:
            payload[name] = value
    if not request.messages:
        return calls.handle_completions, {**payload, "prompt": request.prompt, "logprobs": 1}
    messages = [message.model_dump(exclude_none=True) for message in request.messages]
    if all(message["role"] != "system" for message in messages):
        messages.insert(0, SYSTEM_MESSAGE)
    return calls.handle_chat_completions, {**payload, "messages": messages, "logprobs": True}
