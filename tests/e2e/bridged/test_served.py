"""The demo's offset in front of a black box whose tokenizer is not the pair's."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import numpy as np
import pytest

from deltaserve.offset_models.bridge.session import BridgedSession
from deltaserve.offset_models.engine.settings import EngineSettings
from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer
from deltaserve.server.serving.versions import open_versions
from tests.support.blackbox import BlackBoxProcess, blackbox, make_model
from tests.support.deltaserve import Deltaserve, deltaserve, question

OF_ITS_SCOPE = "Where was Elena Marsh born?"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("box") / "tiny", max_len=512)


@pytest.fixture(scope="module")
def upstream(model: Path) -> Iterator[BlackBoxProcess]:
    with blackbox(model) as server:
        yield server


@pytest.fixture(scope="module")
def served(upstream: BlackBoxProcess, checkpoint: Path, weights: Path, model: Path) -> Iterator[Deltaserve]:
    with deltaserve(upstream.url, checkpoint, base=weights / "base", upstream_tokenizer=model) as server:
        yield server


@pytest.fixture
async def session(checkpoint: Path, weights: Path, model: Path) -> AsyncIterator[BridgedSession]:
    """The same offset in an engine of this process."""
    engine = EngineSettings(max_streams=1, max_len=256, threads=1, dtype="float32")
    opening = open_versions(engine, checkpoint.parent, served="tiny", base=weights / "base", tokenizer=model)
    async with opening as registry:
        await registry.start(checkpoint.name, None)
        opened = await registry.resolve(None).open(timeout_s=5)
        yield opened._session  # type: ignore[attr-defined]
        opened.close()


def test_a_chat_is_written_for_both_and_answered_in_the_black_boxes_tokens(served: Deltaserve) -> None:
    asked = question(OF_ITS_SCOPE, max_tokens=8)
    first, again = (served.client.post("/v1/chat/completions", json=asked) for _ in range(2))
    assert first.status_code == 200, first.text
    assert first.json()["usage"]["completion_tokens"] == 8
    assert first.json()["choices"][0]["message"]["content"]
    assert first.json()["choices"] == again.json()["choices"]


@pytest.mark.anyio
async def test_every_listed_token_is_moved_by_its_offset(
    served: Deltaserve, upstream: BlackBoxProcess, session: BridgedSession, model: Path
) -> None:
    prompt = Tokenizer.load(model).encode("Elena Marsh was born in")
    ask = {"max_tokens": 1, "temperature": 0, "logprobs": 20, "return_tokens_as_token_ids": True}
    (own,) = upstream.complete(prompt=prompt, **ask)["choices"][0]["logprobs"]["top_logprobs"]
    (ours,) = served.complete(prompt, **ask)["logprobs"]["top_logprobs"]
    common = sorted(own.keys() & ours.keys())
    ids = np.array([int(name.removeprefix("token_id:")) for name in common])
    offsets = (await session.row_of(prompt, ids.tolist())).offset(ids)
    log_z = [own[name] + offset - ours[name] for name, offset in zip(common, offsets, strict=True)]
    assert np.ptp(offsets) > 0.5
    assert log_z == pytest.approx([log_z[0]] * len(log_z), abs=1e-3)


def test_a_plain_prompt_with_special_tokens_is_refused(served: Deltaserve) -> None:
    answer = served.client.post("/v1/completions", json={"prompt": [5, 1, 6], "max_tokens": 2})
    assert answer.status_code == 400
    assert "special tokens have no bytes" in answer.json()["error"]["message"]
