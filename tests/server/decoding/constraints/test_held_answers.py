"""Answers of the toy world that are held to a grammar, against the dense definition: mask × q."""

import re
from dataclasses import replace

import numpy as np
import pytest

from deltaserve.errors import BadRequest
from deltaserve.server.decoding.constraints.words import Words
from deltaserve.server.decoding.deciding.from_row import goal_at
from deltaserve.server.decoding.drafting.local import verified_block
from deltaserve.server.decoding.history import History
from deltaserve.server.decoding.policy import Guard, Policy
from deltaserve.server.decoding.protocols import NO_FLOATS, NO_IDS, Proposal
from tests.support.held import (
    BEGINNINGS,
    FORMS,
    GREEDY,
    PATTERNS,
    PROMPT,
    SAMPLED,
    allowed_next,
    answer,
    definition,
    held,
)
from tests.support.letters import END, compiled, letters, regex
from tests.support.toy import ToyBlackBox, ToySession, toy_logprobs, toy_stream

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize(("k", "strength"), [(1, 0.0), (1, 1.0), (5, 0.0), (5, 1.0)])
@pytest.mark.parametrize("base", [GREEDY, SAMPLED, replace(SAMPLED, seed=3)], ids=["greedy", "sampled", "seeded"])
@pytest.mark.parametrize("forms", FORMS)
async def test_no_token_leaves_that_the_grammar_does_not_allow(pattern, k, strength, base, forms):
    for rng in range(4):
        params = held(base if base.seed is None else replace(base, seed=rng), pattern)
        stream, steps, _ = await answer(params, k=k, strength=strength, rng=rng, forms=forms)
        said = letters([step.token_id for step in steps])
        if stream.finish_reason == "stop":
            assert re.fullmatch(pattern, said.rstrip("."))
        else:
            assert stream.finish_reason == "length"
            assert said in BEGINNINGS[pattern]


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("forms", FORMS)
async def test_a_greedy_answer_with_all_ids_listed_is_the_definitions(pattern, forms):
    _, steps, _ = await answer(held(GREEDY, pattern), k=12, forms=forms)
    said = []
    for step in steps:
        assert step.token_id == int(definition(pattern, said).argmax())
        said.append(step.token_id)


async def test_a_seeded_answer_is_the_same_whatever_the_drafts():
    pattern = "(a|bc|cd*e|[f-k]*a){1,3}"
    for seed in range(4):
        params = held(replace(SAMPLED, seed=seed), pattern)
        texts = {
            letters([step.token_id for step in (await answer(params, length=length, burst=burst, rng=burst, **how))[1]])
            for length, burst in [(1, 1), (3, 2), (None, 50)]
            for how in ({}, {"forms": "unmasked"})
        }
        assert len(texts) == 1


async def test_forced_tokens_are_emitted_without_a_call():
    stream, steps, black_box = await answer(held(GREEDY, "abcdefgh"))
    assert letters([step.token_id for step in steps]) == "abcdefgh"
    assert (stream.finish_reason, black_box.calls, stream.stats.forced) == ("stop", [], 8)
    assert all(step.forced and step.certified for step in steps)


async def test_where_logprobs_are_wanted_forced_tokens_are_decided_like_others():
    _, steps, black_box = await answer(held(replace(GREEDY, top_logprobs=2), "abc"), k=12)
    assert letters([step.token_id for step in steps]) == "abc"
    assert black_box.calls
    assert all(step.forced for step in steps)
    ids = list(PROMPT)
    for step in steps:
        m, o, u = (toy_logprobs(name, ids, 12) for name in ("black box", "initial", "unlearned"))
        weights = m + u - o  # of q, before the mask
        assert step.logprob == pytest.approx(weights[step.token_id] - np.log(np.exp(weights).sum()))
        ids.append(step.token_id)


