"""A client that goes away stops the model: told by the engine's own counters and by the process's CPU time."""

from __future__ import annotations

import json
import os
import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kit.edge import Edge, running_edge
from tests.kit.eventually import eventually
from tests.kit.raw_http1 import raw_http1
from tests.kit.raw_http2 import raw_http2

pytest.importorskip("sagellm_gateway", reason="the SAGE gateway is published for Python 3.11 only")
pytestmark = pytest.mark.demo

ASKED_TOKENS = 1500
BEFORE_LEAVING = 10
LONGEST_WAIT_SECONDS = 10.0


@pytest.fixture(scope="module")
def edge(certificates: Path) -> Iterator[Edge]:
    with running_edge("--gateway", "demo", certificates=certificates) as edge:
        yield edge


def chat_request(*, stream: bool) -> bytes:
    return json.dumps(
        {
            "model": "SmolLM2-135M-Instruct",
            "messages": [{"role": "user", "content": "Tell a very long story about a ship and its crew."}],
            "max_tokens": ASKED_TOKENS,
            "stream": stream,
        }
    ).encode()


def engine(edge: Edge) -> dict[str, Any]:
    """The engine's counters."""
    with edge.client() as client:
        return client.get("/demo/engine").json()


def cpu_seconds(edge: Edge) -> float:
    """What the process has used so far, in user and kernel mode."""
    fields = Path(f"/proc/{edge.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def cpu_share(edge: Edge) -> float:
    """CPU seconds a second, over half a second."""
    before, started = cpu_seconds(edge), time.monotonic()
    threading.Event().wait(0.5)
    return (cpu_seconds(edge) - before) / (time.monotonic() - started)


def assert_stopped(edge: Edge, generated_before: int) -> None:
    """The model has stopped, long before it had written what was asked for."""
    assert eventually(lambda: engine(edge)["running"] == 0, LONGEST_WAIT_SECONDS), "no generation runs"
    generated = engine(edge)["tokens_generated"]
    assert BEFORE_LEAVING <= generated - generated_before < ASKED_TOKENS / 3
    assert eventually(lambda: cpu_share(edge) < 0.2, LONGEST_WAIT_SECONDS), "the CPU is idle"
    assert engine(edge)["tokens_generated"] == generated


HTTP2_FIELDS = [(b"content-type", b"application/json")]


@pytest.mark.parametrize("leaving", ["RST_STREAM", "connection lost"])
def test_leaving_over_http2_stops_the_model(edge: Edge, leaving: str) -> None:
    before = engine(edge)["tokens_generated"]
    with raw_http2(edge) as connection:
        stream_id = connection.request(
            b"/v1/chat/completions", method=b"POST", headers=HTTP2_FIELDS, body=chat_request(stream=True)
        )
        response = connection.responses[stream_id]
        connection.wait_until(lambda: response.body.count(b"data: ") > BEFORE_LEAVING)
        assert engine(edge)["running"] == 1
        if leaving == "RST_STREAM":
            connection.reset(stream_id)
            assert_stopped(edge, before)
        else:
            lose(connection.sock)
    assert_stopped(edge, before)


def test_leaving_over_http1_stops_the_model(edge: Edge) -> None:
    before = engine(edge)["tokens_generated"]
    with raw_http1(edge) as sock:
        post(sock, chat_request(stream=True))
        received = b""
        while received.count(b"data: ") <= BEFORE_LEAVING:
            received += sock.recv(65536)
        assert engine(edge)["running"] == 1
    assert_stopped(edge, before)


@pytest.mark.parametrize("protocol", ["h2", "http/1.1"])
def test_leaving_before_a_whole_answer_stops_the_model(edge: Edge, protocol: str) -> None:
    before = engine(edge)["tokens_generated"]

    def has_begun() -> bool:
        return engine(edge)["tokens_generated"] >= before + BEFORE_LEAVING

    if protocol == "h2":
        with raw_http2(edge) as connection:
            stream_id = connection.request(
                b"/v1/chat/completions", method=b"POST", headers=HTTP2_FIELDS, body=chat_request(stream=False)
            )
            assert eventually(has_begun, LONGEST_WAIT_SECONDS), "the model has begun"
            connection.reset(stream_id)
            assert_stopped(edge, before)
    else:
        with raw_http1(edge) as sock:
            post(sock, chat_request(stream=False))
            assert eventually(has_begun, LONGEST_WAIT_SECONDS), "the model has begun"
        assert_stopped(edge, before)


def test_the_others_go_on_when_one_leaves(edge: Edge) -> None:
    with raw_http2(edge) as connection:
        leaver, stayer = (
            connection.request(
                b"/v1/chat/completions", method=b"POST", headers=HTTP2_FIELDS, body=chat_request(stream=True)
            )
            for _ in range(2)
        )
        responses = connection.responses
        connection.wait_until(
            lambda: min(responses[stream].body.count(b"data: ") for stream in (leaver, stayer)) > BEFORE_LEAVING
        )
        connection.reset(leaver)
        assert eventually(lambda: engine(edge)["running"] == 1, LONGEST_WAIT_SECONDS), "one generation is left"
        seen = responses[stayer].body.count(b"data: ")
        connection.wait_until(lambda: responses[stayer].body.count(b"data: ") > seen + BEFORE_LEAVING)
        assert engine(edge)["running"] == 1
        connection.reset(stayer)
    assert eventually(lambda: engine(edge)["running"] == 0, LONGEST_WAIT_SECONDS), "no generation runs"


def post(sock: socket.socket, body: bytes) -> None:
    head = "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    sock.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)


def lose(sock: socket.socket) -> None:
    """End a connection without a word: TCP RST, no TLS close_notify, no GOAWAY."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()
