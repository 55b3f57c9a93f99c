"""Metrics by OTLP over HTTP: the families of /metrics under the same names, made from OpenTelemetry's own classes."""

import itertools
import os
import queue
import socket
import threading
import time
import uuid
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any, Final, Self

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.environment_variables import OTEL_METRIC_EXPORT_INTERVAL
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricExporter,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import SERVICE_INSTANCE_ID, Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from prometheus_client import Metric as Family
from prometheus_client.samples import Sample

from deltaserve.errors import NotConfigured
from deltaserve.server.observability.otel_resource import resource

_INTERVAL_MS: Final = 60_000.0  # OpenTelemetry's default
_LEAST_S: Final = 0.01
_SCOPE: Final = InstrumentationScope("deltaserve.server")
_TOTAL: Final = AggregationTemporality.CUMULATIVE
_SECONDS: Final = "_seconds"
_UNKNOWN: Final[Any] = None  # is not sent: Prometheus' histograms have neither least nor greatest

Labels = tuple[tuple[str, str], ...]


class OtelPusher:
    """`pushing.Pusher`. A thread sends, so a collector that is away holds nothing up."""

    def __init__(self, exporter: MetricExporter, began_ns: int, interval_s: float) -> None:
        self.interval_s = interval_s
        self._exporter, self._began_ns = exporter, began_ns
        self._resource = resource({SERVICE_INSTANCE_ID: _instance(began_ns)})
        self._waiting: queue.Queue[MetricsData | None] = queue.Queue(1)
        self._thread = threading.Thread(target=self._send, name="otlp-metrics", daemon=True)
        self._thread.start()

    @classmethod
    def exporting(cls, endpoint: str, began_ns: int) -> Self:
        """Headers, certificates and time limits are OpenTelemetry's own variables, and so is the interval."""
        return cls(OTLPMetricExporter(endpoint), began_ns, interval_s())

    def offer(self, families: Sequence[Family]) -> None:
        self._put(metrics_data(families, self._resource, self._began_ns, time.time_ns()))

    def close(self) -> None:
        self._waiting.put(None)
        self._thread.join()
        self._exporter.shutdown()

    def _put(self, data: MetricsData) -> None:
        with suppress(queue.Empty):
            self._waiting.get_nowait()
        self._waiting.put_nowait(data)

    def _send(self) -> None:
        while (data := self._waiting.get()) is not None:
            self._exporter.export(data)  # says itself what fails


def interval_s() -> float:
    """Seconds between two exports, by OTEL_METRIC_EXPORT_INTERVAL (milliseconds). Raises NotConfigured."""
    told = os.environ.get(OTEL_METRIC_EXPORT_INTERVAL) or str(_INTERVAL_MS)
    try:
        wait_s = float(told) / 1000
    except ValueError:
        wait_s = 0.0
    if not _LEAST_S <= wait_s < threading.TIMEOUT_MAX:
        raise NotConfigured(f"{OTEL_METRIC_EXPORT_INTERVAL} is {told!r}: give milliseconds, or leave it out for 60000.")
    return wait_s


def metrics_data(families: Iterable[Family], about: Resource, began_ns: int, now_ns: int) -> MetricsData:
    """What one export holds. Times are Unix time in nanoseconds; counts go from `began_ns` to `now_ns`."""
    metrics = [metric for family in families if (metric := _metric(family, began_ns, now_ns)) is not None]
    return MetricsData([ResourceMetrics(about, [ScopeMetrics(_SCOPE, metrics, "")], "")])


def _metric(family: Family, began_ns: int, now_ns: int) -> Metric | None:
    """None for a family without values yet."""
    if family.type == "histogram":
        points = [_bucketed(labels, each, began_ns, now_ns) for labels, each in _series(family.samples).items()]
        data: Histogram | Sum | Gauge = Histogram(points, _TOTAL)
    elif family.type == "counter":
        counted = [sample for sample in family.samples if sample.name.endswith("_total")]
        data = Sum([_number(sample, began_ns, now_ns) for sample in counted], _TOTAL, is_monotonic=True)
    else:
        data = Gauge([_number(sample, began_ns, now_ns) for sample in family.samples])
    unit = "s" if family.name.endswith(_SECONDS) else ""
    return Metric(family.name, family.documentation, unit, data) if data.data_points else None


def _number(sample: Sample, began_ns: int, now_ns: int) -> NumberDataPoint:
    return NumberDataPoint(dict(sample.labels), began_ns, now_ns, sample.value)


def _series(samples: Iterable[Sample]) -> dict[Labels, list[Sample]]:
    """A histogram's samples by their labels, but for the one that says the bucket."""
    found: dict[Labels, list[Sample]] = {}
    for sample in samples:
        labels = tuple(sorted((name, value) for name, value in sample.labels.items() if name != "le"))
        found.setdefault(labels, []).append(sample)
    return found


def _bucketed(labels: Labels, samples: Iterable[Sample], began_ns: int, now_ns: int) -> HistogramDataPoint:
    """Prometheus counts what is at most a bound, OpenTelemetry what is between two of them."""
    upto: dict[float, float] = {}
    total = 0.0
    for sample in samples:
        if sample.name.endswith("_bucket"):
            upto[float(sample.labels["le"])] = sample.value
        elif sample.name.endswith("_sum"):
            total = sample.value
    bounds = sorted(upto)
    below = [0.0, *(upto[bound] for bound in bounds)]
    counts = [round(after - before) for before, after in itertools.pairwise(below)]
    finite = [bound for bound in bounds if bound != float("inf")]
    return HistogramDataPoint(
        dict(labels), began_ns, now_ns, sum(counts), total, counts, finite, min=_UNKNOWN, max=_UNKNOWN
    )


def _instance(began_ns: int) -> str:
    """One server of several; the same for every process of it, also for one that is started again."""
    return str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{began_ns}.{socket.gethostname()}"))