@pytest.mark.parametrize("ignore_eos", [False, True])
async def test_an_answer_ends_where_only_its_end_could_follow(ignore_eos):
    stream, steps, _ = await answer(held(replace(GREEDY, ignore_eos=ignore_eos), "(ab|cd)"))
    assert letters([step.token_id for step in steps]) in {"ab", "cd"}
    assert (stream.finish_reason, stream.stop_reason) == ("stop", None)


async def test_with_ignore_eos_an_end_is_not_emitted_while_something_else_may_follow():
    for rng in range(5):
        stream, steps, _ = await answer(held(replace(SAMPLED, ignore_eos=True), "a[b-d]*"), rng=rng)
        assert stream.finish_reason == "length"
        assert END not in [step.token_id for step in steps]


async def test_before_the_sequence_that_begins_it_nothing_is_constrained():
    constraint = regex("(fed|k)", after=(0, 1))
    for rng in range(4):
        params = replace(SAMPLED, max_tokens=100, eos_ids=frozenset({END}), ignore_eos=True, constraint=constraint)
        stream, steps, _ = await answer(params, rng=rng)
        text = letters([step.token_id for step in steps])
        _, begun, rest = text.partition("ab")
        assert rest in {"fed", "k"} if stream.finish_reason == "stop" else not begun or "fed".startswith(rest)


async def test_a_guard_narrows_what_the_grammar_allows():
    policy = Policy(guard=Guard(kl_nats=0.0, temperature=0.0))
    said = set()
    for rng in range(5):
        _, steps, _ = await answer(held(SAMPLED, "(a|bc|cd*e){1,3}"), k=12, rng=rng, policy=policy)
        said.add(letters([step.token_id for step in steps]))
    _, greedy, _ = await answer(held(GREEDY, "(a|bc|cd*e){1,3}"), k=12)
    assert said == {letters([step.token_id for step in greedy])}


async def test_blocks_that_the_pair_drafts_obey_the_grammar():
    pattern = "(a|bc|cd*e){1,3}"
    for rng in range(10):
        params = held(SAMPLED, pattern)
        stream = toy_stream(params, grammar=compiled(params.constraint))
        drafted = await stream.corrector.draft(6)
        said = letters(drafted).rstrip(".")
        assert said in BEGINNINGS[pattern]
        block = await verified_block(stream, ToyBlackBox(rng=np.random.default_rng(rng)), drafted)
        decisions = await stream.corrector.decide(block.arrived(), block.temperature)
        emitted = letters([decision.token_id for decision in decisions]).rstrip(".")
        assert emitted in BEGINNINGS[pattern]


async def test_a_draft_that_nothing_can_follow_ends_there():
    params = replace(held(GREEDY, "[ab]cd"), words=Words(12, banned=((3,),)))
    stream = toy_stream(params, grammar=compiled(params.constraint))
    assert letters(await stream.corrector.draft(6)) in {"ac", "bc"}
    nothing = replace(params, words=Words(12, banned=((0,), (1,))))
    with pytest.raises(BadRequest, match="no token"):
        await toy_stream(nothing, grammar=compiled(nothing.constraint)).corrector.draft(6)


def test_nothing_may_follow_a_token_that_the_grammar_does_not_allow():
    params = held(GREEDY, "ab")
    history = History(params, PROMPT, compiled(params.constraint))
    history.add(5)
    assert history.void
    assert history.allowed().count == 0


@pytest.mark.parametrize("policy", [Policy(), Policy(tail="truncate")])
async def test_where_the_black_box_leaves_the_grammar_no_mass_the_pair_decides(policy):
    params = held(SAMPLED, "[ab]c")
    sure = Proposal(7, np.array([7, 8]), np.log([0.75, 0.25]))  # all of the mass, and none of it in the grammar
    row = await ToySession().row(list(PROMPT))
    history = History(params, PROMPT, compiled(params.constraint))
    goal = goal_at(row, sure, params, policy, history)
    unlearned = np.exp(toy_logprobs("unlearned", PROMPT, 12)[:2])
    np.testing.assert_allclose(goal.probs[:2], unlearned / unlearned.sum(), rtol=1e-6)
    blind = goal_at(row, Proposal(None, NO_IDS, NO_FLOATS), params, policy, history)
    np.testing.assert_allclose(goal.probs, blind.probs)


