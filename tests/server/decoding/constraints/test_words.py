"""Allowed ids and banned words, against the dense definition: mask × q."""

from dataclasses import replace

import numpy as np
import pytest

from deltaserve.server.decoding.constraints.words import Words
from deltaserve.server.decoding.deciding.from_row import goal_at
from deltaserve.server.decoding.decoder import decode
from deltaserve.server.decoding.drafting.upstream import CallLength, UpstreamSource
from deltaserve.server.decoding.history import History
from deltaserve.server.decoding.params import SamplingParams
from deltaserve.server.decoding.policy import Policy
from deltaserve.server.decoding.protocols import DraftParams
from tests.support.letters import END, compiled, letters, regex
from tests.support.toy import ToyBlackBox, ToySession, toy_stream

pytestmark = pytest.mark.anyio
SAMPLED = SamplingParams(max_tokens=30, temperature=1.0, eos_ids=frozenset({END}))
SIZE = 12


def history(said: list[int], **words: object) -> History:
    made = History(replace(SAMPLED, words=Words(SIZE, **words)), (1, 2, 3))
    for token_id in said:
        made.add(token_id)
    return made


@pytest.mark.parametrize(
    ("words", "said", "left_out"),
    [
        ({"banned": ((4,),)}, [], {4}),
        ({"banned": ((4, 5),)}, [], set()),
        ({"banned": ((4, 5),)}, [4], {5}),
        ({"banned": ((4, 5),)}, [4, 6], set()),
        ({"banned": ((3, 4, 5), (4, 6), (7,))}, [3, 4], {5, 6, 7}),
        ({"banned": ((2, 3, 4),)}, [3], set()),  # the prompt's 2 does not count
        ({"allowed": frozenset({0, 1, 2})}, [], set(range(3, SIZE))),
        ({"allowed": frozenset({0, 1, 2}), "banned": ((1,), (0, 2))}, [0], {1, 2, *range(3, SIZE)}),
    ],
)
def test_the_last_token_of_a_banned_word_may_not_follow_the_others(
    words: dict[str, object], said: list[int], left_out: set[int]
) -> None:
    made = history(said, **words)
    for one in (made, made.fork()):
        allowed = one.allowed()
        assert allowed is not None
        assert set(range(SIZE)) - set(allowed.ids.tolist()) == left_out


def test_a_fork_goes_its_own_way() -> None:
    made = history([4], banned=((4, 5),))
    made.fork().add(6)
    allowed = made.allowed()
    assert allowed is not None and 5 not in allowed


async def answer(params: SamplingParams, rng: int, length: int | None = None) -> list[int]:
    grammar = None if params.constraint is None else compiled(params.constraint)
    stream = toy_stream(params, session=ToySession(strength=1.0), grammar=grammar)
    black_box = ToyBlackBox(k=5, eos_id=END, rng=np.random.default_rng(rng))
    source = UpstreamSource(black_box, CallLength(length, fixed=True))
    return [step.token_id async for step in decode(stream, source)]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
async def test_an_answer_has_no_banned_word_and_no_other_token_than_those_allowed(temperature: float) -> None:
    words = Words(SIZE, frozenset({0, 1, 2, 3, END}), ((0, 1), (2,)))
    params = replace(SAMPLED, temperature=temperature, words=words)
    answers = [letters(await answer(params, rng, length=3)) for rng in range(20)]
    assert set("".join(answers)) <= set("abd.")
    assert not any("ab" in said for said in answers)
    free = [letters(await answer(replace(params, words=None), rng)) for rng in range(20)]
    assert set("".join(free)) - set("abd.")  # else nothing was forbidden


async def test_words_and_a_grammar_hold_together() -> None:
    params = replace(SAMPLED, constraint=regex("(a|b|c){1,8}"), words=Words(SIZE, banned=((1,), (0, 2))))
    answers = [letters(await answer(params, rng)) for rng in range(20)]
    assert all(set(said) <= set("ac.") and "ac" not in said for said in answers)


async def test_what_is_left_keeps_its_proportions() -> None:
    session, box = ToySession(strength=1.0), ToyBlackBox(k=5, eos_id=END)
    async with box.draft([1, 2, 3], DraftParams(1.0, 1)) as draft:
        proposal = await anext(aiter(draft))
    row = await session.row([1, 2, 3])
    free = goal_at(row, proposal, SAMPLED, Policy(), History(SAMPLED, (1, 2, 3))).probs
    likely, unlisted = int(free.argmax()), int(np.setdiff1d(np.arange(SIZE), proposal.top_ids)[0])
    params = replace(SAMPLED, words=Words(SIZE, banned=((likely,), (unlisted,))))
    held = goal_at(row, proposal, params, Policy(), History(params, (1, 2, 3))).probs
    mask = ~np.isin(np.arange(free.size), [likely, unlisted])
    np.testing.assert_allclose(held, free * mask / (free * mask).sum(), atol=1e-12)
