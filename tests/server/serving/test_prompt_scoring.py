"""A prompt's scores are the same whether tokens are generated after it or not, up to the last place of the context."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer
from deltaserve.server.decoding.deciding.row_session import RowSession
from deltaserve.server.decoding.drafting.primed import PrimedSource
from deltaserve.server.decoding.drafting.upstream import UpstreamSource
from deltaserve.server.decoding.params import SamplingParams
from deltaserve.server.decoding.protocols import OffsetRow
from deltaserve.server.decoding.rows import NumpyRow
from deltaserve.server.decoding.stream import StreamStats
from deltaserve.server.serving.prompt_scoring import PromptScoring
from deltaserve.server.upstream.listing.methods import NAMES
from deltaserve.server.upstream.pool.pool import sole
from deltaserve.server.upstream.probing.connect import connect
from tests.support.blackbox import BlackBoxProcess, blackbox, forward, make_model

pytestmark = pytest.mark.anyio
CONTEXT = 48


class Offsets(RowSession):
    """A session with the same row everywhere."""

    def __init__(self, size: int) -> None:
        self.offset = np.random.default_rng(2).normal(0.0, 1.0, size)
        self._row = NumpyRow(np.full(size, -np.log(size)), self.offset)

    def prefetch(self, token_ids: Sequence[int]) -> None: ...

    async def row(self, token_ids: Sequence[int]) -> OffsetRow:
        return self._row

    def close(self) -> None: ...


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[BlackBoxProcess, Path]]:
    folder = make_model(tmp_path_factory.mktemp("model"))
    with blackbox(folder, "--max-model-len", str(CONTEXT)) as server:
        yield server, folder


@pytest.mark.parametrize("length", [CONTEXT, CONTEXT - 1, CONTEXT - 9])
async def test_the_last_token_has_the_black_box_s_own_number_though_it_is_not_listed(
    running: tuple[BlackBoxProcess, Path], length: int
) -> None:
    server, folder = running
    tokenizer = Tokenizer.load(folder)
    ids = (tokenizer.encode("She was born in a small house by the sea — 東京. ") * 9)[:length]
    row = forward(folder, ids[:-1])[-1]
    ids[-1] = int(row.argmin())
    box = await connect(server.url, tokenizer=tokenizer, k=5)
    session = Offsets(tokenizer.vocab_size)
    scores = {}
    for max_tokens in (0, 1) if length < CONTEXT else (0,):
        params = SamplingParams(max_tokens=max_tokens, temperature=0.0)
        scoring = PromptScoring(sole(box).session(), ids, params, "impute", StreamStats(), CONTEXT)
        scores[max_tokens] = [token.logprob for token in await scoring.run(session)]
    await box.aclose()
    assert len(scores[0]) == length
    assert scores.get(1, scores[0]) == pytest.approx(scores[0], abs=1e-4)
    assert scores[0][-1] == pytest.approx(_corrected(row.numpy(), session.offset, ids[-1]), abs=0.1)


@pytest.mark.parametrize(("method", "calls", "primed"), [("prompt_logprobs", 1, True), ("echo", 1, False)])
async def test_a_prompt_is_scored_by_one_call_whose_draw_is_used_where_it_tells_one(
    running: tuple[BlackBoxProcess, Path], method: str, calls: int, primed: bool
) -> None:
    server, folder = running
    tokenizer = Tokenizer.load(folder)
    box = await connect(server.url, tokenizer=tokenizer, k=5)
    box.adopt(replace(box.capabilities, **dict.fromkeys(NAMES, False) | {method: True}))
    stats, ids = StreamStats(), tokenizer.encode("She was born in a small house.")
    scoring = PromptScoring(
        sole(box).session(), ids, SamplingParams(max_tokens=1, temperature=0.0), "impute", stats, CONTEXT
    )
    scores = await scoring.run(Offsets(tokenizer.vocab_size))
    await box.aclose()
    assert (len(scores), stats.upstream_calls) == (len(ids), calls)
    source = UpstreamSource(box)
    assert isinstance(scoring.primed(source), PrimedSource if primed else UpstreamSource)


def _corrected(log_p: np.ndarray, offset: np.ndarray, token_id: int) -> float:
    """log q over the whole vocabulary; what the tail hides of Z is a few hundredths of a nat here."""
    weights = log_p + offset
    return float(weights[token_id] - np.logaddexp.reduce(weights))