@pytest.mark.parametrize("few", [0, 512], ids=["a masked tail", "allowed ids made explicit"])
@pytest.mark.parametrize("k", [0, 1, 4, 12])
@pytest.mark.parametrize("more", [{}, {"temperature": 0.6, "repetition_penalty": 1.4, "logit_bias": {3: 2.0}}])
async def test_a_constrained_target_is_the_other_one_masked(monkeypatch, few, k, more):
    monkeypatch.setattr("deltaserve.server.decoding.history.FEW", few)
    free = replace(SAMPLED, **more)
    params = held(free, "b*(cde)?f")
    listed = toy_logprobs("black box", PROMPT, 12)
    top = np.argsort(-listed)[:k]
    row = await ToySession().row(list(PROMPT))
    for said in ([], [1], [2]):
        masked, plain = History(params, PROMPT, compiled(params.constraint)), History(free, PROMPT)
        for token_id in said:
            masked.add(token_id)
            plain.add(token_id)
        proposal = Proposal(None, top, listed[top])
        goal = goal_at(row, proposal, params, Policy(), masked)
        expected = goal_at(row, proposal, free, Policy(), plain).probs * allowed_next("b*(cde)?f", letters(said))
        np.testing.assert_allclose(goal.probs, expected / expected.sum(), rtol=1e-9)
        np.testing.assert_allclose([goal.prob(i) for i in range(12)], goal.probs, rtol=1e-9)
        assert replace(goal, params=replace(params, temperature=0.0)).best() == int(goal.probs.argmax())


@pytest.mark.parametrize("few", [0, 512])
@pytest.mark.parametrize("k", [1, 2, 4])
async def test_a_certified_step_is_the_definitions_whatever_the_list_leaves_out(monkeypatch, few, k):
    monkeypatch.setattr("deltaserve.server.decoding.history.FEW", few)
    certified = 0
    for n in range(60):
        prompt = (n, 2, 3)
        params = held(GREEDY, "[abcfk][a-k]*")
        listed = toy_logprobs("black box", prompt, 12)
        top = np.argsort(-listed)[:k]
        row = await ToySession(strength=0.3).row(list(prompt))
        history = History(params, prompt, compiled(params.constraint))
        goal = goal_at(row, Proposal(None, top, listed[top]), params, Policy(), history)
        if goal.certified:
            weights = listed + row.log_offset
            weights[[3, 4, 6, 7, 8, 9, END]] = -np.inf
            assert goal.best() == int(weights.argmax())
            certified += 1
    assert certified > 2


@pytest.mark.parametrize("few", [0, 512])
async def test_among_allowed_ids_at_the_tails_cap_the_initial_model_decides_whoever_drafted(monkeypatch, few):
    monkeypatch.setattr("deltaserve.server.decoding.history.FEW", few)
    params = held(GREEDY, "[abc]k")
    row = await ToySession(strength=0.0).row(list(PROMPT))
    listed = Proposal(
        None, np.array([7, 8, 9]), np.log([0.06, 0.05, 0.04])
    )  # 0.85 is left for nine ids: all at the cap
    goal = goal_at(row, listed, params, Policy(), History(params, PROMPT, compiled(params.constraint)))
    likeliest = int(toy_logprobs("initial", PROMPT, 12)[:3].argmax())
    assert {goal.best(preferred) for preferred in (None, 0, 1, 2, 7)} == {likeliest}


async def test_a_grammar_that_allows_nothing_is_an_error():
    with pytest.raises(BadRequest):
        await answer(held(replace(SAMPLED, eos_ids=frozenset()), ""))


async def test_a_constrained_answer_without_its_grammar_is_refused():
    with pytest.raises(ValueError, match="grammar"):
        toy_stream(held(GREEDY, "a"))
