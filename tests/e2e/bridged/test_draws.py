"""Sampled tokens before a black box of another tokenizer follow the corrected distribution, over HTTP."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from deltaserve.offset_models.engine.settings import EngineSettings
from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer
from deltaserve.server.decoding.correction import correct
from deltaserve.server.decoding.history import History
from deltaserve.server.decoding.params import SamplingParams
from deltaserve.server.decoding.protocols import Proposal
from deltaserve.server.decoding.rows import NumpyRow
from deltaserve.server.decoding.sampling import target
from deltaserve.server.serving.versions import open_versions
from tests.support.blackbox import BlackBoxProcess, blackbox, forward, make_model
from tests.support.deltaserve import Deltaserve, deltaserve
from tests.support.statistics import ALARM, p_value

pytestmark = pytest.mark.slow

K = 20  # of about 360 ids: the rest is an imputed tail
A_REQUEST = 10  # choices: a draw of a token without an offset ends them all
REQUESTS = 60
LIKELIEST = 6  # first tokens behind which the second is looked at
PROMPT = "Elena Marsh was born in"
PARAMS = SamplingParams(max_tokens=2, temperature=0.7)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("box") / "tiny", max_len=512, spread=0.25)


@pytest.fixture(scope="module")
def upstream(model: Path) -> Iterator[BlackBoxProcess]:
    with blackbox(model) as server:
        yield server


@pytest.fixture(scope="module", params=[True, False], ids=["with local drafts", "without"])
def served(
    request: pytest.FixtureRequest, upstream: BlackBoxProcess, checkpoint: Path, weights: Path, model: Path
) -> Iterator[Deltaserve]:
    settings = {"base": weights / "base", "upstream_tokenizer": model, "upstream_k": K, "max_queue": 500}
    with deltaserve(upstream.url, checkpoint, local_drafts=request.param, **settings) as server:
        yield server


@pytest.fixture(scope="module")
def prompt(model: Path) -> list[int]:
    return Tokenizer.load(model).encode(PROMPT)


@dataclass
class Targets:
    """What tokens are drawn from, by the tokens between the prompt and them: corrected, and by the black box alone."""

    corrected: dict[tuple[int, ...], np.ndarray] = field(default_factory=dict)
    unmoved: dict[tuple[int, ...], np.ndarray] = field(default_factory=dict)


@pytest.fixture
async def targets(checkpoint: Path, weights: Path, model: Path, prompt: list[int]) -> Targets:
    """Lists by a plain pass of the black box, rows that are exact at all listed ids; ids without an offset go."""
    engine = EngineSettings(max_streams=1, max_len=256, threads=1, dtype="float32")
    opening = open_versions(engine, checkpoint.parent, served="tiny", base=weights / "base", tokenizer=model)
    made = Targets()
    async with opening as registry:
        await registry.start(checkpoint.name, None)
        session = (await registry.resolve(None).open(timeout_s=5))._session  # type: ignore[attr-defined]

        async def look(*first: int) -> None:
            own = forward(model, [*prompt, *first])[-1].topk(K)
            proposal = Proposal(None, own.indices.numpy(), own.values.numpy())
            row = await session.row_of([*prompt, *first], proposal.top_ids.tolist())
            without = NumpyRow(row.log_base, np.zeros_like(row.log_offset))
            for found, each in ((made.corrected, row), (made.unmoved, without)):
                probs = target(correct(proposal, each), PARAMS, History(PARAMS, prompt)).probs
                found[first] = np.where(row.untold, 0.0, probs)

        await look()
        ends = Tokenizer.load(model).special_ids
        likeliest = [int(i) for i in np.argsort(-made.corrected[()]) if i not in ends][:LIKELIEST]
        for token_id in likeliest:
            await look(token_id)
        session.close()
    return made


def drawn(served: Deltaserve, prompt: list[int]) -> list[list[int]]:
    """Answers of two tokens; requests that met a token without an offset are left out, whatever else they drew."""
    ask = {"prompt": prompt, "max_tokens": 2, "temperature": PARAMS.temperature, "n": A_REQUEST}
    with ThreadPoolExecutor(2) as pool:
        asked = [ask | {"return_token_ids": True}] * REQUESTS
        answers = list(pool.map(lambda body: served.client.post("/v1/completions", json=body), asked))
    assert {answer.status_code for answer in answers} <= {200, 503}
    return [choice["token_ids"] for a in answers if a.status_code == 200 for choice in a.json()["choices"]]


@pytest.mark.anyio
async def test_first_and_second_tokens_follow_the_corrected_distribution(
    served: Deltaserve, prompt: list[int], targets: Targets
) -> None:
    answers = drawn(served, prompt)
    firsts = [first for first in targets.corrected if first]
    counts = {first: np.zeros(targets.corrected[first].size) for first in firsts}
    for first, *second in answers:
        if (first,) in counts and second:
            counts[first,][second[0]] += 1
    assert sum(row.sum() for row in counts.values()) > 0.4 * A_REQUEST * REQUESTS
    for first in firsts:
        assert p_value(counts[first], targets.corrected[first]) > ALARM
    begun = np.array([counts[first].sum() for first in firsts])
    assert p_value(begun, targets.corrected[()][[*np.ravel(firsts)]]) > ALARM
    assert p_value(begun, targets.unmoved[()][[*np.ravel(firsts)]]) < ALARM  # the black box's own would be noticed
    assert min(p_value(counts[first], targets.unmoved[first]) for first in firsts) < ALARM
    assert served.metric("upstream_restarts_total") > 0
