"""Stricter servers, paces and faults, over real HTTP."""

import json
import math
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

from deltaserve.errors import BadCheckpoint
from deltaserve.offset_models.demo.blackbox import Options, parse
from deltaserve.offset_models.demo.blackbox.generation.model import load
from deltaserve.offset_models.demo.blackbox.http.errors import ApiError
from deltaserve.offset_models.demo.blackbox.http.faults import Fault, FaultPlan
from deltaserve.offset_models.demo.blackbox.http.schema import CompletionRequest, sampling_params
from tests.support.blackbox import BlackBoxProcess, blackbox, make_model, parse_events

PROMPT = [70, 71, 72, 73]
COMPLETIONS = "/v1/completions"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def strict(model: Path) -> Iterator[BlackBoxProcess]:
    refusals = ["--string-tokens-only", "--no-id-prompts", "--no-prompt-lists", "--no-prompt-logprobs", "--no-grammars"]
    others = [
        "--processed-logprobs",
        "--api-key",
        "one",
        "--api-key",
        "two",
        "--tokens-per-chunk",
        "4",
        "--no-grammars",
    ]
    with blackbox(model, *refusals, *others) as running:
        running.client.headers["authorization"] = "Bearer two"
        yield running


@pytest.fixture(scope="module")
def paced(model: Path) -> Iterator[BlackBoxProcess]:
    flags = ["--ms-per-token", "10", "--first-token-ms", "30", "--first-token-cold-ms", "400"]
    with blackbox(model, *flags) as running:
        yield running


