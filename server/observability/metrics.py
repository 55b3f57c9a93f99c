"""Counts of one app, as Prometheus reads them. Numbers and names only: never a prompt or an answer."""

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from deltaserve.server.billing import Bill
from deltaserve.server.observability.records import RequestRecord, Stats

BY_KEY: Final = "deltaserve_key_"  # what metrics are called that name clients
SHARED: Final = "PROMETHEUS_MULTIPROC_DIR"  # read by prometheus_client when it is imported

_LATENCY_S = (0.005, 0.01, 0.02, 0.04, 0.08, 0.15, 0.3, 0.6, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
_QUEUE_S = (0.001, 0.01, 0.1, 0.3, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0)
_TOKEN_S = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.08, 0.15, 0.3, 0.6, 1.0, 2.0, 4.0)
_REQUEST_S = (0.1, 0.3, 0.6, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0)


_BILLED: Final = {
    "prompt_tokens": "Prompt tokens of answered calls, by upstream.",
    "cached_tokens": "Of these, tokens that the black box says it had in its cache.",
    "completion_tokens": "Tokens that the black box generated, by upstream.",
    "wasted_tokens": "Of these, tokens that no answer has.",
}


class Metrics:
    """One registry per app; the names mirror vLLM's.

    Where the processes of one server share a folder (SHARED), each writes its values there, and all are added up.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.running = self._gauge("num_requests_running", "Choices being generated.", "livesum")
        self.waiting = self._gauge("num_requests_waiting", "Choices waiting for a place.", "livesum")
        self.queue_time = self._histogram("queue_time_seconds", "Of a choice, until it had a place.", _QUEUE_S)
        self.ready = self._gauge("ready", "1 when requests are answered.", "livemostrecent")
        self.first_token = self._histogram("time_to_first_token_seconds", "Admission to first token.", _LATENCY_S)
        self.inter_token = self._histogram("inter_token_latency_seconds", "Between two tokens.", _TOKEN_S)
        self.request_time = self._histogram("e2e_request_latency_seconds", "A whole generation.", _REQUEST_S)
        self.prompt_tokens = self._counter("prompt_tokens", "Prompt tokens read.")
        self.generation_tokens = self._counter("generation_tokens", "Corrected tokens emitted.")
        self.scored_tokens = self._counter("scored_tokens", "Prompt tokens whose log-probabilities were asked for.")
        self.upstream_calls = self._counter("upstream_calls", "Calls to the black box.")
        self.restarts = self._counter("upstream_restarts", "Calls after a choice's first.")
        self.proposed = self._counter("proposed_tokens", "Tokens the black box proposed.")
        self.accepted = self._counter("accepted_tokens", "Proposals emitted as they were.")
        self.replaced = self._counter("replaced_tokens", "Proposals overruled.")
        self.local_proposed = self._counter("local_proposed_tokens", "Tokens the pair proposed.")
        self.local_accepted = self._counter("local_accepted_tokens", "Of these, emitted as they were.")
        self.forced = self._counter(
            "forced_tokens", "Tokens that an answer's grammar left no choice of, never asked for."
        )
        self.swallowed = self._counter("swallowed_tokens", "Positions whose token the black box never showed.")
        self.blind = self._counter("blind_tokens", "Positions without a list, drawn from the pair alone (allow_blind).")
        self.wasted = self._counter("wasted_tokens", "Proposals that arrived and were void.")
        self.block_positions = self._counter("block_positions", "Positions of local blocks the black box scored.")
        self.early_calls = self._counter("early_calls", "Calls opened where a restart was expected.")
        self.early_used = self._counter("early_used", "Of these, the answer went on from them.")
        self.named_calls = self._counter("named_calls", "Calls that asked for ids by name.")
        self.certified = self._counter("certified_tokens", "Greedy tokens proven equal to full-vocabulary correction.")
        self.tail_mass = self._counter("tail_mass", "Sum over tokens of the mass outside the listed alternatives.")
        self.guarded = self._counter("guarded_tokens", "Tokens drawn from a target that a guard narrowed.")
        self.unnamed = self._counter("unnamed_tokens", "Tokens beside a list with texts that several tokens have.")
        self.no_offset = self._counter("answers_without_offset", "Answers that a token without an offset ended.")
        self.bridged = self._counter("bridged_tokens", "Tokens behind a prefix that cannot be sent as text.")
        self.upstreams = Gauge(
            "deltaserve_upstream",
            "State and counters of each upstream, added up over front-ends.",
            ("upstream", "counter"),
            registry=self.registry,
            multiprocess_mode="livesum",
        )
        self.billed = {part: self._by_upstream(f"upstream_{part}", text) for part, text in _BILLED.items()}
        self.engine = Gauge(
            "deltaserve_engine",
            "Counters of the engine.",
            ("counter",),
            registry=self.registry,
            multiprocess_mode="livemostrecent",
        )
        self.responses = Counter(
            "deltaserve_http_responses", "HTTP answers.", labelnames=("status",), registry=self.registry
        )
        self.key_requests = Counter(
            f"{BY_KEY}requests", "HTTP answers to named keys.", ("key", "status"), registry=self.registry
        )
        self.key_tokens = Counter(f"{BY_KEY}tokens", "Tokens of named keys.", ("key", "kind"), registry=self.registry)
        self.key_reloads = Counter(
            "deltaserve_keys_file_reloads", "Times that SIGHUP was heard.", ("outcome",), registry=self.registry
        )
        self.connections_cut = Counter(
            "deltaserve_connections_cut", "Connections closed past a bound.", ("bound",), registry=self.registry
        )

    def _gauge(self, name: str, text: str, of_processes: Literal["livesum", "livemostrecent"]) -> Gauge:
        return Gauge(f"deltaserve_{name}", text, registry=self.registry, multiprocess_mode=of_processes)

    def _counter(self, name: str, text: str) -> Counter:
        return Counter(f"deltaserve_{name}", text, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(f"deltaserve_{name}", text, buckets=buckets, registry=self.registry)

    def _by_upstream(self, name: str, text: str) -> Counter:
        return Counter(f"deltaserve_{name}", text, ("upstream",), registry=self.registry)

    def bill(self, bill: Bill) -> None:
        """What a choice that has ended cost."""
        for name, item in bill.items.items():
            for part, counter in self.billed.items():
                counter.labels(name).inc(getattr(item, part))

    def add(self, stats: Stats) -> None:
        """Counts of a choice that has ended, however it ended."""
        self.upstream_calls.inc(stats.upstream_calls)
        self.restarts.inc(max(stats.upstream_calls - stats.named_calls - 1, 0))
        self.proposed.inc(stats.proposed)
        self.accepted.inc(stats.accepted)
        self.replaced.inc(stats.replaced)
        self.local_proposed.inc(stats.local_proposed)
        self.local_accepted.inc(stats.local_accepted)
        self.forced.inc(stats.forced)
        self.swallowed.inc(stats.swallowed)
        self.blind.inc(stats.blind)
        self.wasted.inc(stats.wasted)
        self.block_positions.inc(stats.block_positions)
        self.early_calls.inc(stats.early_calls)
        self.early_used.inc(stats.early_used)
        self.named_calls.inc(stats.named_calls)
        self.certified.inc(stats.certified)
        self.tail_mass.inc(stats.tail_mass_sum)
        self.guarded.inc(stats.guarded)
        self.unnamed.inc(stats.unnamed)
        self.bridged.inc(stats.bridged)

    def count_request(self, record: RequestRecord, status: int) -> None:
        """An answer that has ended, and whose it was."""
        self.responses.labels(str(status)).inc()
        if name := record.client.name:
            self.key_requests.labels(name, str(status)).inc()
            self.key_tokens.labels(name, "prompt").inc(record.prompt_tokens)
            self.key_tokens.labels(name, "generated").inc(record.completion_tokens)

    def show_engine(self, stats: Mapping[str, float]) -> None:
        """Take over the engine's own counters, as gauges: deltaserve_engine{counter="forward_cpu_s"} and so on."""
        for name, value in stats.items():
            self.engine.labels(name).set(value)

    def show_upstreams(self, members: Sequence[Mapping[str, Any]]) -> None:
        """Take over what the black boxes' states are now."""
        for member in members:
            name = member["name"]
            self.upstreams.labels(name, "serving").set(member["state"] == "serving")
            for counter in ("answers", "failures", "refusals", "times_ejected", "waiting_calls"):
                self.upstreams.labels(name, counter).set(member.get(counter, 0))

    def exposition(self, *, by_key: bool = True) -> bytes:
        """Prometheus text format; without `by_key` nothing tells who the clients are."""
        registry = self._whole()
        if by_key:
            return generate_latest(registry)
        shown = CollectorRegistry(auto_describe=False)
        shown.register(_WithoutKeys(registry))
        return generate_latest(shown)

    def families(self) -> list[Metric]:
        """All that is counted, added up over the server's processes."""
        return list(self._whole().collect())

    def _whole(self) -> CollectorRegistry:
        if SHARED not in os.environ:
            return self.registry
        MultiProcessCollector(registry := CollectorRegistry())  # type: ignore[no-untyped-call]
        return registry


class _WithoutKeys(Collector):
    """What a registry holds, but for what is told by key."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterator[Metric]:
        return (family for family in self._registry.collect() if not family.name.startswith(BY_KEY))
