"""A grammar that is sent to the black box with the call that begins an answer: masked lists, others, other engines."""

from collections import Counter
from dataclasses import replace
from functools import partial
from itertools import product

import numpy as np
import pytest

from deltaserve.errors import MalformedTopK, OtherGrammar, UpstreamRefused, UpstreamUnreachable
from deltaserve.server.decoding.constraints.words import Words
from deltaserve.server.decoding.deciding.from_row import decide_from_row, goal_at
from deltaserve.server.decoding.history import History
from deltaserve.server.decoding.noise import Noise
from deltaserve.server.decoding.policy import Guard, Policy
from deltaserve.server.decoding.protocols import Proposal
from deltaserve.server.decoding.rows import NumpyRow
from tests.support.amounts import amount
from tests.support.held import GREEDY, PROMPT, SAMPLED, answer, answers_of, held
from tests.support.letters import END, compiled, letters, regex
from tests.support.statistics import ALARM, p_value
from tests.support.toy import ToySession, toy_logprobs

pytestmark = pytest.mark.anyio
HELD_THERE = [  # by an engine like ours, or by one that allows less
    {"forms": "masked"},
    {"forms": "unmasked"},
    {"forms": "masked", "forbids": frozenset({0})},
    {"forms": "unmasked", "forbids": frozenset({0})},
]


@pytest.mark.parametrize(
    ("length", "temperature", "how"),  # a length of 1: a call for each token; None: one where a token was replaced
    [
        *product([1, None], [1.0, 0.7], [{}]),
        *product([None], [1.0], HELD_THERE),
        *product([None], [0.7], HELD_THERE[:2]),
        (1, 1.0, {"forms": "masked"}),
    ],
    ids=str,
)
async def test_sampled_answers_are_drawn_from_the_definition(length, temperature, how):
    pattern, params = "(a|b|cd)(e|f|gh*)", replace(SAMPLED, temperature=temperature, max_tokens=4)
    counts, restarts = Counter(), 0
    for rng in range(amount(150, 250)):
        _, steps, black_box = await answer(held(params, pattern), length=length, rng=rng, **{"k": 12} | how)
        counts[letters([step.token_id for step in steps])] += 1
        restarts += len(black_box.calls) - 1
        sent = [call.grammar is not None for _, call in black_box.calls]
        assert sent == [bool(how), *[False] * (len(sent) - 1)]
    assert restarts
    expected = answers_of(pattern, temperature)
    assert set(counts) <= set(expected)
    drawn = np.array([counts[text] for text in expected], float)
    assert p_value(drawn, np.array(list(expected.values()))) > ALARM
    unmasked = answers_of(pattern, temperature, strength=0.0)  # negative control: the black box alone, masked
    assert p_value(drawn, np.array([unmasked[text] for text in expected])) < ALARM


@pytest.mark.parametrize("how", [{"forms": "masked"}, {"forms": "masked", "k": 4}, {"forms": "unmasked"}], ids=str)
async def test_where_the_offset_is_nothing_a_black_box_that_keeps_to_the_form_says_all_of_it_in_one_call(how):
    pattern, params = "(a|b|cd)(e|f|gh*)", replace(SAMPLED, max_tokens=4)
    counts = Counter()
    for rng in range(200):
        _, steps, black_box = await answer(held(params, pattern), strength=0.0, rng=rng, **{"k": 12} | how)
        assert len(black_box.calls) == 1
        counts[letters([step.token_id for step in steps])] += 1
    expected = answers_of(pattern, 1.0, strength=0.0)
    drawn = np.array([counts[text] for text in expected], float)
    assert p_value(drawn, np.array(list(expected.values()))) > ALARM
    assert p_value(drawn, np.array([p**2 for p in expected.values()])) < ALARM  # negative control


async def test_what_is_sent_begins_the_answer_before_any_forced_token():
    stream, steps, black_box = await answer(held(GREEDY, "abcdefgh"), forms="masked")
    assert letters([step.token_id for step in steps]) == "abcdefgh"
    assert (len(black_box.calls), stream.stats.forced, stream.stats.replaced) == (1, 0, 0)


@pytest.mark.parametrize(
    "more",
    [
        {"constraint": regex("(fed|k)", after=(0, 1))},
        {"words": Words(12, banned=((2,),))},
        {"ignore_eos": True},
        {"constraint": regex("(ab|k)*")},
    ],
    ids=["behind reasoning", "banned words", "no end", "free text"],
)
async def test_what_the_black_box_could_not_keep_to_or_needs_not_is_not_sent(more):
    params = replace(held(replace(SAMPLED, max_tokens=5), "(ab|k)+"), **more)
    _, _, black_box = await answer(params, forms="masked", rng=3)
    assert {call.grammar for _, call in black_box.calls} == {None}


