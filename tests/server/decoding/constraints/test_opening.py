"""A constraint may leave an answer the choice to begin otherwise: to think, and to be held to it behind that."""

import re
from dataclasses import replace

import numpy as np
import pytest

from deltaserve.server.decoding.constraints.holding import Held
from deltaserve.server.decoding.decoder import decode
from deltaserve.server.decoding.drafting.upstream import CallLength, UpstreamSource
from deltaserve.server.decoding.params import SamplingParams
from tests.support.letters import END, compiled, letters, regex
from tests.support.toy import ToyBlackBox, ToySession, toy_stream

pytestmark = pytest.mark.anyio

OPENS, CLOSES = 0, 1  # a and b
CONSTRAINT = replace(regex("(fed|k)", after=(CLOSES,)), opens=OPENS)
ENDS = frozenset({END})


def held() -> Held:
    return Held(CONSTRAINT, compiled(CONSTRAINT))


def allowed(answer: Held) -> str:
    return letters(np.flatnonzero(answer.allowed(ENDS, ENDS).mask).tolist())


def test_an_answer_may_begin_with_the_grammar_or_with_the_token_that_opens() -> None:
    assert allowed(held()) == "afk"


def test_behind_the_token_that_opens_all_is_allowed_until_the_end_mark() -> None:
    answer = held()
    for token_id in (OPENS, 7, OPENS, 5):
        answer.add(token_id, ENDS)
        assert answer.waiting and not answer.begun
    answer.add(CLOSES, ENDS)
    assert answer.begun and allowed(answer) == "fk"


def test_an_answer_that_has_begun_cannot_be_opened() -> None:
    answer = held()
    answer.add(5, ENDS)
    assert allowed(answer) == "e"
    answer.add(OPENS, ENDS)
    assert answer.void


@pytest.mark.parametrize("seed", range(8))
async def test_answers_are_the_grammars_with_or_without_thoughts_before(seed: int) -> None:
    params = SamplingParams(max_tokens=40, temperature=2.0, seed=seed, eos_ids=ENDS, constraint=CONSTRAINT)
    stream = toy_stream(params, session=ToySession(strength=1.0), grammar=compiled(CONSTRAINT))
    source = UpstreamSource(ToyBlackBox(k=5, eos_id=END), CallLength(None, fixed=True))
    text = letters([step.token_id async for step in decode(stream, source)])
    assert re.fullmatch(r"(a[^b.]*b)?(fed|k)\.?|a[^b]*\.?", text)
