"""Past a bound: 429, 503 or 504, with Retry-After where a retry helps; never a hang."""

import json
import socket
import threading
from typing import Any

import httpx2 as httpx
import openai
import pytest

from deltaserve.errors import RateLimited, UpstreamUnreachable
from deltaserve.server.api.errors import error_headers
from tests.support.app import RunningApp, ScriptedBlackBox, eventually, running_app

BODY = {"model": "tiny", "prompt": "hello", "temperature": 0, "max_tokens": 50}


def in_background(app: RunningApp, count: int) -> list[threading.Thread]:
    def ask() -> None:
        httpx.post(f"{app.url}/v1/completions", json=BODY, timeout=20)

    threads = [threading.Thread(target=ask) for _ in range(count)]
    for thread in threads:
        thread.start()
    return threads


def test_who_is_refused_together_is_told_other_times_to_come_back() -> None:
    waits = {error_headers(RateLimited("Busy.", retry_after_s=0.2))["retry-after-ms"] for _ in range(20)}
    assert len(waits) > 1 and all(1000 <= int(wait) <= 1500 for wait in waits)


def test_a_full_queue_is_a_rate_limit_error_with_retry_after(tokenizer: Any) -> None:
    with running_app(tokenizer, ScriptedBlackBox(delay_s=0.02), max_streams=1, max_queue=1, retry_after_s=2) as app:
        busy = in_background(app, 2)
        eventually(lambda: app.version.pins == 2)
        client = openai.OpenAI(base_url=f"{app.url}/v1", api_key="k", max_retries=0)
        with client, pytest.raises(openai.RateLimitError) as caught:
            client.completions.create(**BODY)
        headers = caught.value.response.headers
        assert (headers["retry-after"], headers["x-should-retry"]) == ("2", "true")
        assert 2000 <= int(headers["retry-after-ms"]) <= 3000
        for thread in busy:
            thread.join()
        eventually(app.idle)


def test_who_finds_no_room_is_refused_before_the_body_has_come(tokenizer: Any) -> None:
    with running_app(tokenizer, ScriptedBlackBox(first_delay_s=60), max_streams=1, max_queue=0) as app:
        address = app.url.removeprefix("http://").split(":")
        body = json.dumps(BODY).encode()
        header = b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body)
        with socket.create_connection(address) as first, socket.create_connection(address, timeout=20) as other:
            first.sendall(header + body)
            eventually(lambda: app.box.open == 1)
            other.sendall(header)
            assert other.recv(64).startswith(b"HTTP/1.1 429 ")
        eventually(app.idle)


def test_waiting_too_long_is_a_rate_limit_error(tokenizer: Any) -> None:
    with running_app(tokenizer, ScriptedBlackBox(delay_s=0.02), max_streams=1, queue_timeout_s=0.1) as app:
        busy = in_background(app, 1)
        eventually(lambda: app.box.open == 1)
        response = httpx.post(f"{app.url}/v1/completions", json=BODY)
        assert response.status_code == 429
        assert "0.1 s" in response.json()["error"]["message"]
        busy[0].join()


def test_more_choices_than_places_take_turns_without_timing_out(tokenizer: Any) -> None:
    with running_app(tokenizer, ScriptedBlackBox(delay_s=0.01), max_streams=2, queue_timeout_s=0.2) as app:
        response = httpx.post(f"{app.url}/v1/completions", json={**BODY, "max_tokens": 15, "n": 6}, timeout=10)
        assert response.status_code == 200
        assert len(response.json()["choices"]) == 6


def test_more_choices_than_there_can_ever_be_are_a_400(tokenizer: Any) -> None:
    with running_app(tokenizer, max_streams=1, max_queue=1) as app:
        assert httpx.post(f"{app.url}/v1/completions", json={**BODY, "n": 3}).status_code == 400


def test_an_answer_that_takes_too_long_is_a_504(tokenizer: Any) -> None:
    with running_app(tokenizer, ScriptedBlackBox(delay_s=0.02), total_timeout_s=0.2) as app:
        response = httpx.post(f"{app.url}/v1/completions", json=BODY)
        assert response.status_code == 504
        assert response.json()["error"]["code"] == "upstream_timeout"
        eventually(app.idle)


def test_a_black_box_that_is_gone_makes_the_server_unready_until_it_is_back(tokenizer: Any) -> None:
    with running_app(tokenizer, upstream_ping_s=0.02) as app:
        assert httpx.get(f"{app.url}/health/ready").status_code == 200
        app.box.down = UpstreamUnreachable("The black box does not answer.")
        eventually(lambda: httpx.get(f"{app.url}/health/ready").status_code == 503)
        assert httpx.get(f"{app.url}/health/live").status_code == 200
        app.box.down = None
        eventually(lambda: httpx.get(f"{app.url}/health/ready").status_code == 200)


def test_a_dead_engine_makes_the_server_unready(tokenizer: Any) -> None:
    with running_app(tokenizer) as app:
        app.registry.alive = False
        assert httpx.get(f"{app.url}/health/ready").status_code == 503


def test_the_metrics_count_what_happened(tokenizer: Any) -> None:
    with running_app(tokenizer) as app:
        httpx.post(f"{app.url}/v1/completions", json={**BODY, "n": 2})
        text = httpx.get(f"{app.url}/metrics").text
        figures = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
        assert figures["deltaserve_prompt_tokens_total"] == "5.0"
        assert figures["deltaserve_generation_tokens_total"] == "100.0"
        assert figures["deltaserve_upstream_calls_total"] == "2.0"
        assert figures["deltaserve_accepted_tokens_total"] == "100.0"
        assert figures["deltaserve_num_requests_running"] == "0.0"
        assert figures['deltaserve_http_responses_total{status="200"}'] == "1.0"
        assert figures["deltaserve_time_to_first_token_seconds_count"] == "2.0"


def test_metrics_can_be_turned_off(tokenizer: Any) -> None:
    with running_app(tokenizer, metrics=False) as app:
        assert httpx.get(f"{app.url}/metrics").status_code == 404
