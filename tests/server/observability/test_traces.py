"""Traces as a collector gets them: by OTLP over HTTP, from a server in front of a real black box."""

import sys
from pathlib import Path

import httpx2 as httpx
import pytest

from deltaserve.errors import NotConfigured
from deltaserve.server.app import create_app
from deltaserve.server.observability.spans import NEEDED, tracer_for
from deltaserve.server.settings import Settings
from tests.support.app import serve
from tests.support.blackbox import blackbox, make_model
from tests.support.collector import collecting
from tests.support.demo_weights import make_demo_weights

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PROMPT = "The river runs north"


def test_a_request_is_one_trace_with_its_wait_its_session_and_its_calls_and_no_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_demo_weights(tmp_path / "weights")
    with blackbox(make_model(tmp_path / "box", seed=3)) as box, collecting() as collector:
        monkeypatch.setenv("FASTAPI_OTEL_AUTO_CONFIGURE", "true")  # FastAPI's own spans and logs hold text
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        settings = Settings(
            upstream_url=box.url, offsets_root=root, offset="registry-erasure", base=root / "base", torch_threads=1,
            state_folder=tmp_path / "state", otlp_traces_endpoint=f"{collector.url}/v1/traces",
        )  # fmt: skip
        with serve(create_app(settings)) as (_, url):
            headers = {"traceparent": f"00-{TRACE}-{PARENT}-01", "x-request-id": "r-1"}
            asked = {"prompt": PROMPT, "max_tokens": 12, "temperature": 0, "n": 2}
            answer = httpx.post(f"{url}/v1/completions", json=asked, headers=headers, timeout=60).json()
            httpx.get(f"{url}/health/ready")
            refused = httpx.post(f"{url}/v1/completions", json={"prompt": PROMPT, "model": "none"}, timeout=60)
    assert refused.status_code == 404
    assert collector.services == {"deltaserve"}
    requests = [span for span in collector.named("POST /v1/completions") if "http.route" in span["values"]]
    first, second = sorted(requests, key=lambda span: span["trace"] != TRACE)
    assert (first["trace"], first["parent"]) == (TRACE, PARENT)
    assert first["values"]["http.response.status_code"] == 200
    assert first["values"]["deltaserve.request_id"] == "r-1"
    assert first["values"]["gen_ai.usage.output_tokens"] == answer["usage"]["completion_tokens"]
    assert (second["values"]["http.response.status_code"], second["values"]["error.type"]) == (404, "model_not_found")
    answers = collector.named("answer")
    assert {span["values"]["deltaserve.choice"] for span in answers} == {0, 1}
    assert {span["parent"] for span in answers} == {first["id"]}
    ids = {span["id"] for span in answers}
    for part in ("queue", "engine.open"):
        assert {span["parent"] for span in collector.named(part)} == ids
    calls = [span for span in collector.spans if span["parent"] in ids and span["values"].get("url.path")]
    assert len(calls) >= 2
    assert all(span["values"]["server.address"] == "127.0.0.1" for span in calls)
    assert not collector.named("GET /health/ready")
    words = {*PROMPT.split(), *(choice["text"].strip()[:8] for choice in answer["choices"])} - {"", "The"}
    assert not [span["name"] for span in collector.spans if any(word in span["text"] for word in words)]


@pytest.mark.parametrize("address", ["collector:4318", "ftp://collector/v1/traces", "http://", ""])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="otlp_traces_endpoint"):
        Settings(otlp_traces_endpoint=address)


def test_without_the_extra_a_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    assert tracer_for(None) is None
    monkeypatch.setitem(sys.modules, "deltaserve.server.observability.otel_traces", None)
    with pytest.raises(NotConfigured) as refused:
        tracer_for("http://127.0.0.1:1/v1/traces")
    assert refused.value.message == NEEDED


def test_a_collector_that_is_away_holds_nothing_up(tmp_path: Path) -> None:
    root = make_demo_weights(tmp_path / "weights")
    with blackbox(make_model(tmp_path / "box", seed=3)) as box:
        settings = Settings(
            upstream_url=box.url, offsets_root=root, offset="registry-erasure", base=root / "base", torch_threads=1,
            state_folder=tmp_path / "state", otlp_traces_endpoint="http://127.0.0.1:9/v1/traces",
        )  # fmt: skip
        with serve(create_app(settings)) as (_, url):
            answer = httpx.post(f"{url}/v1/completions", json={"prompt": PROMPT, "max_tokens": 3}, timeout=60)
            assert answer.status_code == 200
