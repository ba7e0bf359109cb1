"""Spans by OpenTelemetry's SDK, sent by threads of its own: the one file that imports it.

Imported where `--tracing` asks for it, since it is an extra. Where spans go, which are kept and how they are sent is
told by the standard variables (`OTEL_*`), which the SDK reads. The SDK's global provider is left to the gateway.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from importlib.metadata import entry_points
from os import environ
from time import time_ns
from typing import Any
from uuid import uuid4

import trio
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.propagators.textmap import Getter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from sage_edge import __version__
from sage_edge.app.tracing import Headers
from sage_edge.core.errors import EdgeError, Fault
from sage_edge.core.logger import EdgeLogger
from sage_edge.core.own_random import own_random
from sage_edge.core.tracing import SCHEMA_URL, Attributes, Outcome

log = EdgeLogger(__name__)

EXPORTERS = "opentelemetry_traces_exporter"
"""The group of entry points by which exporters are installed."""
NO_EXPORTER = "none"
NANOSECONDS = 1_000_000_000


def build_tracer() -> OpenTelemetryTracer | None:
    """One that sends its spans as the standard variables say; None where they turn tracing off.

    Each exporter gets a thread and a bounded queue of its own.

    Raises:
        EdgeError: what they name is not installed, or what they say makes no sense.
    """
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return None
    names = [name.strip() for name in environ.get("OTEL_TRACES_EXPORTER", "").split(",") if name.strip()]
    exporters = [_find_exporter(name) for name in names or ["otlp"] if name != NO_EXPORTER]
    if not exporters:
        return None
    try:
        return OpenTelemetryTracer(*(BatchSpanProcessor(exporter()) for exporter in exporters))
    except Exception as error:  # whatever exporters make of their variables
        hint = "see what the variables OTEL_* say"
        raise EdgeError(Fault(f"--tracing: {error}", hint, cause=error, setting="tracing")) from error


def _find_exporter(name: str) -> Callable[[], SpanExporter]:
    installed_name = name
    if name == "otlp":
        protocol = (
            environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL")
            or environ.get("OTEL_EXPORTER_OTLP_PROTOCOL")
            or "http/protobuf"  # OpenTelemetry's default
        )
        installed_name = {"http/protobuf": "otlp_proto_http", "grpc": "otlp_proto_grpc"}.get(protocol, protocol)
    found = entry_points(group=EXPORTERS, name=installed_name)
    if not found:
        hint = "install the package that has it, or set OTEL_TRACES_EXPORTER and OTEL_EXPORTER_OTLP_PROTOCOL"
        raise EdgeError(Fault(f"--tracing: no exporter {installed_name!r} is installed", hint, setting="tracing"))
    return lambda: next(iter(found)).load()()


class OpenTelemetryTracer:
    """Begins spans, and sends them.

    Args:
        processors: take the spans that have ended.
    """

    def __init__(self, *processors: SpanProcessor) -> None:
        self._provider = TracerProvider(
            resource=_describe_process(), shutdown_on_exit=False, id_generator=_IdGenerator()
        )
        for processor in processors:
            self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("sage_edge", __version__, SCHEMA_URL)
        self._propagator = TraceContextTextMapPropagator()
        # They warn of each header that is malformed or too long, with what the client sent: neither belongs in the log.
        for name in ("opentelemetry.trace.span", "opentelemetry.trace.propagation.tracecontext"):
            logging.getLogger(name).setLevel(logging.ERROR)

    def begin(self, headers: Headers, name: str, attributes: Attributes, *, seconds_ago: float) -> OpenTelemetrySpan:
        """A span of a request with these headers, of which a trace's are the parent's."""
        parent = self._propagator.extract(headers, Context(), _HEADERS)
        began_ns = time_ns() - int(seconds_ago * NANOSECONDS)
        span = self._tracer.start_span(name, parent, trace.SpanKind.SERVER, attributes, start_time=began_ns)
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier, trace.set_span_in_context(span, parent))
        return OpenTelemetrySpan(span, began_ns, [(key.encode(), value.encode()) for key, value in carrier.items()])

    async def close(self, limit_seconds: float) -> None:
        """Send what has not been sent yet, as far as there is time."""
        with trio.move_on_after(limit_seconds) as limit:
            await trio.to_thread.run_sync(self._provider.shutdown, abandon_on_cancel=True)
        if limit.cancelled_caught:
            log.warning("the last spans could not be sent in time", seconds=limit_seconds)


class OpenTelemetrySpan:
    """One request's.

    Args:
        span: OpenTelemetry's.
        began_ns: as a Unix time.
        fields: that name it as the parent of others.
    """

    def __init__(self, span: trace.Span, began_ns: int, fields: Headers) -> None:
        self._span = span
        self._began_ns = began_ns
        self.fields = fields
        self.trace_id = trace.format_trace_id(span.get_span_context().trace_id)
        self.is_recorded = span.is_recording()

    def end(self, outcome: Outcome) -> None:
        """It is over."""
        span = self._span
        span.update_name(outcome.name)
        span.set_attributes(outcome.attributes)
        for event, seconds in outcome.events.items():
            span.add_event(event, timestamp=self._began_ns + int(seconds * NANOSECONDS))
        if outcome.error is not None:
            span.set_attribute("error.type", outcome.error)
            span.set_status(trace.StatusCode.ERROR)
        span.end(self._began_ns + int(outcome.duration_seconds * NANOSECONDS))


class _IdGenerator(RandomIdGenerator):
    """Makes ids as the SDK does, of random numbers that no gateway seeds."""

    def generate_span_id(self) -> int:
        """A number that is not 0."""
        return own_random.randrange(1, 1 << 64)

    def generate_trace_id(self) -> int:
        """The same, of more bits."""
        return own_random.randrange(1, 1 << 128)


class _HeaderGetter(Getter[Headers]):
    """Reads an ASGI scope's headers."""

    def get(self, carrier: Headers, key: str) -> list[str] | None:
        """The values of a field. Of a `traceparent` that stands twice, nobody knows which is meant: none is."""
        name = key.encode()
        values = [value.decode("latin-1") for field, value in carrier if field == name]
        return None if not values or (key == "traceparent" and len(values) > 1) else values

    def keys(self, carrier: Headers) -> list[str]:
        """The names of the fields."""
        return [name.decode("latin-1") for name, _ in carrier]


_HEADERS = _HeaderGetter()


def _describe_process() -> Resource:
    """The resource that spans come from: what the variables say, and for the rest what is known here."""
    given = OTELResourceDetector().detect().attributes
    known: dict[str, Any] = {
        "service.name": "sage-edge",
        "service.version": __version__,
        "service.instance.id": str(uuid4()),
    }
    return Resource.create({key: value for key, value in known.items() if key not in given})
