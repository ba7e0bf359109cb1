"""What is asked and what has to be answered: both the application and the clients go by this."""

from __future__ import annotations

import json

SMALL = json.dumps(
    {"id": "a8f2c1", "object": "status", "state": "ok", "queue": 3, "models": ["small", "large"]}
).encode()

_SYSTEM = "You are a helpful assistant. Answer in one short sentence, and say so when you do not know. " * 3
CHAT_QUESTION = json.dumps(
    {
        "model": "SmolLM2-135M-Instruct",
        "temperature": 0.7,
        "max_tokens": 64,
        "messages": [
            {"role": "system", "content": _SYSTEM},
            {"role": "user", "content": "What is the capital of France, and since when has it been the capital?"},
        ],
    }
).encode()
CHAT_ANSWER = json.dumps(
    {
        "id": "chatcmpl-bench",
        "object": "chat.completion",
        "model": "SmolLM2-135M-Instruct",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Paris."}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 61, "completion_tokens": 2, "total_tokens": 63},
    }
).encode()

UPLOAD = bytes(range(256)) * 4096  # 1 MiB
UPLOAD_ANSWER = bytes(range(250)) * 400  # 100 kB
DOWNLOAD_CHUNK = bytes(range(256)) * 256  # 64 KiB
DOWNLOAD_CHUNKS = 64  # 4 MiB


def event(number: int) -> bytes:
    """One event of a stream, as a gateway that streams tokens sends it."""
    return b'data: {"id":"chatcmpl-bench","index":%08d,"text":"tok"}\n\n' % number


def events(count: int) -> bytes:
    """A whole stream."""
    return b"".join(map(event, range(count)))


EVENT_BYTES = len(event(0))
