"""What the embedded black box draws and reports is what its model says: greedy, sampled, scored, cached."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlamaForCausalLM

from tests.support.blackbox import BlackBoxProcess, blackbox, forward, make_model
from tests.support.statistics import p_value

DRAWS = 20_000
PROMPT = [70, 71, 72, 73]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def server(model: Path) -> Iterator[BlackBoxProcess]:
    with blackbox(model, "--max-logprobs", "-1", "--seed", "1", "--slots", "8") as running:
        yield running


def listed(logprobs: dict[str, Any], at: int = 0) -> dict[int, float]:
    return {int(k.removeprefix("token_id:")): v for k, v in logprobs["top_logprobs"][at].items()}


def greedy_reference(model: Path, prompt: list[int], count: int) -> list[int]:
    torch.set_num_threads(1)
    weights = LlamaForCausalLM.from_pretrained(model, dtype=torch.float32)
    size = weights.config.vocab_size
    padding = list(range(size - 11, size))
    out = weights.generate(
        torch.tensor([prompt]), max_new_tokens=count, do_sample=False, suppress_tokens=padding, eos_token_id=None
    )
    ids: list[int] = out[0, len(prompt) :].tolist()
    return ids


def test_greedy_answers_equal_plain_generation_alone_and_in_a_batch(server: BlackBoxProcess, model: Path) -> None:
    prompts = [[70, 71, 72], [80, 81], [90, 91, 92, 93, 94, 95]]
    wanted = [greedy_reference(model, prompt, 20) for prompt in prompts]
    body = {"max_tokens": 20, "temperature": 0, "ignore_eos": True, "return_token_ids": True}
    together = [c["token_ids"] for c in server.complete(prompts, **body)["choices"]]
    alone = [server.complete(prompt, **body)["choices"][0]["token_ids"] for prompt in prompts]
    assert together == alone == wanted


def test_the_whole_vocabulary_is_listed_without_padding_and_sums_to_one(server: BlackBoxProcess, model: Path) -> None:
    wanted = forward(model, PROMPT)[-1]
    answer = server.complete(PROMPT, max_tokens=1, logprobs=-1, return_tokens_as_token_ids=True)
    top = listed(answer["choices"][0]["logprobs"])
    assert sorted(top) == list(range(len(wanted)))
    assert np.exp(list(top.values())).sum() == pytest.approx(1, abs=1e-5)
    assert [top[i] for i in range(len(wanted))] == pytest.approx(wanted.tolist(), abs=1e-4)


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_reported_logprobs_do_not_depend_on_how_the_token_was_drawn(
    server: BlackBoxProcess, temperature: float
) -> None:
    body = {"max_tokens": 1, "logprobs": 5, "return_tokens_as_token_ids": True}
    plain = listed(server.complete(PROMPT, temperature=0, **body)["choices"][0]["logprobs"])
    odd = server.complete(PROMPT, temperature=temperature, top_p=0.9, logit_bias={"7": 3}, **body)
    drawn = listed(odd["choices"][0]["logprobs"])
    assert {i: drawn[i] for i in plain} == pytest.approx(plain, abs=1e-5)


def draw_counts(server: BlackBoxProcess, size: int, **body: Any) -> np.ndarray:
    counts = np.zeros(size)
    for seed in range(DRAWS // 2000):
        answer = server.complete(
            PROMPT, max_tokens=1, n=2000, seed=seed * 10_000, return_token_ids=True, ignore_eos=True, **body
        )
        ids = [c["token_ids"][0] for c in answer["choices"]]
        counts += np.bincount(ids, minlength=size)
    return counts


def nucleus(p: np.ndarray, mass: float) -> np.ndarray:
    order = np.argsort(-p)
    kept = order[: int(np.searchsorted(np.cumsum(p[order]), mass)) + 1]
    return np.where(np.isin(np.arange(len(p)), kept), p, 0)


def top(p: np.ndarray, k: int) -> np.ndarray:
    return np.where(p >= np.sort(p)[-k], p, 0)


CASES: list[tuple[dict[str, Any], float, Callable[[np.ndarray], np.ndarray]]] = [
    ({"temperature": 1.0}, 1.0, lambda p: p),
    ({"temperature": 0.4, "top_p": 0.8}, 0.4, lambda p: nucleus(p, 0.8)),
    ({"temperature": 0.7, "top_k": 30, "min_p": 0.2}, 0.7, lambda p: top(np.where(p >= 0.2 * p.max(), p, 0), 30)),
]


@pytest.mark.parametrize(("body", "temperature", "filtered"), CASES)
def test_draws_follow_the_target(
    server: BlackBoxProcess,
    model: Path,
    body: dict[str, Any],
    temperature: float,
    filtered: Callable[[np.ndarray], np.ndarray],
) -> None:
    logprobs = forward(model, PROMPT)[-1].numpy()
    target = filtered(softmax(logprobs / temperature))
    counts = draw_counts(server, len(target), **body)
    assert p_value(counts, target) > 1e-4
    # The control: another temperature's distribution over the same ids must be told apart.
    wrong = np.where(target > 0, softmax(logprobs / (temperature * 1.15)), 0)
    assert p_value(counts, wrong) < 1e-6


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max())
    return e / e.sum()


def test_a_seed_gives_the_same_answer_again_whatever_runs_beside_it(server: BlackBoxProcess) -> None:
    body = {"max_tokens": 15, "seed": 11, "return_token_ids": True, "ignore_eos": True}
    alone = server.complete(PROMPT, **body)["choices"][0]["token_ids"]
    beside = server.complete([PROMPT, [99, 98], [97, 96, 95]], **body)["choices"][0]["token_ids"]
    other = server.complete(PROMPT, **{**body, "seed": 12})["choices"][0]["token_ids"]
    assert alone == beside != other


def test_penalties_and_bias_change_what_is_drawn(server: BlackBoxProcess) -> None:
    body = {"max_tokens": 30, "temperature": 0, "return_token_ids": True, "ignore_eos": True}
    pushed = {"logit_bias": {"200": 8}}
    stuck = server.complete(PROMPT, **body, **pushed)["choices"][0]["token_ids"]
    freed = server.complete(PROMPT, **body, **pushed, frequency_penalty=2, presence_penalty=2)["choices"][0][
        "token_ids"
    ]
    assert set(stuck) == {200}
    assert set(freed) > {200}
    assert server.complete(PROMPT, **body, allowed_token_ids=[9])["choices"][0]["token_ids"] == [9] * 30


def test_prompt_logprobs_equal_a_plain_forward_and_skip_the_cache(server: BlackBoxProcess, model: Path) -> None:
    ids = list(range(60, 100))
    server.complete(ids, max_tokens=1)
    answer = server.complete(ids, max_tokens=1, prompt_logprobs=2)
    rows = answer["choices"][0]["prompt_logprobs"]
    wanted = forward(model, ids)
    assert rows[0] is None
    assert len(rows) == len(ids)
    for at, row in enumerate(rows[1:]):
        own = row[str(ids[at + 1])]
        assert own["logprob"] == pytest.approx(float(wanted[at, ids[at + 1]]), abs=1e-4)
        assert own["rank"] == int((wanted[at] > wanted[at, ids[at + 1]]).sum()) + 1
        assert str(int(wanted[at].argmax())) in row
    assert answer["usage"]["prompt_tokens_details"] is None


def test_a_repeated_prefix_is_read_from_the_cache_and_salts_keep_caches_apart(server: BlackBoxProcess) -> None:
    ids = [int(i) for i in np.random.default_rng(0).integers(60, 300, 50)]
    first = server.complete(ids, max_tokens=1, temperature=0)
    again = server.complete([*ids, 61], max_tokens=1, temperature=0)
    salted = server.complete(ids, max_tokens=1, temperature=0, cache_salt="another")
    assert first["usage"]["prompt_tokens_details"] is None
    assert again["usage"]["prompt_tokens_details"] == {"cached_tokens": 50}
    assert salted["usage"]["prompt_tokens_details"] is None


def test_a_list_of_growing_prompts_is_computed_in_one_pass(server: BlackBoxProcess, model: Path) -> None:
    ids = [int(i) for i in np.random.default_rng(1).integers(60, 300, 24)]
    before = server.stats()
    prompts = [ids[:n] for n in range(16, 25)]
    answer = server.complete(prompts, max_tokens=1, temperature=0, logprobs=1, return_tokens_as_token_ids=True)
    after = server.stats()
    assert after["prompt_tokens_computed"] - before["prompt_tokens_computed"] == 24
    wanted = forward(model, ids)
    for choice, prompt in zip(answer["choices"], prompts, strict=True):
        row = wanted[len(prompt) - 1]
        assert choice["logprobs"]["tokens"] == [f"token_id:{int(row.argmax())}"]
        assert choice["logprobs"]["token_logprobs"][0] == pytest.approx(float(row.max()), abs=1e-4)


def test_more_answers_than_slots_all_come_and_differ(server: BlackBoxProcess) -> None:
    answer = server.complete(PROMPT, max_tokens=6, n=40, return_token_ids=True, ignore_eos=True)
    ids = [tuple(c["token_ids"]) for c in answer["choices"]]
    assert {len(i) for i in ids} == {6}
    assert len(set(ids)) == 40
    assert [c["index"] for c in answer["choices"]] == list(range(40))


def test_an_answer_that_continues_a_cached_prefix_equals_one_that_does_not(
    server: BlackBoxProcess, model: Path
) -> None:
    ids = [int(i) for i in np.random.default_rng(2).integers(60, 300, 30)]
    body = {"max_tokens": 10, "temperature": 0, "ignore_eos": True, "return_token_ids": True}
    whole = server.complete(ids, **body)["choices"][0]["token_ids"]
    rest = server.complete([*ids, *whole[:5]], **{**body, "max_tokens": 5})["choices"][0]["token_ids"]
    forked = server.complete([*ids[:20], 200, *ids[21:]], **body)["choices"][0]["token_ids"]
    assert whole == greedy_reference(model, ids, 10)
    assert rest == whole[5:]
    assert forked == greedy_reference(model, [*ids[:20], 200, *ids[21:]], 10)
