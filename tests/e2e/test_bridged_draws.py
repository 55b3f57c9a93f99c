"""Sampled tokens before a black box of another tokenizer follow the corrected distribution, over HTTP."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from deltaserve.offset_models.engine.settings import EngineSettings
from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer
from deltaserve.server.serving.versions import open_versions
from tests.support.blackbox import BlackBoxProcess, blackbox, forward, make_model
from tests.support.deltaserve import Deltaserve, deltaserve
from tests.support.statistics import ALARM, p_value

A_REQUEST = 10  # choices: a draw of a token without an offset ends them all
REQUESTS = 150
LIKELIEST = 6  # first tokens behind which the second is looked at
TEMPERATURE = 0.7
PROMPT = "Elena Marsh was born in"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("box") / "tiny", max_len=512, spread=0.25)


@pytest.fixture(scope="module")
def upstream(model: Path) -> Iterator[BlackBoxProcess]:
    with blackbox(model, "--max-logprobs", "-1") as server:
        yield server


@pytest.fixture(scope="module", params=[True, False], ids=["with local drafts", "without"])
def served(
    request: pytest.FixtureRequest, upstream: BlackBoxProcess, checkpoint: Path, weights: Path, model: Path
) -> Iterator[Deltaserve]:
    settings = {"upstream_tokenizer": model, "upstream_k": Tokenizer.load(model).vocab_size, "max_queue": 500}
    with deltaserve(upstream.url, checkpoint, base=weights / "base", local_drafts=request.param, **settings) as server:
        yield server


@pytest.fixture(scope="module")
def prompt(model: Path) -> list[int]:
    return Tokenizer.load(model).encode(PROMPT)


class Targets:
    """The next token's weights behind the prompt and some first tokens: from one plain pass, and the exact offsets."""

    def __init__(self, own: dict[tuple[int, ...], np.ndarray], offsets: dict[tuple[int, ...], np.ndarray]) -> None:
        self.own, self.offsets = own, offsets

    def behind(self, *first: int, corrected: bool = True) -> np.ndarray:
        """Probabilities; those of ids without an offset (NaN) are not drawn."""
        log_q = self.own[first] + (self.offsets[first] if corrected else 0.0 * self.offsets[first])
        weights = np.nan_to_num(np.exp((log_q - np.nanmax(log_q)) / TEMPERATURE))
        return weights / weights.sum()


@pytest.fixture
async def targets(checkpoint: Path, weights: Path, model: Path, prompt: list[int]) -> Targets:
    engine = EngineSettings(max_streams=1, max_len=256, threads=1, dtype="float32")
    opening = open_versions(engine, checkpoint.parent, served="tiny", base=weights / "base", tokenizer=model)
    every = np.arange(Tokenizer.load(model).vocab_size)
    made = Targets({}, {})
    async with opening as registry:
        await registry.start(checkpoint.name, None)
        session = (await registry.resolve(None).open(timeout_s=5))._session  # type: ignore[attr-defined]

        async def look(*first: int) -> None:
            row = await session.row_of([*prompt, *first], every.tolist())
            made.offsets[first] = np.where(row.untold, np.nan, row.offset(every))
            made.own[first] = forward(model, [*prompt, *first])[-1].numpy()

        await look()
        for token_id in np.argsort(-made.behind())[:LIKELIEST]:
            await look(int(token_id))
        session.close()
    return made


def drawn(served: Deltaserve, prompt: list[int]) -> list[list[int]]:
    """Answers of two tokens; requests that met a token without an offset are left out, whatever else they drew."""
    ask = {"prompt": prompt, "max_tokens": 2, "temperature": TEMPERATURE, "n": A_REQUEST, "return_token_ids": True}
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: served.client.post("/v1/completions", json=ask), range(REQUESTS)))
    assert {answer.status_code for answer in answers} <= {200, 503}
    return [choice["token_ids"] for a in answers if a.status_code == 200 for choice in a.json()["choices"]]


@pytest.mark.anyio
async def test_first_and_second_tokens_follow_the_corrected_distribution(
    served: Deltaserve, prompt: list[int], targets: Targets
) -> None:
    answers = drawn(served, prompt)
    firsts = [first[0] for first in targets.own if first]
    counts = np.zeros((len(firsts), targets.behind().size))
    for first, *second in answers:
        if first in firsts and second:
            counts[firsts.index(first), second[0]] += 1
    assert counts.sum() > 0.3 * A_REQUEST * REQUESTS
    for first, row in zip(firsts, counts, strict=True):
        assert p_value(row, targets.behind(first)) > ALARM
    joined = np.concatenate([row.sum() * targets.behind(first) for first, row in zip(firsts, counts, strict=True)])
    unmoved = [row.sum() * targets.behind(first, corrected=False) for first, row in zip(firsts, counts, strict=True)]
    assert p_value(counts.ravel(), joined) > ALARM
    assert p_value(counts.ravel(), np.concatenate(unmoved)) < ALARM  # the black box's own draws would be noticed
    assert p_value(counts.sum(1), targets.behind()[firsts]) > ALARM
    assert p_value(counts.sum(1), targets.behind(corrected=False)[firsts]) < ALARM
    assert served.metric("upstream_restarts_total") > 0
