"""Every method of scoring a text gives the lists of a plain forward pass; the probe proves those that hold."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deltaserve.errors import MalformedTopK, UncorrectableUpstream
from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer
from deltaserve.server.decoding.protocols import Proposal
from deltaserve.server.upstream.comparison import difference
from deltaserve.server.upstream.cost import Cost
from deltaserve.server.upstream.dialects.completions import PATH, CompletionsBox
from deltaserve.server.upstream.listing.choosing import method_for_texts, method_of, proven_methods
from deltaserve.server.upstream.listing.generate import read_input_logprobs
from deltaserve.server.upstream.listing.greedy import greedy_answer
from deltaserve.server.upstream.listing.methods import MethodName, spans
from deltaserve.server.upstream.listing.one_prompt import read_prompt_logprobs
from deltaserve.server.upstream.probing.connect import connect
from deltaserve.server.upstream.topk import TopKRules
from tests.support.blackbox import BlackBoxProcess, blackbox, forward, make_model

pytestmark = pytest.mark.anyio
TEXT = "The river runs north of the town, past the old mill."


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("scoring") / "model")


@pytest.fixture(scope="module")
def tokenizer(model: Path) -> Tokenizer:
    return Tokenizer.load(model)


@pytest.fixture(scope="module")
def server(model: Path) -> Iterator[BlackBoxProcess]:
    with blackbox(model) as process:
        yield process


@pytest.fixture(scope="module")
def strict(model: Path) -> Iterator[BlackBoxProcess]:
    with blackbox(model, "--no-prompt-logprobs", "--no-prompt-lists", "--processed-logprobs") as process:
        yield process


@asynccontextmanager
async def box_at(url: str, tokenizer: Tokenizer, k: int = 12) -> Any:
    box = await connect(url, tokenizer=tokenizer, k=k)
    try:
        yield box
    finally:
        await box.aclose()


async def scored(box: CompletionsBox, name: MethodName, prefix: list[int], answer: list[int]) -> list[Proposal]:
    method = method_of(name, box)
    found: list[Proposal] = []
    for start, stop in spans(method, len(answer)):
        found += await method.lists([*prefix, *answer[:start]], answer[start:stop])
    return found


def assert_lists_of(model: Path, ids: list[int], first: int, found: Sequence[Proposal]) -> None:
    """The listed numbers are those of the forward pass, up to what padding rows take, and begin with its best."""
    rows = forward(model, ids).numpy()[first - 1 : -1]
    assert len(found) == len(rows)
    for row, proposal in zip(rows, found, strict=True):
        gaps = row[proposal.top_ids] - proposal.top_logprobs
        np.testing.assert_allclose(gaps, gaps[0], atol=1e-3)  # one constant: the mass of the model's padding rows
        assert proposal.top_ids.tolist() == np.argsort(-row)[: len(proposal.top_ids)].tolist()


@pytest.mark.parametrize("name", ["prompt_logprobs", "echo", "prompt_list", "steps"])
async def test_every_method_gives_the_lists_of_a_forward_pass(
    name: MethodName, server: BlackBoxProcess, tokenizer: Tokenizer, model: Path
) -> None:
    ids = tokenizer.encode(TEXT * 4)
    assert len(ids) > 36  # more than one list of prompts
    async with box_at(server.url, tokenizer) as box:
        assert_lists_of(model, ids, 3, await scored(box, name, ids[:3], ids[3:]))


@pytest.mark.parametrize(("flags", "name"), [("server", "prompt_logprobs"), ("strict", "steps")])
async def test_the_probe_takes_the_cheapest_that_the_black_box_has(
    flags: str, name: str, request: pytest.FixtureRequest, tokenizer: Tokenizer
) -> None:
    async with box_at(request.getfixturevalue(flags).url, tokenizer) as box:
        assert method_for_texts(box).name == name


async def test_processed_lists_are_asked_for_at_temperature_one(
    strict: BlackBoxProcess, tokenizer: Tokenizer, model: Path
) -> None:
    ids = tokenizer.encode(TEXT)
    async with box_at(strict.url, tokenizer) as box:
        assert not box.capabilities.raw_logprobs
        assert_lists_of(model, ids, 2, await scored(box, "steps", ids[:2], ids[2:]))


@pytest.mark.parametrize("name", ["prompt_logprobs", "echo", "prompt_list"])
async def test_a_wanted_method_that_does_not_work_is_refused_by_name(
    name: MethodName, strict: BlackBoxProcess, tokenizer: Tokenizer
) -> None:
    async with box_at(strict.url, tokenizer) as box:
        with pytest.raises(UncorrectableUpstream, match=f"cannot score a text by {name}"):
            method_for_texts(box, name)


@pytest.mark.parametrize("flags", ["server", "strict"])
async def test_a_greedy_answer_is_the_most_probable_token_each_time_whatever_is_drawn(
    flags: str, request: pytest.FixtureRequest, tokenizer: Tokenizer, model: Path
) -> None:
    prompt = tokenizer.encode("Who wrote")
    async with box_at(request.getfixturevalue(flags).url, tokenizer) as box:
        ids, lists = await greedy_answer(box, prompt, 10, tokenizer.eos_ids)
    rows = forward(model, [*prompt, *ids]).numpy()[len(prompt) - 1 : -1]
    assert ids == rows.argmax(1).tolist()
    assert len(ids) == 10 or ids[-1] in tokenizer.eos_ids
    assert_lists_of(model, [*prompt, *ids], len(prompt), lists)


def sglang_answer(model: Path, body: dict[str, Any]) -> dict[str, Any]:
    """What SGLang says to `/generate`: triples from `logprob_start_len` on, the first one null."""
    ids, start, k = body["input_ids"], body["logprob_start_len"], body["top_logprobs_num"]
    rows = forward(model, ids).numpy()[start:-1]
    best = [[[float(row[i]), int(i), None] for i in np.argsort(-row)[:k]] for row in rows]
    own = [[float(row[i]), i, None] for row, i in zip(rows, ids[start + 1 :], strict=True)]
    meta = {"input_token_logprobs": [[None, ids[start], None], *own], "input_top_logprobs": [None, *best]}
    return {"text": "", "output_ids": [0], "meta_info": meta}


async def test_sglangs_generate_gives_the_lists_of_a_forward_pass(
    strict: BlackBoxProcess, tokenizer: Tokenizer, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    post = CompletionsBox.post

    async def with_generate(self: CompletionsBox, body: dict[str, Any], path: str = PATH) -> Any:
        if path == PATH:
            return await post(self, body)
        calls.append(path)
        return sglang_answer(model, body)

    ids = tokenizer.encode(TEXT)
    async with box_at(strict.url, tokenizer) as box:
        monkeypatch.setattr(CompletionsBox, "post", with_generate)
        assert_lists_of(model, ids, 3, await scored(box, "generate", ids[:3], ids[3:]))
        await proven_methods(box, tokenizer)
        assert method_for_texts(box).name == "steps", "another server is not asked for it"
        assert calls == ["/generate"]
        box.adopt(replace(box.capabilities, server="sglang"))
        box.adopt(replace(box.capabilities, **await proven_methods(box, tokenizer)))
        assert method_for_texts(box).name == "generate"


@pytest.mark.parametrize(
    "spoil",
    [
        lambda meta: meta["input_token_logprobs"].pop(),
        lambda meta: meta["input_top_logprobs"].pop(),
        lambda meta: meta["input_top_logprobs"].insert(1, None),
        lambda meta: meta["input_token_logprobs"].__setitem__(1, [-1.0, 1, None]),
        lambda meta: meta.pop("input_top_logprobs"),
    ],
)
def test_an_answer_of_generate_that_is_not_sglangs_is_refused(spoil: Callable[[dict[str, Any]], object]) -> None:
    rules = TopKRules(2, 50, 50)
    lists = [None, [[-0.5, 4, None], [-1.5, 5, None]], [[-1.5, 7, None], [-0.5, 6, None]]]
    meta = {"input_token_logprobs": [[None, 1, None], [-1.5, 5, None], [-0.5, 6, None]], "input_top_logprobs": lists}
    first, second = read_input_logprobs({"meta_info": meta}, [5, 6], rules)
    assert (first.top_ids.tolist(), second.top_ids.tolist()) == ([4, 5], [6, 7])
    spoil(meta)
    with pytest.raises(MalformedTopK):
        read_input_logprobs({"meta_info": meta}, [5, 6], rules)


def entries(*ids: int) -> dict[str, Any]:
    return {str(token): {"logprob": -1.0 - rank, "rank": rank} for rank, token in enumerate(ids, start=1)}


def test_prompt_logprobs_of_other_tokens_are_refused() -> None:
    rules = TopKRules(2, 50, 50)
    good = {"prompt_logprobs": [None, entries(4, 5), entries(6, 7)]}
    first, second = read_prompt_logprobs(good, [1], [5, 6], rules)
    assert (first.token_id, first.top_ids.tolist(), second.top_ids.tolist()) == (5, [4, 5], [6, 7])
    with pytest.raises(MalformedTopK, match="other tokens"):
        read_prompt_logprobs(good, [1], [5, 8], rules)


def test_calls_and_prompt_tokens_are_counted() -> None:
    assert method_of("prompt_logprobs", None).cost(10, 5) == Cost(1, 15, 1)  # type: ignore[arg-type]
    assert method_of("prompt_list", None).cost(10, 3) == Cost(1, 10 + 11 + 12, 3)  # type: ignore[arg-type]
    assert method_of("steps", None).cost(10, 1) == Cost(1, 10, 1)  # type: ignore[arg-type]
    assert spans(method_of("prompt_list", None), 70) == [(0, 32), (32, 64), (64, 70)]  # type: ignore[arg-type]


def test_lists_differ_by_the_mass_that_moved() -> None:
    def proposal(masses: dict[int, float]) -> Proposal:
        return Proposal(None, np.array(list(masses)), np.log(list(masses.values())))

    one = proposal({3: 0.5, 1: 0.25})
    assert difference(one, one) == 0
    assert difference(one, proposal({3: 0.5, 2: 0.25})) == pytest.approx(0.25 / 0.75)
    assert difference(one, proposal({7: 0.75})) == pytest.approx(1.0)