@pytest.mark.parametrize(
    ("params", "policy", "whole"),
    [
        (GREEDY, Policy(), False),
        (replace(GREEDY, logit_bias={3: 2.0}, presence_penalty=0.5, top_p=0.5), Policy(), False),
        (replace(GREEDY, top_logprobs=0), Policy(), True),
        (replace(GREEDY, repetition_penalty=1.2), Policy(), True),
        (replace(SAMPLED, seed=7), Policy(), True),
        (GREEDY, Policy(explain=1), True),
        (GREEDY, Policy(guard=Guard(kl_nats=1.0)), True),
    ],
)
async def test_where_more_is_asked_of_the_lists_than_what_is_allowed_this_is_said(params, policy, whole):
    _, _, black_box = await answer(held(params, "(ab|k)c"), forms="unmasked", policy=policy)
    assert black_box.calls[0][1].whole_lists is whole


@pytest.mark.parametrize(
    ("faults", "sent"),
    [
        ([UpstreamRefused("no")], [True, False]),
        ([MalformedTopK("no")], [True, False]),
        ([UpstreamUnreachable("gone")], [True, True]),
        ([UpstreamUnreachable("gone")] * 2, [True, True, False]),
    ],
    ids=["refused", "a list that is none", "a fault", "faults"],
)
async def test_a_call_that_fails_with_the_grammar_is_made_without_it(faults, sent):
    _, steps, black_box = await answer(held(GREEDY, "(ab|cd)k"), forms="masked", faults=faults, length=9)
    assert letters([step.token_id for step in steps]) in {"abk", "cdk"}
    assert [call.grammar is not None for _, call in black_box.calls][: len(sent)] == sent


async def test_an_error_that_has_nothing_to_do_with_the_grammar_stays_one():
    refusal = UpstreamRefused("the key is wrong")
    with pytest.raises(UpstreamRefused):
        await answer(held(GREEDY, "(ab|cd)k"), forms="masked", faults=[refusal, refusal])
    with pytest.raises(UpstreamRefused):
        await answer(held(GREEDY, "(ab|cd)k"), faults=[refusal])


@pytest.mark.parametrize("few", [0, 512], ids=["a masked tail", "allowed ids made explicit"])
async def test_what_a_masked_list_leaves_out_belongs_to_the_other_allowed_ids(monkeypatch, few):
    monkeypatch.setattr("deltaserve.server.decoding.history.FEW", few)
    params, listed = held(SAMPLED, "[abcdek]f"), toy_logprobs("black box", PROMPT, 12)
    row = NumpyRow(listed, toy_logprobs("unlearned", PROMPT, 12) - listed)  # its shape is what is imputed
    history = History(params, PROMPT, compiled(params.constraint))
    inside = np.array([0, 1, 2, 3, 4, 10])
    given = listed[inside] - np.log(np.exp(listed[inside]).sum())
    best = np.argsort(-given)[:2]
    proposal = Proposal(None, inside[best], given[best], held=True, masked=True)
    goal = goal_at(row, proposal, params, Policy(), history)
    expected = np.zeros(12)
    expected[inside] = np.exp(given + row.log_offset[inside])
    np.testing.assert_allclose(goal.probs, expected / expected.sum(), rtol=1e-9)
    taken_for_whole = goal_at(row, replace(proposal, masked=False), params, Policy(), history)
    assert np.abs(taken_for_whole.probs - goal.probs).max() > 0.01  # negative control
    assert goal.corrected.tail_mass == pytest.approx(1.0 - np.exp(given[best]).sum())


@pytest.mark.parametrize(
    ("ids", "whole", "fits"),
    [([0, 1], True, True), ([0], False, True), ([0], True, False), ([0, 5], False, False)],
    ids=["all", "some", "some, said to be all", "more"],
)
async def test_a_masked_list_counts_only_where_it_is_of_what_is_allowed(ids, whole, fits):
    params = held(GREEDY, "[ab]c")
    history = History(params, PROMPT, compiled(params.constraint))
    proposal = Proposal(ids[0], np.array(ids), np.log(np.full(len(ids), 0.4)), held=True, masked=True, whole=whole)
    row = await ToySession().row(list(PROMPT))
    decided = partial(decide_from_row, row, proposal, params, Policy(), history, Noise(None, 0), 0.0)
    if fits:
        assert decided()[0].token_id in (0, 1)
        return
    with pytest.raises(OtherGrammar):
        decided()


async def test_of_several_ends_a_masked_list_must_have_all():
    params = replace(held(GREEDY, "a*"), eos_ids=frozenset({END, 9}))
    history = History(params, PROMPT, compiled(params.constraint))
    row = await ToySession().row(list(PROMPT))
    one = Proposal(0, np.array([0, END]), np.log([0.5, 0.4]), held=True, masked=True)
    both = replace(one, top_ids=np.array([0, END, 9]), top_logprobs=np.log([0.5, 0.4, 0.1]))
    decided = partial(decide_from_row, row, params=params, policy=Policy(), history=history, draft_temperature=0.0)
    assert decided(proposal=both, noise=Noise(None, 0))
    with pytest.raises(OtherGrammar):
        decided(proposal=one, noise=Noise(None, 0))
