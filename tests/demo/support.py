"""What the tests of the demo share: requests in SAGE's protocol, and waiting for a condition."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from sagellm_protocol import ChatMessage, Request

WAIT_SECONDS = 60.0
"""For what must happen. Long, since a busy machine runs the model at a tenth of its speed."""

LONG_STORY = "Tell me a very long story."


def make_request(*texts: str, prompt: str = "", max_tokens: int = 20, **fields: Any) -> Request:
    """A request of one user message for each text; always answered alike, unless `fields` say otherwise."""
    messages = [ChatMessage(role="user", content=text) for text in texts]
    return Request(
        request_id="request",
        trace_id="trace",
        model="model",
        prompt=prompt,
        messages=messages or None,
        max_tokens=max_tokens,
        **{"temperature": 0.0, **fields},
    )


async def wait_until(is_true: Callable[[], bool]) -> None:
    """Wait for a condition that another thread makes true; TimeoutError after WAIT_SECONDS."""
    async with asyncio.timeout(WAIT_SECONDS):
        while not is_true():  # noqa: ASYNC110  # a thread of the engine makes it true, and tells nobody
            await asyncio.sleep(0.005)