@pytest.fixture(scope="module")
def greedy_by_default(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_model(tmp_path_factory.mktemp("recommending"))
    (folder / "generation_config.json").write_text(json.dumps({"temperature": 0.0, "repetition_penalty": 1.0}))
    return folder


@pytest.fixture(scope="module")
def greedy(greedy_by_default: Path) -> Iterator[BlackBoxProcess]:
    with blackbox(greedy_by_default, "--unmasked-grammars") as running:
        yield running


def different_texts(running: BlackBoxProcess) -> dict[str, int]:
    """Of four draws each, by how the request names its temperature."""
    ways = {"left out": {}, "null": {"temperature": None}, "given": {"temperature": 1.0}}
    bodies = {name: {"max_tokens": 12, "ignore_eos": True, **body} for name, body in ways.items()}
    return {
        name: len({running.complete(PROMPT, seed=seed, **body)["choices"][0]["text"] for seed in range(4)})
        for name, body in bodies.items()
    }


def test_what_a_request_leaves_out_is_as_the_folder_recommends(greedy: BlackBoxProcess) -> None:
    texts = different_texts(greedy)
    assert texts["left out"] == texts["null"] == 1 < texts["given"]


def test_what_the_folder_recommends_can_be_turned_off(greedy_by_default: Path) -> None:
    with blackbox(greedy_by_default, "--generation-config", "vllm") as running:
        texts = different_texts(running)
    assert min(texts["left out"], texts["given"]) > 1


def test_greedy_by_recommendation_gives_one_answer_and_refuses_more_as_vllm_does(greedy: BlackBoxProcess) -> None:
    refused = greedy.post(COMPLETIONS, prompt=PROMPT, n=2)
    assert refused.status_code == 400 and "greedy" in refused.json()["error"]["message"]
    message = {"messages": [{"role": "user", "content": "a"}], "max_tokens": 4}
    chats = [greedy.post("/v1/chat/completions", **message, seed=seed).json() for seed in range(3)]
    assert len({chat["choices"][0]["message"]["content"] for chat in chats}) == 1


def test_a_recommendation_that_cannot_be_is_named_before_anything_is_served(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "model")
    (folder / "generation_config.json").write_text(json.dumps({"top_p": 7}))
    with pytest.raises(BadCheckpoint, match="`top_p` must be"):
        load(Options(model=folder))
    with pytest.raises(ValueError, match="generation-config must be auto or vllm"):
        Options(generation_config="none")


def test_a_key_is_asked_for_where_one_is_set(strict: BlackBoxProcess) -> None:
    for header in ({"authorization": "Bearer wrong"}, {"authorization": ""}):
        response = strict.client.post(COMPLETIONS, json={"prompt": "a"}, headers=header)
        assert (response.status_code, response.json()) == (401, {"error": "Unauthorized"})
    assert strict.client.get("/health", headers={"authorization": ""}).status_code == 200


def test_a_strict_server_refuses_what_it_was_told_to(strict: BlackBoxProcess) -> None:
    for body in ({"prompt": PROMPT}, {"prompt": ["a", "b"]}, {"prompt": "a", "prompt_logprobs": 1}):
        assert strict.post(COMPLETIONS, **body).status_code == 400
    echoed = strict.post(COMPLETIONS, prompt="a", echo=True, logprobs=1)
    assert echoed.status_code == 400


def test_a_string_only_server_gives_no_ids(strict: BlackBoxProcess) -> None:
    choice = strict.complete("The", max_tokens=2, logprobs=2, return_tokens_as_token_ids=True, return_token_ids=True)[
        "choices"
    ][0]
    assert choice["token_ids"] is None
    assert choice["prompt_token_ids"] is None
    assert not any(token.startswith("token_id:") for token in choice["logprobs"]["tokens"])


def test_processed_logprobs_include_temperature_and_masks(strict: BlackBoxProcess) -> None:
    def first(**body: Any) -> dict[str, float]:
        choice = strict.complete("The", max_tokens=1, logprobs=4, seed=1, **body)["choices"][0]
        return dict(choice["logprobs"]["top_logprobs"][0])

    assert max(first(temperature=0.3).values()) > max(first(temperature=3).values())
    assert -9999.0 in first(temperature=1, top_k=1).values()
    assert max(first(temperature=0, logit_bias={"200": 100}).values()) == pytest.approx(0, abs=1e-4)


def listed(running: BlackBoxProcess, **body: Any) -> tuple[str, list[dict[str, float]]]:
    """A greedy answer's text and what is possible of its lists."""
    asked = {"temperature": 0, "max_tokens": 12, "logprobs": 5, "return_tokens_as_token_ids": True, **body}
    choice = running.complete(PROMPT, **asked)["choices"][0]
    tables = choice["logprobs"]["top_logprobs"]
    return choice["text"], [{name: value for name, value in table.items() if value > -9999} for table in tables]


@pytest.mark.parametrize(
    "form",
    [
        {"structured_outputs": {"choice": ["yes", "yet"]}},
        {"structured_outputs": {"regex": "ye[st]"}},
        {"structured_outputs": {"grammar": 'root ::= "ye" ("s" | "t")'}},
        {"structured_outputs": {"json": {"enum": ["s", "t"]}}},
        {"response_format": {"type": "json_schema", "json_schema": {"schema": {"enum": ["s", "t"]}}}},
    ],
    ids=str,
)
def test_under_a_grammar_lists_are_masked_as_in_vllm_unless_they_are_to_be_the_models_own(
    paced: BlackBoxProcess, greedy: BlackBoxProcess, form: dict[str, Any]
) -> None:
    (text, masked), (same, unmasked) = listed(paced, **form), listed(greedy, **form)
    _, free = listed(greedy)
    assert text == same and text in {"yes", "yet", '"s"', '"t"'}
    assert unmasked[0].keys() >= free[0].keys()  # and the drawn token
    for table in masked:
        assert len(table) <= 2 and sum(map(math.exp, table.values())) == pytest.approx(1, abs=1e-4)


def test_several_answers_go_their_own_ways_through_a_grammar(paced: BlackBoxProcess) -> None:
    answer = paced.complete(PROMPT, n=8, seed=1, max_tokens=8, structured_outputs={"regex": "[a-z]{3}[0-9]"})
    texts = [choice["text"] for choice in answer["choices"]]
    assert len(set(texts)) > 4 and all(re.fullmatch("[a-z]{3}[0-9]", text) for text in texts)


@pytest.mark.parametrize(
    "form",
    [
        {"structured_outputs": {"json": {}, "regex": "a"}},
        {"structured_outputs": {"structural_tag": "{}"}},
        {"structured_outputs": {"regex": "(("}},
        {"structured_outputs": {"grammar": "start: b"}},
        {"response_format": {"type": "xml"}},
    ],
    ids=str,
)
def test_a_grammar_that_cannot_be_is_refused(paced: BlackBoxProcess, form: dict[str, Any]) -> None:
    refusal = paced.post(COMPLETIONS, prompt=PROMPT, **form)
    assert (refusal.status_code, refusal.json()["error"]["type"]) == (400, "BadRequestError")


def test_a_server_without_grammars_says_so(strict: BlackBoxProcess) -> None:
    assert strict.post(COMPLETIONS, prompt="a", structured_outputs={"regex": "a"}).status_code == 400


def test_several_tokens_travel_in_a_chunk(strict: BlackBoxProcess) -> None:
    events = strict.events(COMPLETIONS, prompt="The", max_tokens=10, ignore_eos=True, logprobs=1)
    assert [len(e["choices"][0]["logprobs"]["tokens"]) for e in events[:-1]] == [4, 4, 2]


def test_a_server_without_logprobs_says_so() -> None:
    request = CompletionRequest(prompt="a")
    for k in (0, 5):
        with pytest.raises(ApiError, match="logprobs are disabled") as refusal:
            sampling_params(request, k, 1, 300, Options(no_logprobs=True))
        assert (refusal.value.status, refusal.value.param) == (400, "logprobs")
    assert sampling_params(request, None, 1, 300, Options(no_logprobs=True)).logprobs is None


def test_flags_that_begin_with_no_switch_their_setting_on() -> None:
    options = parse(["--no-id-prompts", "--no-prefix-cache", "--no-prompt-tokens-details", "--api-key", "k"])
    assert (options.no_id_prompts, options.no_prefix_cache, options.no_logprobs) == (True, True, False)
    assert (options.prompt_tokens_details, options.api_key) == (False, ("k",))


def test_faults_on_the_command_line_hit_the_requests_they_count() -> None:
    plan = FaultPlan("2=status:503/7,4=nan")
    assert [plan.next(None) for _ in range(5)] == [None, Fault("status", 503, 7), None, Fault("nan"), None]
    with pytest.raises(ValueError, match="N=KIND"):
        FaultPlan("nan")


def test_an_armed_fault_hits_its_request_and_no_other(paced: BlackBoxProcess) -> None:
    paced.post("/faults", fault="status:503/7", after=1)
    answers = [paced.post(COMPLETIONS, prompt="a", max_tokens=1) for _ in range(3)]
    assert [r.status_code for r in answers] == [200, 503, 200]
    assert answers[1].headers["retry-after"] == "7"
    assert answers[1].json()["error"]["code"] == 503


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_frees_the_work_at_once(paced: BlackBoxProcess, stream: bool) -> None:
    before = paced.stats()
    body = {"prompt": PROMPT, "max_tokens": 250, "ignore_eos": True, "stream": stream}
    with httpx.Client(base_url=paced.url, timeout=0.8) as client:
        if stream:
            with client.stream("POST", COMPLETIONS, json=body) as response:
                next(response.iter_raw())
        else:
            with pytest.raises(httpx.ReadTimeout):
                client.post(COMPLETIONS, json=body)
    after = wait_until_idle(paced)
    assert after["aborted_requests"] == before["aborted_requests"] + 1
    assert 1 <= after["generation_tokens_computed"] - before["generation_tokens_computed"] < 200
    time.sleep(0.1)
    assert paced.stats()["generation_tokens_computed"] == after["generation_tokens_computed"]


def wait_until_idle(server: BlackBoxProcess) -> dict[str, int]:
    deadline = time.monotonic() + 1.0
    while (counts := server.stats())["running"] and time.monotonic() < deadline:
        time.sleep(0.02)
    assert counts["running"] == 0
    return counts


def test_a_warm_prompt_answers_sooner_than_a_cold_one_and_streams_do_not_slow_each_other(
    paced: BlackBoxProcess,
) -> None:
    def first_token_s(prompt: list[int]) -> float:
        began = time.monotonic()
        with paced.client.stream("POST", COMPLETIONS, json={"prompt": prompt, "stream": True, "max_tokens": 3}) as r:
            next(r.iter_raw())
            return time.monotonic() - began

    cold, warm = first_token_s([90, 91, 92, 93]), first_token_s([90, 91, 92, 93])
    assert cold >= 0.39
    assert warm < cold
    began = time.monotonic()
    paced.complete(PROMPT, n=16, max_tokens=30, ignore_eos=True)
    assert time.monotonic() - began >= 0.03 + 29 * 0.01 - 0.01  # never ahead of its pace


def tokens_of(events: list[Any]) -> int:
    return sum(len(e["choices"]) for e in events if e != "[DONE]" and e.get("choices"))


BODY = {"prompt": PROMPT, "max_tokens": 8, "ignore_eos": True, "logprobs": 4, "return_tokens_as_token_ids": True}


def arm(server: BlackBoxProcess, fault: str) -> None:
    server.client.request("DELETE", "/faults")
    assert server.post("/faults", fault=fault).status_code == 200


def streamed(server: BlackBoxProcess, timeout_s: float = 20) -> tuple[bytes, Exception | None]:
    raw = b""
    with httpx.Client(base_url=server.url, timeout=timeout_s) as client:
        try:
            with client.stream("POST", COMPLETIONS, json={**BODY, "stream": True}) as response:
                for part in response.iter_raw():
                    raw += part
        except httpx.HTTPError as error:
            return raw, error
    return raw, None


def test_a_disconnect_comes_after_so_many_tokens(paced: BlackBoxProcess) -> None:
    arm(paced, "disconnect:5")
    raw, error = streamed(paced)
    assert isinstance(error, httpx.RemoteProtocolError)
    assert tokens_of(parse_events(raw)) == 5
    whole, no_error = streamed(paced)
    assert no_error is None
    assert tokens_of(parse_events(whole)) == 8


def test_a_stall_sends_nothing_more_and_ends_with_the_client(paced: BlackBoxProcess) -> None:
    arm(paced, "stall:2")
    raw, error = streamed(paced, timeout_s=1.0)
    assert isinstance(error, httpx.ReadTimeout)
    assert tokens_of(parse_events(raw)) == 2
    time.sleep(0.2)
    assert paced.stats()["running"] == 0


def test_an_error_event_is_followed_by_done_as_in_vllm(paced: BlackBoxProcess) -> None:
    arm(paced, "error:3")
    events = parse_events(streamed(paced)[0])
    assert tokens_of(events) == 3
    assert events[-2]["error"]["code"] == 500
    assert events[-1] == "[DONE]"


def test_a_truncated_frame_is_no_json(paced: BlackBoxProcess) -> None:
    arm(paced, "truncate:3")
    raw, error = streamed(paced)
    assert error is None
    *whole, broken = [frame for frame in raw.split(b"\n\n") if frame]
    assert len(whole) == 3
    with pytest.raises(json.JSONDecodeError):
        json.loads(broken.removeprefix(b"data: "))


def test_an_answer_can_end_without_a_finish_reason(paced: BlackBoxProcess) -> None:
    arm(paced, "end:3")
    events = parse_events(streamed(paced)[0])
    assert tokens_of(events) == len(events) == 3
    assert events[-1]["choices"][0]["finish_reason"] is None


DAMAGED = {
    "nan": lambda top: any(v != v for _, v in top),
    "positive": lambda top: any(v > 0 for _, v in top),
    "unsorted": lambda top: [v for _, v in top] == sorted(v for _, v in top),
    "repeated": lambda top: len({k for k, _ in top}) < len(top),
    "range": lambda top: any(int(k.removeprefix("token_id:")) > 359 for k, _ in top),
    "heavy": lambda top: sum(2.718**v for _, v in top) > 1.1,
    "empty": lambda top: top == [],
}


@pytest.mark.parametrize("kind", DAMAGED)
@pytest.mark.parametrize("stream", [True, False])
def test_a_damaged_list_is_damaged_at_its_position_only(paced: BlackBoxProcess, kind: str, stream: bool) -> None:
    response = paced.client.post(
        COMPLETIONS, json={**BODY, "stream": stream, "temperature": 0}, headers={"x-fault": f"{kind}:2"}
    )
    frames = response.content.split(b"\n\n") if stream else [response.content]
    tops: list[list[tuple[str, float]]] = []
    for frame in frames:
        if frame and b"[DONE]" not in frame:
            answer = json.loads(frame.removeprefix(b"data: "), object_pairs_hook=lambda pairs: pairs)
            choice = dict(dict(answer)["choices"][0])
            tops.extend(dict(choice["logprobs"])["top_logprobs"])
    assert [DAMAGED[kind](top) for top in tops] == [at == 2 for at in range(8)]


def test_an_unknown_fault_is_refused(paced: BlackBoxProcess) -> None:
    assert paced.post("/faults", fault="explode").status_code == 400
    response = paced.client.post(COMPLETIONS, json=BODY, headers={"x-fault": "nan:x"})
    assert response.status_code == 400
