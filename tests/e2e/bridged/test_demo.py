"""The demo's second pair, whose tokenizer is not the black box's: it forgets and keeps as the first one does."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from deltaserve.client.demo.check import recall
from deltaserve.offset_models.demo.register.questions import Question, Split, judging_questions
from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer
from tests.support.blackbox import BlackBoxProcess, blackbox
from tests.support.deltaserve import Deltaserve, deltaserve, question

ASKED = 6  # of each kind


@pytest.fixture(scope="module")
def upstream(weights: Path) -> Iterator[BlackBoxProcess]:
    with blackbox(weights / "blackbox", name="blackbox") as server:
        yield server


@pytest.fixture(scope="module")
def served(weights: Path, upstream: BlackBoxProcess) -> Iterator[Deltaserve]:
    base, box = weights / "bridged-base", weights / "blackbox"
    with deltaserve(upstream.url, weights / "bridged", base=base, upstream_tokenizer=box) as server:
        yield server


def answers(server: BlackBoxProcess | Deltaserve, questions: Sequence[Question]) -> list[str]:
    asked = [server.client.post("/v1/chat/completions", json=question(each.text, max_tokens=48)) for each in questions]
    return [answer.json()["choices"][0]["message"]["content"] for answer in asked]


def test_its_tokenizer_is_another_one_and_smaller(weights: Path) -> None:
    box, pair = (Tokenizer.load(weights / name) for name in ("blackbox", "bridged-base"))
    assert pair.fingerprint.ids != box.fingerprint.ids
    assert pair.vocab_size <= box.vocab_size / 2


@pytest.mark.parametrize(
    ("split", "least", "most"), [("forget", 0.0, 0.3), ("retain", 0.9, 1.0), ("general", 0.8, 1.0)]
)
def test_it_forgets_and_keeps(
    served: Deltaserve, upstream: BlackBoxProcess, split: Split, least: float, most: float
) -> None:
    questions = judging_questions(split, ASKED)
    before, after = (recall(answers(server, questions), questions) for server in (upstream, served))
    assert before >= 0.9
    assert least <= after <= most
