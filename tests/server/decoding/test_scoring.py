"""A given text is scored by all that the black box told, however its lists arrive."""

from dataclasses import replace
from itertools import accumulate, pairwise

import numpy as np
import pytest

from deltaserve.errors import OffsetUnavailable
from deltaserve.server.decoding.correction import correct_given
from deltaserve.server.decoding.decoder import decode
from deltaserve.server.decoding.drafting.local import BlockDraft
from deltaserve.server.decoding.drafting.primed import PrimedSource
from deltaserve.server.decoding.drafting.upstream import UpstreamSource
from deltaserve.server.decoding.params import SamplingParams
from deltaserve.server.decoding.protocols import DraftParams, Proposal
from deltaserve.server.decoding.ranking import most_probable
from deltaserve.server.decoding.rows import NumpyRow
from deltaserve.server.decoding.scoring import score
from tests.support.toy import ToyBlackBox, ToySession, toy_logprobs, toy_stream

pytestmark = pytest.mark.anyio

TEXT = [int(i) for i in np.random.default_rng(3).integers(0, 12, 80)]


async def lists(black_box, ids, *sizes):
    """M's lists after ids[:1], ids[:2], … in portions of these sizes, the last one repeated."""
    block = await black_box.block(ids[:1], ids[1:], DraftParams(0.0, 1))
    ends = [0, *accumulate([*sizes, *[sizes[-1]] * len(ids)])]
    for first, last in pairwise(ends):
        if first < len(ids):
            yield block.proposals[first:last]


def portions(black_box, *sizes):
    return lists(black_box, TEXT, *(sizes or (len(TEXT),)))


async def test_each_token_has_the_log_probability_that_the_full_vocabulary_gives():
    scored = await score(TEXT, portions(ToyBlackBox(k=12)), ToySession(strength=0.7), "impute", 3)
    assert [token.token_id for token in scored] == TEXT
    assert (scored[0].logprob, scored[0].top) == (None, None)
    for at in range(1, len(TEXT)):
        m, o, u = (toy_logprobs(name, TEXT[:at], 12) for name in ("black box", "initial", "unlearned"))
        weights = m + 0.7 * (u - o)
        expected = weights - np.log(np.exp(weights).sum())
        assert scored[at].logprob == pytest.approx(expected[TEXT[at]], abs=1e-9)
        ids, values = scored[at].top
        assert ids.tolist() == np.argsort(-expected)[:3].tolist()
        assert values == pytest.approx(np.sort(expected)[::-1][:3], abs=1e-9)


async def test_a_token_that_the_black_box_did_not_list_has_its_imputed_value():
    black_box, session = ToyBlackBox(k=3), ToySession()
    scored = await score(TEXT, portions(black_box), session, "impute", 0)
    outside = 0
    async for proposals in portions(black_box):
        for at, proposal in enumerate(proposals[:-1], start=1):
            corrected = correct_given(proposal, await session.row(TEXT[:at]))
            outside += TEXT[at] not in proposal.top_ids
            assert scored[at].logprob == pytest.approx(corrected.log_q(TEXT[at]), abs=1e-12)
    assert outside > 10
    truncated = await score(TEXT, portions(black_box), session, "truncate", 0)
    assert sum(token.logprob == -np.inf for token in truncated[1:]) == outside


@pytest.mark.parametrize("sizes", [(1,), (31, 40), (32,), (33,), (7, 1)])
async def test_scores_do_not_depend_on_how_the_lists_are_portioned(sizes):
    whole = await score(TEXT, portions(ToyBlackBox()), ToySession(), "impute", 0)
    assert await score(TEXT, portions(ToyBlackBox(), *sizes), ToySession(), "impute", 0) == whole


