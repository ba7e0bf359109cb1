"""One run of the model, carried from the worker thread it blocks to the event loop that asked.

Knows how llama.cpp streams and how it is stopped. What is asked of the model, and in which
protocol the answer is given, is the engine's.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

from sage_edge.demo.model import ModelError

Handler = Callable[[Mapping[str, Any], Callable[[dict[str, Any]], bool]], object]
"""`xllamacpp.Server.handle_completions` or `handle_chat_completions`."""


class GenerationError(ModelError):
    """A request was refused, failed in the model, or was stopped before its answer was complete."""


@dataclass(frozen=True)
class Piece:
    """Text that was just generated.

    Attributes:
        text: never empty, never half a character.
        tokens: how many tokens it is made of.
    """

    text: str
    tokens: int


@dataclass(frozen=True)
class Summary:
    """What a complete generation came to.

    Attributes:
        finish_reason: "length" if it ran into a limit, of the request's or the context's.
        prompt_tokens: with the chat template's own.
        cached_tokens: how many of these were known from an earlier prompt.
        completion_tokens: with the one that ends an answer, which has no text.
        prefill_milliseconds: for reading the prompt.
        decode_milliseconds: from the first token to the last.
        first_token_seconds: from asking to the first token, with the wait for a slot.
        total_seconds: from asking to the end.
    """

    finish_reason: Literal["stop", "length"]
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    prefill_milliseconds: float
    decode_milliseconds: float
    first_token_seconds: float
    total_seconds: float


class Generation:
    """Iterate over it, in the event loop that created it, for the pieces; then read `summary`.

    Iterating raises GenerationError if the model refuses or fails, and after `stop`. Pieces wait in
    memory until they are asked for; the context's size bounds them.

    Args:
        payload: what is asked of the model, without what this class adds for streaming.
        count_tokens: called in the worker thread with how many tokens were just generated.
    """

    summary: Summary
    """Set when the iteration has ended."""

    def __init__(self, payload: Mapping[str, Any], count_tokens: Callable[[int], None]) -> None:
        self._payload = dict(payload) | {
            "stream": True,
            "stream_options": {"include_usage": True},
            "timings_per_token": True,  # counts tokens; a chunk can hold several
            "return_progress": True,  # so that a long prompt can be stopped between two batches
        }
        self._count_tokens = count_tokens
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[Piece | Summary | GenerationError] = asyncio.Queue()
        self._is_stopped = threading.Event()
        self._asked_at = time.perf_counter()
        self._first_token_at: float | None = None
        self._tokens = 0
        self._tokens_delivered = 0
        self._finish_reason: Literal["stop", "length"] = "stop"
        self._outcome: Summary | GenerationError | None = None
        self.has_started = False
        """Whether its wait for a worker thread is over."""

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Piece:
        event = await self._events.get()
        if isinstance(event, Piece):
            return event
        if isinstance(event, GenerationError):
            raise event
        self.summary = event
        raise StopAsyncIteration

    def stop(self) -> None:
        """Stop the model at its next token, or within the prompt at its next batch.

        Does not wait for it. Harmless once the generation has ended. For any thread.
        """
        self._is_stopped.set()
        self._deliver(GenerationError("the generation was stopped"))

    def run(self, handler: Handler) -> None:
        """Run the model to the end of this generation. Blocks; for a worker thread. Raises nothing."""
        self.has_started = True
        if self._is_stopped.is_set():
            return
        try:
            handler(self._payload, self._receive)
        except Exception as error:  # what llama.cpp refuses comes as ValueError or as RuntimeError
            self._outcome = GenerationError(str(error))
        self._deliver(self._outcome or GenerationError("llama.cpp ended without a result"))

    def _receive(self, chunk: dict[str, Any]) -> bool:
        """Take one chunk from llama.cpp. Returns whether to stop.

        llama.cpp stops without a word if this raises, so a surprise must become the outcome.
        """
        try:
            self._read(chunk)
        except Exception as error:
            self._outcome = GenerationError(f"llama.cpp sent what was not understood: {error!r}")
        return self._is_stopped.is_set() or isinstance(self._outcome, GenerationError)

    def _read(self, chunk: dict[str, Any]) -> None:
        if "error" in chunk:
            self._outcome = GenerationError(chunk["error"]["message"])
            return
        tokens = chunk["timings"]["predicted_n"] - self._tokens if "timings" in chunk else 0
        if tokens:
            self._tokens += tokens
            self._count_tokens(tokens)
            if self._first_token_at is None:
                self._first_token_at = time.perf_counter()
        for choice in chunk["choices"]:
            self._finish_reason = choice["finish_reason"] or self._finish_reason
            text = choice["delta"].get("content") if "delta" in choice else choice["text"]
            if text:
                self._deliver(Piece(text, self._tokens - self._tokens_delivered))
                self._tokens_delivered = self._tokens
        if "usage" in chunk:
            self._outcome = self._summarise(chunk["usage"], chunk["timings"])

    def _summarise(self, usage: dict[str, Any], timings: dict[str, Any]) -> Summary:
        now = time.perf_counter()
        return Summary(
            finish_reason=self._finish_reason,
            prompt_tokens=usage["prompt_tokens"],
            cached_tokens=usage["prompt_tokens_details"]["cached_tokens"],
            completion_tokens=usage["completion_tokens"],
            prefill_milliseconds=timings["prompt_ms"],
            decode_milliseconds=timings["predicted_ms"],
            first_token_seconds=(self._first_token_at or now) - self._asked_at,
            total_seconds=now - self._asked_at,
        )

    def _deliver(self, event: Piece | Summary | GenerationError) -> None:
        try:
            self._loop.call_soon_threadsafe(self._events.put_nowait, event)
        except RuntimeError:  # the loop is closed: nobody is left to read
            self._is_stopped.set()
