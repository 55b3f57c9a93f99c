"""Metrics as a collector gets them: by OTLP over HTTP, the same numbers that /metrics has."""

import asyncio
import itertools
import os
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2 as httpx
import pytest
from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult, MetricsData
from prometheus_client import CollectorRegistry, Counter, Histogram

from deltaserve.errors import NotConfigured
from deltaserve.server.app import create_app
from deltaserve.server.observability.metrics import SHARED, Metrics
from deltaserve.server.observability.otel_metrics import OtelPusher, metrics_data
from deltaserve.server.observability.otel_resource import resource
from deltaserve.server.observability.pushing import NEEDED, push, pusher_for
from deltaserve.server.observability.telling import closed
from deltaserve.server.processes.supervisor import Supervisor
from deltaserve.server.settings import Settings
from tests.support.app import serve
from tests.support.blackbox import blackbox, make_model
from tests.support.collector import collecting, labels
from tests.support.demo_weights import make_demo_weights

INTERVAL = "OTEL_METRIC_EXPORT_INTERVAL"
PROMPT = "The river runs north"


def settings_for(folder: Path, box: str, endpoint: str) -> Settings:
    root = make_demo_weights(folder / "weights")
    return Settings(
        upstream_url=box, offsets_root=root, offset="registry-erasure", base=root / "base", torch_threads=1,
        state_folder=folder / "state", otlp_metrics_endpoint=endpoint,
    )  # fmt: skip


def values(metric: Any) -> dict[tuple[tuple[str, str], ...], tuple[float, ...]]:
    """By labels: a number, or a histogram's count, sum and buckets."""
    kind = metric.WhichOneof("data")
    found = {}
    for point in getattr(metric, kind).data_points:
        number = (point.count, point.sum, *point.bucket_counts) if kind == "histogram" else (point.as_double,)
        found[tuple(sorted(labels(point).items()))] = number
    return found


def expected(family: Any) -> dict[tuple[tuple[str, str], ...], tuple[float, ...]]:
    """The same of Prometheus' own family."""
    plain: dict[Any, tuple[float, ...]] = {}
    series: dict[Any, dict[str, list[float]]] = {}
    for sample in family.samples:
        rest = tuple(sorted((name, value) for name, value in sample.labels.items() if name != "le"))
        end = sample.name.removeprefix(family.name)
        if end in ("", "_total"):
            plain[rest] = (sample.value,)
        series.setdefault(rest, {}).setdefault(end, []).append(sample.value)
    if family.type != "histogram":
        return plain
    return {
        rest: (each["_count"][0], each["_sum"][0], *(b - a for a, b in itertools.pairwise([0.0, *each["_bucket"]])))
        for rest, each in series.items()
    }


def test_a_collector_gets_what_metrics_counts_also_of_the_last_request_and_no_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(INTERVAL, "50")
    with blackbox(make_model(tmp_path / "box", seed=3)) as box, collecting() as collector:
        app = create_app(settings_for(tmp_path, box.url, f"{collector.url}/v1/metrics"))
        with serve(app) as (_, url):
            for _ in range(2):
                asked = {"prompt": PROMPT, "max_tokens": 5, "temperature": 0}
                assert httpx.post(f"{url}/v1/completions", json=asked, timeout=60).status_code == 200
            httpx.get(f"{url}/metrics")
    first, last = collector.exports[0], collector.exports[-1]
    families = {family.name: family for family in app.state.serving.metrics.families()}
    assert {name: values(metric) for name, metric in last.items()} == {
        name: expected(family) for name, family in families.items() if expected(family)
    }
    assert last["deltaserve_generation_tokens"].sum.data_points[0].as_double == 10
    assert last["deltaserve_generation_tokens"].sum.is_monotonic
    assert last["deltaserve_e2e_request_latency_seconds"].unit == "s"
    assert not last["deltaserve_inter_token_latency_seconds"].histogram.data_points[0].HasField("min")
    starts = {export["deltaserve_upstream_calls"].sum.data_points[0].start_time_unix_nano for export in (first, last)}
    assert starts == {collector_began(last)}
    assert collector.services == {"deltaserve"}
    assert len({about["service.instance.id"] for about in collector.about}) == 1
    assert not any(word in str(export) for export in collector.exports for word in PROMPT.split()[1:])


def collector_began(export: Any) -> int:
    """The start of a histogram, which is the server's too."""
    began: int = export["deltaserve_queue_time_seconds"].histogram.data_points[0].start_time_unix_nano
    assert began > 0
    return began


