"""A request of SAGE's protocol as llama.cpp's OpenAI-compatible handlers take it.

Pure: what runs the result is the engine's.
"""

from __future__ import annotations

from typing import Any

from sagellm_protocol import Request

from sage_edge.demo.generation import GenerationError

SYSTEM_MESSAGE = "You are a helpful assistant. Keep answers short and correct."
"""Put before a conversation that has no system message of its own.

With the one in its chat template, the model answers in French when asked about France.
"""

MIN_P = 0.3
"""Only tokens at least so likely, relative to the likeliest, are drawn.

The gateway asks for temperature 1.0 when its client does not say. At llama.cpp's 0.05 this model
then names the capital of France 7 times out of 10, and at 0.3 each time.
"""


def build_payload(request: Request) -> dict[str, Any]:
    """Translate a request. The result has `prompt`, or else `messages`.

    No field is null: llama.cpp refuses that, for one as a message's name. A prompt goes before
    messages, as the protocol says. `sampling_params` is not looked at: the gateway never sets it.

    Raises:
        GenerationError: the request has neither.
    """
    payload: dict[str, Any] = {"max_tokens": request.max_tokens, "min_p": MIN_P}
    if request.prompt:
        payload["prompt"] = request.prompt
    elif request.messages:
        messages = [{"role": message.role, "content": message.content} for message in request.messages]
        if all(message["role"] != "system" for message in messages):
            messages.insert(0, {"role": "system", "content": SYSTEM_MESSAGE})
        payload["messages"] = messages
    else:
        raise GenerationError("the request has no prompt and no messages")
    if request.temperature is not None:
        payload["temperature"] = request.temperature
    if request.top_p is not None:
        payload["top_p"] = request.top_p
    return payload
