"""One generation: llama.cpp in a thread, its pieces in an asyncio loop, and a way to stop it.

Knows llama.cpp's requests and answers, and nothing of SAGE's protocol.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

Call = Callable[[dict[str, Any], Callable[[dict[str, Any]], bool]], object]
"""A streaming call: takes a request and a callback for each chunk, which stops it by returning True."""


class GenerationError(RuntimeError):
    """llama.cpp refused a request, or failed in it."""


@dataclass(frozen=True)
class Piece:
    """A part of an answer.

    Attributes:
        text: what was generated.
        tokens: the identifiers of the tokens it came from.
        finish_reason: "stop" or "length", in the last piece with text or after it.
        prompt_tokens: the length of the prompt, where the chunk tells it.
    """

    text: str = ""
    tokens: list[int] = field(default_factory=list)
    finish_reason: str | None = None
    prompt_tokens: int | None = None


class Counters:
    """What is generated now, and what has been. Kept by the threads that generate."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.running = 0
        self.tokens_generated = 0

    def note_tokens(self, tokens: int) -> None:
        """So many more have been generated."""
        with self._lock:
            self.tokens_generated += tokens

    @contextmanager
    def note_running(self) -> Iterator[None]:
        """A generation runs for as long as this is open."""
        with self._lock:
            self.running += 1
        try:
            yield
        finally:
            with self._lock:
                self.running -= 1


async def generate(
    call: Call, payload: dict[str, Any], executor: Executor, counters: Counters, stop: threading.Event
) -> AsyncGenerator[Piece, None]:
    """Generate an answer piece by piece.

    When the iterator is closed, or the task that iterates is cancelled, the generation stops at its
    next token, or never starts.

    Args:
        call: `handle_chat_completions` or `handle_completions`.
        payload: an OpenAI request, as llama.cpp takes it.
        executor: where the call blocks a thread.
        counters: kept while the call runs.
        stop: stops the generation too.

    Raises:
        GenerationError: the request was refused (too long, malformed), or stopped by `stop`.
    """
    loop = asyncio.get_running_loop()
    arrived: asyncio.Queue[Piece | BaseException | None] = asyncio.Queue()
    is_abandoned = threading.Event()

    def put(item: Piece | BaseException | None) -> None:
        try:
            loop.call_soon_threadsafe(arrived.put_nowait, item)
        except RuntimeError:  # the loop is closed
            is_abandoned.set()

    def take(chunk: dict[str, Any]) -> bool:
        if "error" in chunk:
            put(GenerationError(chunk["error"]["message"]))
            return True
        piece = _read(chunk)
        counters.note_tokens(len(piece.tokens))
        put(piece)
        return is_abandoned.is_set() or stop.is_set()

    def run() -> None:
        try:
            with counters.note_running():
                call(payload, take)
            put(GenerationError("the model is being shut down") if stop.is_set() else None)
        except Exception as error:
            put(GenerationError(str(error)))

    future = executor.submit(run)
    try:
        while (item := await arrived.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        is_abandoned.set()
        future.cancel()


def _read(chunk: dict[str, Any]) -> Piece:
    """A chunk of a streamed OpenAI answer, of chat or of plain completion."""
    prompt_tokens = (chunk.get("usage") or {}).get("prompt_tokens")
    if not chunk["choices"]:
        return Piece(prompt_tokens=prompt_tokens)
    choice = chunk["choices"][0]
    text = choice["delta"].get("content") if "delta" in choice else choice["text"]
    tokens = [entry["id"] for entry in (choice.get("logprobs") or {}).get("content", [])]
    return Piece(text or "", tokens, choice["finish_reason"], prompt_tokens)
