"""A collector of OpenTelemetry's: what was exported to it by OTLP over HTTP, as plain values."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass
class Collector:
    """`url`: without a path, as OTEL_EXPORTER_OTLP_ENDPOINT is."""

    url: str = ""
    spans: list[dict[str, Any]] = field(default_factory=list)
    exports: list[dict[str, Any]] = field(default_factory=list)  # of metrics, each by its name
    about: list[dict[str, str]] = field(default_factory=list)  # who exported

    @property
    def services(self) -> set[str]:
        return {about["service.name"] for about in self.about}

    def take(self, path: str, body: bytes) -> None:
        if path == "/v1/traces":
            self._take_spans(ExportTraceServiceRequest.FromString(body))
        elif path == "/v1/metrics":
            self._take_metrics(ExportMetricsServiceRequest.FromString(body))

    def named(self, name: str) -> list[dict[str, Any]]:
        return [span for span in self.spans if span["name"] == name]

    def _take_spans(self, told: ExportTraceServiceRequest) -> None:
        for resource in told.resource_spans:
            self.about.append(_values(resource.resource.attributes))
            for scope in resource.scope_spans:
                self.spans += [_span(span) for span in scope.spans]

    def _take_metrics(self, told: ExportMetricsServiceRequest) -> None:
        for resource in told.resource_metrics:
            self.about.append(_values(resource.resource.attributes))
            for scope in resource.scope_metrics:
                self.exports.append({metric.name: metric for metric in scope.metrics})


@contextmanager
def collecting() -> Iterator[Collector]:
    found = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            found.take(self.path, self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        found.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield found
        server.shutdown()


def labels(point: Any) -> dict[str, Any]:
    """Of a data point."""
    return _values(point.attributes)


def _span(span: Any) -> dict[str, Any]:
    ids = {"trace": span.trace_id.hex(), "id": span.span_id.hex(), "parent": span.parent_span_id.hex()}
    return {"name": span.name, "values": _values(span.attributes), "text": str(span), **ids}


def _values(attributes: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}
