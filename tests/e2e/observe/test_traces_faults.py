"""Tracing where something is missing, wrong or slow: the edge says so, or serves on."""

from __future__ import annotations

import os
import re
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.observe.support import GATEWAY
from tests.kit.collector import running_collector
from tests.kit.edge import run_edge, running_edge

TRACE = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
FLUSH_SECONDS = 3.0
"""How long the edge waits for its last spans."""
REQUESTS = 30


@pytest.fixture
def silent_collector() -> Iterator[str]:
    """The address of one that accepts connections, and never reads or answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def absent_collector() -> str:
    """An address at which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize("workers", [(), ("--workers", "1")], ids=["one process", "workers"])
def test_without_the_extra_the_hint_says_what_to_install(tmp_path: Path, workers: tuple[str, ...]) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['opentelemetry'] = None\n")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    options = ("--tracing", "--port", "0", "--metrics-bind", "none", "--gateway", "no_such_module:app", *workers)
    for command in ("serve", "check"):
        result = run_edge(command, *options, env={"PYTHONPATH": path})
        assert result.returncode == 2
        assert "error: --tracing: opentelemetry is not installed" in result.stderr
        assert (
            "hint: install it in a checkout of sage-edge with pip install '.[otel]', or leave out --tracing"
            in result.stderr
        )
    assert "no_such_module" in result.stderr, "all faults at once"


def test_without_the_extra_and_without_tracing_all_is_well(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['opentelemetry'] = None\n")
    with running_edge(*GATEWAY, env={"PYTHONPATH": str(tmp_path)}) as edge, edge.client() as client:
        assert client.get("/scope", headers=TRACE).json()["headers"]["traceparent"] == TRACE["traceparent"]


@pytest.mark.parametrize(
    ("variables", "what"),
    [
        ({"OTEL_TRACES_EXPORTER": "nope"}, "no exporter 'nope' is installed"),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"}, "no exporter 'http/json' is installed"),
        ({"OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "9999"}, "max_export_batch_size"),
        ({"OTEL_PYTHON_EXPORTER_OTLP_HTTP_CREDENTIAL_PROVIDER": "nope"}, "'nope'"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_variables_that_make_no_sense_are_a_fault(variables: dict[str, str], what: str) -> None:
    result = run_edge("check", "--no-llm", "--tracing", env=variables)
    assert result.returncode == 2
    assert re.search(f"error: --tracing: .*{re.escape(what)}", result.stderr), result.stderr
    assert "hint: " in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("variables", [{"OTEL_SDK_DISABLED": "true"}, {"OTEL_TRACES_EXPORTER": "none"}], ids=str)
def test_turned_off_by_its_own_variables_traces_are_passed_on_as_they_come(variables: dict[str, str]) -> None:
    with running_edge(*GATEWAY, "--tracing", env=variables) as edge, edge.client() as client:
        assert client.get("/scope", headers=TRACE).json()["headers"]["traceparent"] == TRACE["traceparent"]
        edge.log.wait_for("path=/scope")
        assert "trace_id" not in edge.log.text


@pytest.mark.parametrize("kind", ["silent", "absent"])
def test_a_collector_that_does_not_answer_holds_up_neither_requests_nor_the_end(
    kind: str, silent_collector: str, absent_collector: str
) -> None:
    environment = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": silent_collector if kind == "silent" else absent_collector,
        "OTEL_BSP_SCHEDULE_DELAY": "10",
        "OTEL_BSP_MAX_QUEUE_SIZE": "4",
        "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "2",
    }
    with running_edge(*GATEWAY, "--tracing", env=environment) as edge:
        with edge.client() as client:
            longest_seconds = 0.0
            for _ in range(REQUESTS):
                began = time.monotonic()
                assert client.get("/scope").status_code == 200
                longest_seconds = max(longest_seconds, time.monotonic() - began)
        assert longest_seconds < 2, "no request waits for the collector, whose own limit is ten seconds"
        edge.log.wait_for("Queue full")
        began = time.monotonic()
        assert edge.stop() == 0
        assert time.monotonic() - began < FLUSH_SECONDS + 5
        edge.log.wait_for("the last spans could not be sent in time")


def test_a_second_signal_does_not_wait_for_the_last_spans(silent_collector: str) -> None:
    with running_edge(*GATEWAY, "--tracing", env={"OTEL_EXPORTER_OTLP_ENDPOINT": silent_collector}) as edge:
        with edge.client() as client:
            client.get("/scope")
        edge.process.send_signal(signal.SIGTERM)
        edge.log.wait_for(r"stopping \[")
        began = time.monotonic()
        assert edge.end_at_once() == 0
        assert time.monotonic() - began < FLUSH_SECONDS
        assert "could not be sent" not in edge.log.wait_for_end()


def test_each_worker_sends_its_own_spans() -> None:
    with (
        running_collector() as collector,
        running_edge(*GATEWAY, "--tracing", "--workers", "2", env=collector.environment) as edge,
    ):
        edge.log.wait_for("worker ready", count=2)
        for _ in range(REQUESTS):
            with edge.client(http2=False) as client:  # a connection of its own, to either worker
                client.get("/scope")
        spans = collector.wait_for(REQUESTS)
        assert edge.stop() == 0
    assert len(collector.spans) == REQUESTS
    assert len({span.span_id for span in spans}) == REQUESTS
    assert len({span.resource["service.instance.id"] for span in spans}) == 2


def test_who_sends_is_what_the_variables_say() -> None:
    variables = {"OTEL_SERVICE_NAME": "inference", "OTEL_RESOURCE_ATTRIBUTES": "service.version=9,deployment=blue"}
    with (
        running_collector() as collector,
        running_edge(*GATEWAY, "--tracing", env={**collector.environment, **variables}) as edge,
        edge.client() as client,
    ):
        client.get("/scope")
        (span,) = collector.wait_for(1)
    told = [span.resource[name] for name in ("service.name", "service.version", "deployment")]
    assert told == ["inference", "9", "blue"]
