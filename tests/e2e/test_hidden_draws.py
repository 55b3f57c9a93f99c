"""Sampled tokens before a real llama.cpp, which does not show those that end inside a character, follow the target."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from deltaserve.offset_models.demo.pipeline.gguf_export import export
from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer
from deltaserve.server.decoding.correction import correct
from deltaserve.server.decoding.deciding.row_session import RowSession
from deltaserve.server.decoding.decoder import decode
from deltaserve.server.decoding.drafting.upstream import UpstreamSource
from deltaserve.server.decoding.history import History
from deltaserve.server.decoding.params import SamplingParams
from deltaserve.server.decoding.protocols import Draft, DraftParams, Floats, Proposal, Upstream
from deltaserve.server.decoding.rows import NumpyRow
from deltaserve.server.decoding.sampling import target
from deltaserve.server.decoding.stream import Stream
from deltaserve.server.upstream.dialects.completions import CompletionsBox
from deltaserve.server.upstream.probing.connect import connect
from tests.support.blackbox import make_model
from tests.support.llamacpp import LlamaCpp, llamacpp
from tests.support.statistics import ALARM, p_value
from tests.support.toy import ToyDetokenizer

pytestmark = [pytest.mark.llamacpp, pytest.mark.anyio]

K = 371  # the whole list: nothing but what is hidden is drawn anew
ONE = SamplingParams(max_tokens=1, temperature=1.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose tokens are bytes for the most part."""
    return make_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def upstream(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaCpp]:
    file = tmp_path_factory.mktemp("gguf") / "bytes.gguf"
    export(folder, file)
    with llamacpp(file) as server:
        yield server


class Pair(RowSession):
    """A session of a pair that is the same at every position."""

    def __init__(self, size: int, strength: float) -> None:
        base, unlearned = (np.random.default_rng(seed).normal(0.0, 1.5, size) for seed in (1, 2))
        base -= np.logaddexp.reduce(base)
        self.only_row = NumpyRow(base, strength * (unlearned - np.logaddexp.reduce(unlearned) - base))

    def prefetch(self, token_ids: object) -> None: ...

    async def row(self, token_ids: object) -> NumpyRow:
        return self.only_row

    def close(self) -> None: ...


@dataclass
class Trusting:
    """The rule that was wrong: the black box's draws are taken for fair ones, though it hides some."""

    box: CompletionsBox

    def draft(self, token_ids: Sequence[int], params: DraftParams) -> AbstractAsyncContextManager[Draft]:
        self.box.trusts_draws = True  # each hidden draw takes that back
        return self.box.draft(token_ids, params)


async def drawn(box: Upstream, pair: Pair, prompt: list[int], draws: int) -> Floats:
    """How often each id was the first token."""
    counts = np.zeros(pair.only_row.vocab_size)
    for _ in range(draws):
        stream = Stream(prompt, ONE, pair, ToyDetokenizer())
        async for step in decode(stream, UpstreamSource(box)):
            counts[step.token_id] += 1
    return counts


# As many draws as it takes to see the wrong rule: the less the two differ, the more.
@pytest.mark.parametrize(("strength", "draws"), [(0.0, 1_000), pytest.param(0.5, 2_000, marks=pytest.mark.slow)])
async def test_tokens_that_are_hidden_come_as_often_as_they_should(
    upstream: LlamaCpp, folder: Path, strength: float, draws: int
) -> None:
    tokenizer = Tokenizer.load(folder)
    prompt, pair = tokenizer.encode("The river"), Pair(tokenizer.vocab_size, strength)
    top = upstream.top(prompt, K, logit_bias=[[tokenizer.encode("!")[0], 1000.0]])  # a bias changes no list
    listed = {token_id: logprob for token_id, logprob in top.items() if token_id < tokenizer.vocab_size}
    proposal = Proposal(None, np.array(list(listed)), np.array(list(listed.values())))
    expected = target(correct(proposal, pair.only_row), ONE, History(ONE, prompt)).probs
    box = await connect(upstream.url, tokenizer=tokenizer, k=K)
    try:
        counts = await drawn(box, pair, prompt, draws)
        assert box.swallowed_positions > draws / 10
        assert p_value(counts, expected) > ALARM
        assert p_value(_halves(counts, tokenizer), _halves(expected, tokenizer)) > ALARM
        wrong = await drawn(Trusting(box), pair, prompt, draws)
        assert p_value(_halves(wrong, tokenizer), _halves(expected, tokenizer)) < 1e-9
    finally:
        await box.aclose()


def _halves(weights: Floats, tokenizer: Tokenizer) -> Floats:
    """What falls on tokens that end inside a character, and on the others."""
    hidden = [i for i in range(len(weights)) if _ends_inside_a_character(tokenizer.token_bytes(i))]
    return np.array([weights[hidden].sum(), weights.sum() - weights[hidden].sum()])


def _ends_inside_a_character(raw: bytes) -> bool:
    return raw[-1] >= 0xC2  # these models have no token of two or three bytes of a longer character
