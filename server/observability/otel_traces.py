"""Spans of OpenTelemetry's SDK, exported by OTLP over HTTP."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Final, Self

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from deltaserve.server.observability.otel_resource import resource
from deltaserve.server.observability.spans import Value

_W3C: Final = TraceContextTextMapPropagator()


class OtelTracer:
    """`spans.Tracer`. Sampling is decided by OTEL_TRACES_SAMPLER, as OpenTelemetry's own variables say."""

    def __init__(self, processor: SpanProcessor) -> None:
        self._provider = TracerProvider(
            resource=resource(),
            shutdown_on_exit=False,  # `close` says how long is waited
        )
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("deltaserve.server")

    @classmethod
    def exporting(cls, endpoint: str) -> Self:
        """In batches, by a thread of its own: a collector that is away costs no request anything."""
        return cls(BatchSpanProcessor(OTLPSpanExporter(endpoint)))

    def current(
        self, name: str, kind: str, attributes: Mapping[str, Value], parent: Mapping[str, str] | None
    ) -> AbstractContextManager[Span]:
        context = None if parent is None else _W3C.extract(parent, Context())
        return self._tracer.start_as_current_span(
            name, context, SpanKind[kind], attributes, record_exception=False, set_status_on_exception=False
        )

    @contextmanager
    def call(self, name: str, attributes: Mapping[str, Value], headers: dict[str, str]) -> Iterator[Span]:
        span = self._tracer.start_span(name, None, SpanKind.CLIENT, attributes)
        _W3C.inject(headers, set_span_in_context(span))
        try:
            yield span
        finally:
            span.end()

    def close(self) -> None:
        self._provider.shutdown()
