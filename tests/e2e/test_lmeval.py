"""lm-eval against the demo's black box and against the server in front of it: the same scores where nothing changes."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer
from tests.support.blackbox import NAME, BlackBoxProcess, blackbox
from tests.support.deltaserve import deltaserve
from tests.support.lmeval import COMMAND, NAMES, Evaluation, command, lm_eval

pytestmark = [
    pytest.mark.lmeval,
    pytest.mark.skipif(command() is None, reason=f"no lm_eval on PATH and no {COMMAND}"),
]

ROUNDING_NATS = 1e-4  # of a whole choice: two ways of adding up float32
CHOICE, TEXT, ANSWER = NAMES


@pytest.fixture(scope="module")
def upstream(weights: Path) -> Iterator[BlackBoxProcess]:
    with blackbox(weights / "blackbox", "--max-logprobs", "-1") as server:
        yield server


@pytest.fixture(scope="module")
def own(upstream: BlackBoxProcess, tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    return shown("black box", lm_eval(upstream.url, NAME, tmp_path_factory.mktemp("own")))


def served(upstream: BlackBoxProcess, checkpoint: Path, folder: Path, **settings: object) -> Evaluation:
    with deltaserve(upstream.url, checkpoint, **settings) as server:
        return shown(f"deltaserve {settings}", lm_eval(server.url, NAME, folder))


def shown(title: str, found: Evaluation) -> Evaluation:
    for task, figures in found.figures.items():
        print(title, task, {name: round(value, 6) for name, value in figures.items() if "stderr" not in name})
    return found


@pytest.mark.parametrize("k", [20, "all"])
def test_at_strength_zero_all_scores_are_the_black_box_s(
    k: int | str, own: Evaluation, upstream: BlackBoxProcess, weights: Path, checkpoint: Path, tmp_path: Path
) -> None:
    listed = Tokenizer.load(weights / "base").vocab_size if k == "all" else k
    found = served(upstream, checkpoint, tmp_path, strength=0, upstream_k=listed)
    assert found.answers[ANSWER] == own.answers[ANSWER]
    for (value, greedy), (expected, was_greedy) in zip(found.pairs, own.pairs, strict=True):
        assert value == pytest.approx(expected, abs=ROUNDING_NATS)
        assert greedy == was_greedy
    for task, figures in own.figures.items():
        assert found.figures[task] == pytest.approx(figures, rel=1e-6)


def test_at_strength_one_what_was_forgotten_is_forgotten(
    own: Evaluation, upstream: BlackBoxProcess, checkpoint: Path, tmp_path: Path
) -> None:
    found = served(upstream, checkpoint, tmp_path)
    assert found.figures[ANSWER]["exact_match"] < own.figures[ANSWER]["exact_match"]
    forgotten, general = slice(0, 2), slice(4, 6)  # answer.jsonl: two questions of each topic
    assert all(a != b for a, b in zip(found.answers[ANSWER][forgotten], own.answers[ANSWER][forgotten], strict=True))
    assert found.answers[ANSWER][general] == own.answers[ANSWER][general]