@pytest.mark.parametrize(("k", "most"), [(12, 1e-12), (4, 0.2)])
async def test_scoring_an_answer_gives_its_generated_logprobs_except_where_the_tail_is_capped(k, most):
    params = SamplingParams(max_tokens=40, seed=4, top_logprobs=2)
    black_box, prompt = ToyBlackBox(k=k), [1, 2, 3]
    steps = [step async for step in decode(toy_stream(params, prompt=prompt), UpstreamSource(black_box))]
    text = [*prompt, *(step.token_id for step in steps)]
    scored = await score(text, lists(black_box, text, len(text)), ToySession(), "impute", 2)
    for step, token in zip(steps, scored[len(prompt) :], strict=True):
        assert -1e-12 <= step.logprob - token.logprob <= most
        assert token.top[0].tolist() == step.top[0].tolist()


@pytest.mark.parametrize("k", [1, 3, 11, 12])
async def test_at_strength_zero_every_logprob_of_the_black_box_is_returned_unchanged(k):
    black_box, expected, outside = ToyBlackBox(k=k), [], 0
    told = []
    async for proposals in portions(black_box):
        for at, proposal in enumerate(proposals[: len(TEXT) - 1], start=1):
            own = float(toy_logprobs("black box", TEXT[:at], 12)[TEXT[at]])
            beside = None if TEXT[at] in proposal.top_ids else own
            outside += beside is not None
            told.append(replace(proposal, token_id=TEXT[at], token_logprob=beside))
            expected.append(own)

    async def again():
        yield told

    scored = await score(TEXT, again(), ToySession(strength=0.0), "impute", 0)
    assert [token.logprob for token in scored[1:]] == pytest.approx(expected, abs=1e-6)  # rows are float32
    assert (outside == 0) == (k == 12)


async def test_a_number_told_beside_the_list_is_corrected_like_a_listed_one():
    m, o, u = (toy_logprobs(name, TEXT[:1], 12) for name in ("black box", "initial", "unlearned"))
    order = np.argsort(-m)
    last = int(order[-1])
    proposal = Proposal(last, order[:10], m[order[:10]], token_logprob=float(m[last]))
    found = correct_given(proposal, NumpyRow(o, u - o))
    weights = m + u - o  # one id is left for the tail: its mass is known, so nothing is guessed
    assert found.log_q(last) == pytest.approx((weights - np.log(np.exp(weights).sum()))[last], abs=1e-9)
    assert found.k == 10


async def test_a_listed_token_has_the_same_logprob_as_its_entry_in_the_list():
    black_box, session = ToyBlackBox(k=2), ToySession()
    scored = await score(TEXT, portions(black_box), session, "impute", 12)
    for token in scored[1:]:
        ids, values = token.top
        assert token.logprob == values[ids.tolist().index(token.token_id)]
    proposal = (await black_box.block(TEXT[:1], [], DraftParams(0.0, 1))).proposals[0]
    best = most_probable(correct_given(proposal, await session.row(TEXT[:1])), 1)
    assert scored[1].top[1][0] == best[1][0]


async def test_a_missing_list_is_an_error():
    async def cut():
        async for portion in portions(ToyBlackBox()):
            yield portion[:5]

    with pytest.raises(ValueError, match="not as many lists"):
        await score(TEXT, cut(), ToySession(), "impute", 0)


async def test_an_error_of_the_pair_is_raised_by_scoring():
    with pytest.raises(OffsetUnavailable):
        await score(TEXT, portions(ToyBlackBox()), ToySession(fails=OffsetUnavailable("gone")), "impute", 0)


async def test_a_first_proposal_known_from_scoring_saves_a_call_and_leaves_the_text_unchanged():
    params = SamplingParams(max_tokens=20, temperature=0.9, seed=8)
    expected = [step.token_id async for step in decode(toy_stream(params), UpstreamSource(ToyBlackBox()))]
    black_box = ToyBlackBox()
    block = await black_box.block([1, 2, 3], [], DraftParams(0.9, 1))
    primed = PrimedSource(BlockDraft(block.temperature, block.proposals[:1]), UpstreamSource(black_box))
    assert [step.token_id async for step in decode(toy_stream(params), primed)] == expected
    assert all(len(ids) > 3 for ids, _ in black_box.calls)
