"""What an answer costs at the black box: in `usage`, and by upstream in /metrics."""

from collections.abc import Iterator
from typing import Any

import httpx2 as httpx
import pytest

from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer
from deltaserve.server.billing import Bill, Item
from deltaserve.server.upstream.cost import Cost
from tests.support.app import RunningApp, ScriptedBlackBox, byte_tokenizer, running_app
from tests.support.blackbox import parse_events

PROMPT = list(b"abc")
UPSTREAM = '{upstream="scripted"}'


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return byte_tokenizer(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture
def app(tokenizer: Tokenizer) -> Iterator[RunningApp]:
    with running_app(tokenizer, early_restarts=False) as running:
        yield running


def ask(app: RunningApp, **body: Any) -> httpx.Response:
    asked = {"model": "tiny", "prompt": PROMPT, "max_tokens": 8, "temperature": 0, "ignore_eos": True, **body}
    answer = httpx.post(f"{app.url}/v1/completions", json=asked)
    assert answer.status_code == 200, answer.text
    return answer


def cost(calls: int, prompt: int, completion: int, wasted: int) -> dict[str, int]:
    return {
        "upstream_calls": calls, "upstream_prompt_tokens": prompt, "upstream_cached_tokens": 0,
        "upstream_completion_tokens": completion, "upstream_wasted_tokens": wasted,
    }  # fmt: skip


def metric(app: RunningApp, name: str) -> float:
    lines = httpx.get(f"{app.url}/metrics").text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(f"deltaserve_{name}{UPSTREAM} "))


def test_an_answer_of_one_call_costs_what_it_has(app: RunningApp) -> None:
    assert ask(app).json()["usage"]["deltaserve"] == cost(1, 3, 8, 0)


def test_a_streamed_answer_says_the_same_in_its_last_chunk(app: RunningApp) -> None:
    answer = ask(app, stream=True, stream_options={"include_usage": True})
    assert parse_events(answer.content)[-2]["usage"]["deltaserve"] == cost(1, 3, 8, 0)


def test_each_replaced_token_sends_the_prompt_again_and_is_wasted(app: RunningApp) -> None:
    """The bias forbids what the black box says at its second position, so that a second call is made behind it."""
    answer = ask(app, logit_bias={str(ord("e")): -100}).json()
    assert answer["choices"][0]["text"][0] == "d" and answer["choices"][0]["text"][1] != "e"
    said = answer["usage"]["deltaserve"]
    assert (said["upstream_calls"], said["upstream_prompt_tokens"]) == (2, 3 + 5)
    assert said["upstream_completion_tokens"] - said["upstream_wasted_tokens"] == 7
    assert said["upstream_wasted_tokens"] >= 1


def test_several_choices_are_one_bill(app: RunningApp) -> None:
    assert ask(app, n=3).json()["usage"]["deltaserve"] == cost(3, 9, 24, 0)


def test_metrics_count_by_upstream_what_usage_says(app: RunningApp) -> None:
    ask(app)
    ask(app, logit_bias={str(ord("e")): -100})
    assert metric(app, "upstream_prompt_tokens_total") == 3 + 3 + 5
    assert metric(app, "upstream_completion_tokens_total") >= 16
    assert metric(app, "upstream_wasted_tokens_total") >= 1
    assert 'deltaserve_upstream{counter="serving",upstream="scripted"} 1.0' in httpx.get(f"{app.url}/metrics").text


def test_an_answer_that_fails_is_billed_in_the_metrics_all_the_same(tokenizer: Tokenizer) -> None:
    box = ScriptedBlackBox(fault=RuntimeError("It fails."), fault_after=3)
    with running_app(tokenizer, box) as app:
        answer = httpx.post(f"{app.url}/v1/completions", json={"prompt": PROMPT, "max_tokens": 8, "temperature": 0})
        assert answer.status_code == 500
        assert metric(app, "upstream_completion_tokens_total") == 3


def test_what_is_wasted_is_split_by_what_each_upstream_generated() -> None:
    bill = Bill.of({"a": Cost(2, 10, 30), "b": Cost(1, 20, 10)}, kept=20)
    assert bill.items == {"a": Item(2, 10, 30, 15), "b": Item(1, 20, 10, 5)}
    assert bill.total == Item(3, 30, 40, 20)
    assert Bill.of({"a": Cost(1, 10, 0)}, kept=0).total == Item(1, 10, 0, 0)
    assert Bill.of({"a": Cost(1, 10, 3)}, kept=9).total.wasted_tokens == 0
    bill.add(Bill.of({"b": Cost(1, 1, 1)}, kept=0))
    assert bill.items["b"] == Item(2, 21, 11, 6)
