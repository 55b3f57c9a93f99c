"""The embedded black box answers in the shapes that a real vLLM was recorded giving."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.blackbox import BlackBoxProcess, blackbox, make_model, parse_events

RECORDINGS = Path(__file__).parents[2] / "fixtures" / "recordings" / "vllm"
PROMPT = {(979, 944): [70, 71], (979, 944, 300): [70, 71, 72]}  # the recorded vocabulary is larger than the tiny one


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BlackBoxProcess]:
    model = make_model(tmp_path_factory.mktemp("model"))
    with blackbox(model, "--no-prompt-tokens-details") as running:  # recorded without that flag of vLLM's
        yield running


def recorded_request(name: str) -> tuple[str, dict[str, Any]]:
    recorded = json.loads((RECORDINGS / f"{name}.req.json").read_text())
    return recorded["path"], adapted(recorded["body"]) | {"ignore_eos": True}


SMALLER: dict[str, Any] = {"logit_bias": {"200": 100}, "logprob_token_ids": [5, 6, 7, 100]}


def adapted(value: Any) -> Any:
    """The same request for the tiny vocabulary."""
    if isinstance(value, dict):
        return {k: SMALLER[k] if k in SMALLER else adapted(v) for k, v in value.items()}
    if isinstance(value, list):
        return PROMPT.get(tuple(v for v in value if isinstance(v, int)), [adapted(v) for v in value])
    return value


MAPS = ("top_logprobs", "prompt_logprobs")  # keyed by tokens
SERIES = ("token_ids", "prompt_token_ids", "bytes", "tokens", "token_strs", "text_offset", "token_logprobs")


def skeleton(value: Any, key: str = "") -> Any:
    """Keys and types without the figures; how many positions a series has is not a matter of shape."""
    if key in MAPS + SERIES and isinstance(value, list):
        return sorted({json.dumps(entry_shape(entry, key)) for entry in value if entry is not None})
    if isinstance(value, dict):
        return {k: skeleton(v, k) for k, v in value.items()}
    if isinstance(value, list):
        return [skeleton(v) for v in value]
    return type(value).__name__


def entry_shape(entry: Any, key: str) -> Any:
    """A map from tokens is as its values are; a list of chat alternatives is as they are."""
    if key in MAPS and isinstance(entry, dict) and "logprob" not in entry:
        return sorted({json.dumps(entry_shape(v, key), sort_keys=True) for v in entry.values()})
    return sorted(entry) if isinstance(entry, dict) else type(entry).__name__


def as_text(value: Any) -> str:
    """JSON objects have no order: compare sets of keys."""
    return json.dumps(value, sort_keys=True)


WHOLE = [
    "cmpl_ids_tokids",
    "cmpl_lp0",
    "cmpl_lp20",
    "cmpl_logit_bias",
    "cmpl_logprob_token_ids_lp0",
    "cmpl_prompt_logprobs",
    "cmpl_return_token_ids",
    "cmpl_batch_prompts",
    "cmpl_echo",
    "cmpl_echo_mt0",
    "cmpl_stop",
    "raw_T0.5",
    "chat_cont",
    "chat_cont_tokids",
    "chat_prompt_lp",
    "chat_logprob_token_ids",
    "tokenize_prompt",
    "tokenize_chat",
]


@pytest.mark.parametrize("name", WHOLE)
def test_a_whole_answer_has_the_recorded_keys_and_types(server: BlackBoxProcess, name: str) -> None:
    path, body = recorded_request(name)
    response = server.post(path, **body)
    assert response.status_code == 200, response.text
    recorded = json.loads((RECORDINGS / f"{name}.json").read_text())
    assert as_text(skeleton(response.json())) == as_text(skeleton(recorded))


@pytest.mark.parametrize("name", ["cmpl_ids_tokids_stream", "cmpl_lp20_stream", "cmpl_n2_stream", "chat_stream"])
def test_a_stream_has_the_recorded_frames(server: BlackBoxProcess, name: str) -> None:
    path, body = recorded_request(name)
    ours = server.events(path, **body)
    theirs = parse_events((RECORDINGS / f"{name}.sse").read_bytes())
    assert ours[-1] == theirs[-1] == "[DONE]"
    assert sorted(map(frame_shape, ours)) == sorted(map(frame_shape, theirs))


def frame_shape(frame: Any) -> str:
    return as_text(skeleton(frame))


ERRORS = ["bad_model", "cmpl_lp21_err", "chat_lp21_err", "chat_both_err", "chat_noflag_toplp", "cmpl_logprob_token_ids"]


@pytest.mark.parametrize("name", ERRORS)
def test_an_error_reads_as_recorded(server: BlackBoxProcess, name: str) -> None:
    path, body = recorded_request(name)
    response = server.post(path, **body)
    recorded = json.loads((RECORDINGS / f"{name}.json").read_text())
    assert response.status_code == recorded["error"]["code"]
    assert response.json() == recorded


def test_minus_one_asks_for_the_whole_vocabulary_and_meets_the_limit(server: BlackBoxProcess) -> None:
    message = server.post("/v1/completions", prompt="a", logprobs=-1).json()["error"]["message"]
    assert message.startswith("Requested sample logprobs of ")
    assert "greater than max allowed: 20 (parameter=logprobs, value=" in message


def test_a_prompt_that_fills_the_context_leaves_no_room(server: BlackBoxProcess) -> None:
    recorded = json.loads((RECORDINGS / "too_long.json").read_text())
    assert server.post("/v1/completions", prompt=[70] * 256, max_tokens=10).json() == recorded
    longer = server.post("/v1/completions", prompt=[70] * 257, max_tokens=10)
    assert longer.status_code == 400
    assert "maximum context length is 256 tokens" in longer.json()["error"]["message"]


def test_ids_outside_the_tokenizer_are_refused_even_where_the_model_has_rows(server: BlackBoxProcess) -> None:
    for wrong in (-1, 365, 99999):
        response = server.post("/v1/completions", prompt=[70, wrong], max_tokens=1)
        assert response.status_code == 400
        assert response.json()["error"]["message"] == f"Token id {wrong} is out of vocabulary"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"prompt": "a", "temperature": -1}, "temperature"),
        ({"prompt": "a", "top_p": 0}, "top_p"),
        ({"prompt": "a", "n": 0}, "n"),
        ({"prompt": "a", "n": 2, "temperature": 0}, "n"),
        ({"prompt": "a", "max_tokens": "many"}, "max_tokens"),
        ({"prompt": "a", "max_tokens": 0}, "max_tokens"),
        ({"prompt": "a", "stream": True, "prompt_logprobs": 1}, "prompt_logprobs"),
        ({"prompt": "a", "stream_options": {"include_usage": True}}, "stream_options"),
        ({"prompt": "a", "logit_bias": {"99999": 1}}, "logit_bias"),
        ({"prompt": {}}, "prompt"),
        ({"prompt": []}, "prompt"),
    ],
)
def test_a_value_that_cannot_be_is_a_400_that_names_the_field(
    server: BlackBoxProcess, body: dict[str, Any], param: str
) -> None:
    response = server.post("/v1/completions", **body)
    error = response.json()["error"]
    assert (response.status_code, error["code"], error["param"]) == (400, 400, param)


def test_broken_json_and_unknown_paths_are_errors_in_the_same_shape(server: BlackBoxProcess) -> None:
    broken = server.client.post("/v1/completions", content=b"{")
    assert (broken.status_code, broken.json()["error"]["type"]) == (400, "BadRequestError")
    assert server.client.get("/nowhere").status_code == 404


def test_unknown_fields_are_ignored_as_vllm_does(server: BlackBoxProcess) -> None:
    assert server.complete("The", max_tokens=1, temperatur=3)["usage"]["completion_tokens"] == 1


def test_what_detection_reads_says_vllm_and_says_embedded(server: BlackBoxProcess) -> None:
    version = server.client.get("/version").json()["version"]
    card = server.client.get("/v1/models").json()["data"][0]
    assert version == "0.32.0+embedded"
    assert (card["owned_by"], card["id"], card["max_model_len"]) == ("vllm", "tiny", 256)
    assert server.complete("The", max_tokens=1)["system_fingerprint"].startswith(f"vllm-{version}-")
    assert server.client.get("/health").content == server.client.get("/ping").content == b""


def test_text_comes_back_from_its_ids(server: BlackBoxProcess) -> None:
    ids = server.post("/tokenize", prompt="naïve 東京").json()["tokens"]
    assert server.post("/detokenize", tokens=ids).json() == {"prompt": "naïve 東京"}
    info = server.client.get("/tokenizer_info").json()
    assert info["eos_token"] == "<|endoftext|>"
    assert info["chat_template"]


def test_streamed_and_whole_answers_are_equal(server: BlackBoxProcess) -> None:
    body = {"prompt": "The river", "max_tokens": 12, "seed": 5, "logprobs": 3, "return_token_ids": True}
    whole = server.complete(**body)["choices"][0]
    chunks = [event["choices"][0] for event in server.events("/v1/completions", **body) if event != "[DONE]"]
    assert "".join(c["text"] for c in chunks) == whole["text"]
    assert [i for c in chunks for i in c["token_ids"]] == whole["token_ids"]
    for key in ("text_offset", "tokens"):
        assert [v for c in chunks for v in c["logprobs"][key]] == whole["logprobs"][key]
    logprobs = [v for c in chunks for v in c["logprobs"]["token_logprobs"]]
    assert logprobs == pytest.approx(whole["logprobs"]["token_logprobs"], abs=1e-5)  # one of the two read the cache
    assert [list(t) for c in chunks for t in c["logprobs"]["top_logprobs"]] == [
        list(t) for t in whole["logprobs"]["top_logprobs"]
    ]


def test_an_end_token_is_reported_with_empty_text_and_finish_reason_stop(server: BlackBoxProcess) -> None:
    answer = server.complete(
        "The", max_tokens=9, temperature=0, logprobs=1, logit_bias={"0": 100}, return_tokens_as_token_ids=True
    )
    choice = answer["choices"][0]
    assert (choice["text"], choice["finish_reason"], choice["stop_reason"]) == ("", "stop", None)
    assert choice["logprobs"]["tokens"] == ["token_id:0"]


def test_the_drawn_token_comes_first_and_makes_one_more_entry_when_it_is_outside_the_list(
    server: BlackBoxProcess,
) -> None:
    top = server.complete(
        "The", max_tokens=1, temperature=0, logprobs=3, logit_bias={"200": 100}, return_tokens_as_token_ids=True
    )["choices"][0]["logprobs"]["top_logprobs"][0]
    assert len(top) == 4
    assert next(iter(top)) == "token_id:200"
    rest = list(top.values())[1:]
    assert rest == sorted(rest, reverse=True)


def test_stop_strings_cut_the_text_and_stop_ids_end_it(server: BlackBoxProcess) -> None:
    free = server.complete("The river", max_tokens=40, seed=3, return_token_ids=True)["choices"][0]
    stop = free["text"][5:7]
    cut = server.complete("The river", max_tokens=40, seed=3, stop=[stop])["choices"][0]
    assert cut["text"] == free["text"][: free["text"].index(stop)]
    assert (cut["finish_reason"], cut["stop_reason"]) == ("stop", stop)
    streamed = server.events("/v1/completions", prompt="The river", max_tokens=40, seed=3, stop=[stop])
    assert "".join(e["choices"][0]["text"] for e in streamed[:-1]) == cut["text"]
    last = free["token_ids"][4]
    ended = server.complete("The river", max_tokens=40, seed=3, stop_token_ids=[last], return_token_ids=True)
    assert ended["choices"][0]["token_ids"] == free["token_ids"][: free["token_ids"].index(last) + 1]
    assert ended["choices"][0]["stop_reason"] == last


def test_openai_python_reads_completions_chats_streams_and_errors(server: BlackBoxProcess) -> None:
    openai = pytest.importorskip("openai")
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
        completion = client.completions.create(model="tiny", prompt=[70, 71], max_tokens=3, logprobs=2)
        assert len(completion.choices[0].logprobs.token_logprobs) == 3
        messages = [{"role": "user", "content": "hi"}]
        chat = client.chat.completions.create(
            model="tiny", messages=messages, max_tokens=4, logprobs=True, top_logprobs=2, seed=1
        )
        assert len(chat.choices[0].logprobs.content) == chat.usage.completion_tokens
        stream = client.chat.completions.create(model="tiny", messages=messages, max_tokens=4, seed=1, stream=True)
        assert "".join(c.choices[0].delta.content or "" for c in stream) == chat.choices[0].message.content
        with pytest.raises(openai.NotFoundError):
            client.completions.create(model="nope", prompt="a")
