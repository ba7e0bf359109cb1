"""A collector of OpenTelemetry: takes spans by OTLP over HTTP, as a real one does, and keeps them."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue

from tests.kit.edge import WAIT_SECONDS

SERVER_KIND = 2
ERROR_STATUS = 2


@dataclass(frozen=True)
class ReceivedSpan:
    """A span as it was sent.

    Attributes:
        span: as in OTLP.
        attributes: its, by name.
        resource: the attributes of where it comes from.
    """

    span: Any
    attributes: dict[str, Any]
    resource: dict[str, Any]

    @property
    def trace_id(self) -> str:
        """In hexadecimal."""
        return str(self.span.trace_id.hex())

    @property
    def span_id(self) -> str:
        """In hexadecimal."""
        return str(self.span.span_id.hex())

    @property
    def parent_id(self) -> str:
        """In hexadecimal; "" for a root."""
        return str(self.span.parent_span_id.hex())

    @property
    def is_error(self) -> bool:
        """Whether it says that its request failed."""
        return bool(self.span.status.code == ERROR_STATUS)

    @property
    def seconds(self) -> float:
        """How long it took."""
        return float(self.span.end_time_unix_nano - self.span.start_time_unix_nano) / 1e9


class Collector:
    """What was received, and where to send it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._spans: list[ReceivedSpan] = []
        self._changed = threading.Condition()

    @property
    def environment(self) -> dict[str, str]:
        """Variables that have a process send its spans here, soon."""
        return {"OTEL_EXPORTER_OTLP_ENDPOINT": self.url, "OTEL_BSP_SCHEDULE_DELAY": "50"}

    @property
    def spans(self) -> list[ReceivedSpan]:
        """All that were received, in the order in which they began."""
        with self._changed:
            return sorted(self._spans, key=lambda each: int(each.span.start_time_unix_nano))

    def wait_for(self, count: int) -> list[ReceivedSpan]:
        """All spans, once there are so many."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self._spans) >= count, WAIT_SECONDS), self._spans
        return self.spans

    def take(self, body: bytes) -> bytes:
        """Take a request of OTLP; what to answer."""
        received = [
            ReceivedSpan(span, _read(span.attributes), _read(group.resource.attributes))
            for group in ExportTraceServiceRequest.FromString(body).resource_spans
            for scope in group.scope_spans
            for span in scope.spans
        ]
        with self._changed:
            self._spans += received
            self._changed.notify_all()
        return ExportTraceServiceResponse().SerializeToString()


@contextmanager
def running_collector() -> Iterator[Collector]:
    """A collector on a free port of the loopback."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            answer = collector.take(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *args: Any) -> None:
            """Nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            """An edge was killed while it told of a span: nothing to be told in the tests' output."""
            if not isinstance(sys.exception(), ConnectionError):
                super().handle_error(request, client_address)

    with Server(("127.0.0.1", 0), Handler) as server:
        collector = Collector(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield collector
        finally:
            server.shutdown()
            thread.join()


def _read(attributes: Any) -> dict[str, Any]:
    return {each.key: _value(each.value) for each in attributes}


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(each) for each in value.array_value.values]
    return getattr(value, str(kind))
