"""A gateway that traces itself, as users' do: FastAPI with OpenTelemetry's instrumentation and its global provider."""

from __future__ import annotations

from fastapi import FastAPI
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

provider = TracerProvider(resource=Resource.create({"service.name": "gateway"}))
provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter()))
trace.set_tracer_provider(provider)

app = FastAPI()


@app.get("/generate")
async def generate() -> dict[str, str]:
    with trace.get_tracer("gateway").start_as_current_span("model"):
        return {"text": "generated"}


FastAPIInstrumentor.instrument_app(app, exclude_spans=["receive", "send"])