def test_buckets_are_counted_between_their_bounds() -> None:
    registry = CollectorRegistry()
    one = Histogram("wait_seconds", "A wait.", ("of",), buckets=(1.0, 2.0), registry=registry)
    for value in (0.5, 0.7, 1.5, 9.0):
        one.labels("a").observe(value)
    one.labels("b").observe(3.0)
    data = metrics_data(registry.collect(), resource(), 1, 2)
    points = {
        tuple(point.attributes.values()): point
        for point in data.resource_metrics[0].scope_metrics[0].metrics[0].data.data_points
    }
    first, second = points["a",], points["b",]
    assert (first.bucket_counts, first.explicit_bounds, first.count, first.sum) == ([2, 1, 1], [1.0, 2.0], 4, 11.7)
    assert (second.bucket_counts, second.count, second.sum) == ([0, 0, 1], 1, 3.0)
    assert (first.start_time_unix_nano, first.time_unix_nano) == (1, 2)


class Stuck(MetricExporter):
    """Of a collector that does not answer before it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.may_go = threading.Event(), threading.Event()
        self.times: list[int] = []

    def export(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **_: Any) -> MetricExportResult:
        self.begun.set()
        self.may_go.wait()
        point: Any = metrics_data.resource_metrics[0].scope_metrics[0].metrics[0].data.data_points[0]
        self.times.append(point.value)
        return MetricExportResult.SUCCESS

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        return True

    def shutdown(self, timeout_millis: float = 30_000, **_: Any) -> None:
        """Nothing is held."""


def test_while_a_collector_is_away_offers_do_not_wait_and_the_newest_is_kept() -> None:
    registry = CollectorRegistry()
    counted = Counter("answers", "Answers.", registry=registry)
    exporter = Stuck()
    pusher = OtelPusher(exporter, 1, 60.0)
    for number in range(3):
        counted.inc()
        pusher.offer(list(registry.collect()))
        if number == 0:
            assert exporter.begun.wait(10)
    exporter.may_go.set()
    pusher.close()
    assert exporter.times == [1.0, 3.0]


def test_an_app_ends_while_its_collector_hangs() -> None:
    hanging = threading.Event()
    closed([hanging.wait, hanging.wait])  # type: ignore[list-item]
    hanging.set()


@pytest.mark.anyio
async def test_counts_that_cannot_be_read_end_nothing() -> None:
    offered = asyncio.Event()
    tries = itertools.count()

    class Collecting:
        interval_s = 0.001

        def offer(self, families: Any) -> None:
            offered.set()

        def close(self) -> None:
            """Nothing is held."""

    async def counted() -> Metrics:
        if next(tries) < 2:
            raise ValueError("half a file")
        return Metrics()

    task = asyncio.create_task(push(Collecting(), counted))
    async with asyncio.timeout(10):
        await offered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_the_parent_sends_what_its_front_ends_counted_to_their_end(tmp_path: Path) -> None:
    counting = "from deltaserve.server.observability.metrics import Metrics; Metrics().generation_tokens.inc(90)"
    (tmp_path / "metrics").mkdir()
    environment = {**os.environ, SHARED: str(tmp_path / "metrics")}
    for _ in range(2):
        subprocess.run([sys.executable, "-c", counting], env=environment, check=True)
    with collecting() as collector:
        settings = Settings(otlp_metrics_endpoint=f"{collector.url}/v1/metrics")
        parent = Supervisor(settings, 2, [], [], None)
        parent.folder, parent._signals, parent._complete = tmp_path, 1, True
        parent._push_last()
        assert collector.exports[-1]["deltaserve_generation_tokens"].sum.data_points[0].as_double == 180
        (tmp_path / "metrics" / "counter_999999.db").touch()  # of one that was killed as it began
        said = list[str]()
        parent.log = SimpleNamespace(error=lambda event, **_: said.append(event))
        parent._push_last()
    assert said == ["the last metrics were not sent"] and len(collector.exports) == 1


@pytest.mark.parametrize("told", ["soon", "-1", "0", "0.001", "nan", "inf"])
def test_an_interval_that_is_none_is_refused(told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(INTERVAL, told)
    before = threading.active_count()
    with pytest.raises(NotConfigured, match="milliseconds"):
        pusher_for("http://127.0.0.1:9/v1/metrics", 1)
    assert threading.active_count() == before


def test_without_the_extra_a_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    assert pusher_for(None, 1) is None
    monkeypatch.setitem(sys.modules, "deltaserve.server.observability.otel_metrics", None)
    with pytest.raises(NotConfigured) as refused:
        pusher_for("http://127.0.0.1:9/v1/metrics", 1)
    assert refused.value.message == NEEDED


@pytest.mark.parametrize("address", ["collector:4318", "ftp://collector/v1/metrics", ""])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="otlp_metrics_endpoint"):
        Settings(otlp_metrics_endpoint=address)
