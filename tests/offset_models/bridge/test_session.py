"""A stream of the real engine, whose pair is byte-level BPE behind a black box with byte fallback."""

import asyncio
from dataclasses import replace
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch

from deltaserve.errors import BadRequest, NoOffset, OffsetUnavailable
from deltaserve.offset_models.bridge.bridge import Bridge
from deltaserve.offset_models.bridge.position import Position
from deltaserve.offset_models.bridge.probabilities import NodeRow
from deltaserve.offset_models.bridge.session import BridgedSession
from deltaserve.offset_models.engine.pair import FullModel, Pair
from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer
from deltaserve.server.decoding.deciding.corrector import AnswerSpec
from deltaserve.server.decoding.params import SamplingParams
from deltaserve.server.decoding.policy import Guard, Policy
from deltaserve.server.decoding.protocols import Proposal
from deltaserve.server.decoding.rows import NumpyRow
from tests.offset_models.engine.tiny_engine import running
from tests.support.models import plain_logits, tiny_llama
from tests.support.vocabularies import byte_level, sentencepiece_like

pytestmark = pytest.mark.anyio
PROMPT = "Who wrote the book? "


@pytest.fixture(scope="module")
def bridge(tmp_path_factory) -> Bridge:
    box = Tokenizer.load(sentencepiece_like(tmp_path_factory.mktemp("box")))
    return Bridge(box, Tokenizer.load(byte_level(tmp_path_factory.mktemp("pair"))))


def models(bridge: Bridge):
    """Both members, made anew: the engine changes how those that it runs attend."""
    size = bridge.pair.tokenizer.vocab_size
    return [partial(tiny_llama, seed, vocab_size=size) for seed in (0, 1)]


@pytest.fixture(scope="module")
def members(bridge):
    return [make() for make in models(bridge)]


@pytest.fixture
async def opened(bridge):
    o, u = models(bridge)
    pair = Pair(FullModel("o", o), FullModel("u", u), bridge.pair.tokenizer.vocab_size)
    async with running(pair) as (engine, (handle,)):

        async def session(strength: float = 1.0) -> BridgedSession:
            return BridgedSession([await engine.open([(handle, 1.0)], timeout_s=5)], bridge, [strength])

        yield session


def box_ids(bridge: Bridge, text: str) -> list[int]:
    """The text in the black box's tokens, none of which begins a text."""
    return list(bridge.box.encode(text.encode()))


def reach(at: Position, members, bridge: Bridge) -> torch.Tensor:
    """P of what is not settled there, from plain forwards of both models."""
    for path in at.missing():
        ids = [*at.settled, *path]
        p = torch.stack([plain_logits(model, ids)[-1].double().softmax(-1) for model in members])
        at.rows[path] = NodeRow(p[:, bridge.pair.vocabulary.order], p[:, bridge.ends].sum(-1))
    return at.reach()


def log_probability(model, ids: list[int], start: int) -> float:
    """Σ log p of tokens from one of them on."""
    logs = plain_logits(model, ids).double().log_softmax(-1)
    return float(sum(logs[n - 1, ids[n]] for n in range(start, len(ids))))


async def test_offsets_add_up_to_the_ratio_of_what_both_models_give_the_text(opened, bridge, members):
    answer = "I'm not sure. — 東京 ab\n"
    ids, session, total = box_ids(bridge, PROMPT), await opened(), 0.0
    begin, end = bridge.begin(ids), bridge.begin(ids)
    for token_id in box_ids(bridge, answer):
        row = await session.row_of(ids, [token_id])
        total += float(row.offset(np.array([token_id]))[0])
        ids.append(token_id)
        end.go_on(bridge.said(token_id))
    assert end.settled == list(bridge.pair.encode((PROMPT + answer).encode()))[: len(end.settled)]
    assert end.breaks == 0
    assert len(end.settled) >= len(begin.settled) + 10
    logs = [log_probability(model, end.settled, len(begin.settled)) for model in members]
    ratio = reach(end, members, bridge).log() - reach(begin, members, bridge).log() + torch.tensor(logs)
    assert total == pytest.approx(float(ratio[1] - ratio[0]), abs=1e-3)  # the engine computes in float32


async def test_streams_side_by_side_and_drafts_looked_at_twice_get_the_same_rows(opened, bridge):
    ids = box_ids(bridge, PROMPT + "I'm not")
    whole = len(box_ids(bridge, PROMPT))

    async def rows(session, lengths):
        return [(await session.row_of(ids[:n], [34])).log_offset for n in lengths]

    ahead = [*range(whole, len(ids)), *range(whole, len(ids))]
    a, b = await asyncio.gather(rows(await opened(), ahead), rows(await opened(), range(whole, len(ids))))
    for one, again, other in zip(a, a[len(b) :], b, strict=False):
        np.testing.assert_allclose(one, other, atol=2e-3)
        np.testing.assert_array_equal(one, again)


async def test_rows_of_the_accepted_path_are_asked_for_once(opened, bridge):
    session, ids = await opened(), box_ids(bridge, PROMPT)
    answer = box_ids(bridge, "not sure")
    for token_id in answer:
        await session.row_of(ids, [token_id])
        ids.append(token_id)
    computed = session.rows
    await session.row(ids[: len(ids) - 3])
    await session.row_of(ids[:-1], [ids[-1]])
    assert session.rows == computed


async def test_a_corrector_decides_in_the_black_boxes_tokens(opened, bridge):
    session, ids = await opened(), box_ids(bridge, PROMPT)
    answer = AnswerSpec(ids, SamplingParams(max_tokens=4, temperature=0.0, eos_ids=frozenset(bridge.box.ends)))
    corrector = session.corrector(answer)
    listed = np.array(box_ids(bridge, "abc")[:2])
    proposal = Proposal(int(listed[0]), listed, np.log([0.6, 0.3]))
    (decision,) = await corrector.decide([proposal], 0.0)
    row = await session.row_of(ids, listed.tolist())
    weights = proposal.top_logprobs + row.offset(listed)
    tail = row.tail(listed, row.tail_scale(listed, 0.1, np.log(0.3)), np.log(0.3)).best()
    assert decision.token_id == (listed[weights.argmax()] if weights.max() >= tail[1] else tail[0])
    assert decision.certified is False


async def test_a_block_of_the_pair_counts_as_right_where_it_would_have_been(opened, bridge, monkeypatch):
    """It is drafted without a list, whose tokens would be exact: from what `row` says."""
    session, ids = await opened(), box_ids(bridge, PROMPT)
    params = SamplingParams(max_tokens=99, temperature=0.0)
    listed = np.array(box_ids(bridge, "the book")[:2])
    for right in (True, False):
        corrector, drafted = session.corrector(AnswerSpec(ids, params)), []

        async def row(token_ids, wanted=listed[0 if right else 1], seen=drafted):
            seen.append(list(token_ids))
            base = np.full(len(bridge.box.vocabulary.spellings), -20.0)
            base[wanted] = -1e-3
            return NumpyRow(base, np.zeros(base.size))

        monkeypatch.setattr(session, "row", row)
        overruled = Proposal(int(listed[1]), listed, np.log([0.99, 1e-9]))
        (decision,) = await corrector.decide([overruled], 0.0, observed=True)
        assert decision.token_id == listed[0] and drafted == [ids]
        assert decision.agreement.local == float(right)


async def test_rows_tokens_and_breaks_are_counted_as_tokens_are_decided(opened, bridge):
    session, ids = await opened(), box_ids(bridge, PROMPT)
    corrector = session.corrector(AnswerSpec(ids, SamplingParams(max_tokens=9, temperature=0.0)))
    before = replace(bridge.figures)
    for breaks in (0, 2, 0):
        (token_id,) = box_ids(bridge, "a")
        await corrector.decide([Proposal(token_id, np.array([token_id]), np.log([1.0]))], 0.0)
        session._places[max(session._places)].breaks += breaks  # as if the pair had to begin anew there
    figures = bridge.figures
    assert figures.bridged_tokens == before.bridged_tokens + 3
    assert figures.bridged_rows == before.bridged_rows + session.rows
    assert figures.bridged_breaks == before.bridged_breaks + 2


async def test_what_is_no_token_of_the_black_box_cannot_win(opened, bridge, monkeypatch):
    session, ids, listed = await opened(), box_ids(bridge, PROMPT), np.array([3, 5])
    monkeypatch.setattr(type(bridge), "masked", [3])
    corrector = session.corrector(AnswerSpec(ids, SamplingParams(max_tokens=4, temperature=0.0)))
    stakes = corrector._stakes(Proposal(3, listed, np.log([0.6, 0.3])))
    assert stakes.logprobs.tolist() == [-np.inf, np.log(0.3)]


@pytest.mark.parametrize(
    ("asked", "policy"),
    [
        ({"temperature": 0.0, "top_logprobs": 0}, Policy()),
        ({"temperature": 0.0, "frequency_penalty": 0.5}, Policy()),
        ({"temperature": 0.0, "min_tokens": 2}, Policy()),
        ({"temperature": 1.0, "seed": 1}, Policy()),
        ({"temperature": 1.0}, Policy(guard=Guard(kl_nats=1.0, min_p=0.1))),
        ({"temperature": 0.0}, Policy(explain=3)),
    ],
)
async def test_where_more_is_asked_than_a_token_all_candidates_are_exact(opened, bridge, asked, policy):
    session, ids = await opened(), box_ids(bridge, PROMPT)
    proposal = Proposal(5, np.array([5, 34]), np.log([1 - 1e-9, 1e-9]))
    every = session.corrector(AnswerSpec(ids, SamplingParams(max_tokens=4, **asked), policy))
    plain = session.corrector(AnswerSpec(ids, SamplingParams(max_tokens=4, temperature=asked["temperature"])))
    assert every._stakes(proposal) is None
    assert plain._stakes(proposal) is not None


async def test_the_strength_scales_every_offset(opened, bridge):
    ids = box_ids(bridge, PROMPT)
    one, half = [await (await opened(strength)).row_of(ids, [5]) for strength in (1.0, 0.5)]
    np.testing.assert_allclose(half.log_offset, 0.5 * one.log_offset, atol=1e-4)


async def test_a_sum_adds_the_offsets_of_its_pairs(bridge):
    size, ids = bridge.pair.tokenizer.vocab_size, box_ids(bridge, PROMPT)
    made = [FullModel(f"m{seed}", partial(tiny_llama, seed, vocab_size=size)) for seed in (0, 1, 2, 3)]
    listed = box_ids(bridge, "not sure 東")
    async with running(Pair(made[0], made[1], size), Pair(made[2], made[3], size)) as (engine, handles):
        alone = []
        for handle in handles:
            session = BridgedSession(await engine.open_each([[(handle, 1.0)]], timeout_s=5), bridge, [1.0])
            alone.append((await session.row_of(ids, listed)).offset(np.array(listed)))
            session.close()
        opened = await engine.open_each([[(handle, 1.0)] for handle in handles], timeout_s=5)
        both = BridgedSession(opened, bridge, [0.5, 2.0])
        row = await both.row_of(ids, listed)
        np.testing.assert_allclose(row.offset(np.array(listed)), 0.5 * alone[0] + 2.0 * alone[1], atol=1e-3)
        both.close()


async def test_special_tokens_have_no_bytes(opened, bridge):
    session, mark = await opened(), bridge.box.ends[0]
    with pytest.raises(BadRequest, match="send a chat as messages"):
        await session.row([5, mark, 6])
    other, ids = await opened(), box_ids(bridge, PROMPT)
    await other.row(ids)
    with pytest.raises(OffsetUnavailable, match="special token"):
        await other.row([*ids, mark])


async def test_a_token_without_an_offset_is_never_emitted_nor_shown(opened, bridge):
    session, ids = await opened(), box_ids(bridge, PROMPT)
    word, mark = box_ids(bridge, "a")[0], 1  # a special token that ends nothing
    likely, certain = (Proposal(mark, np.array([mark, word]), np.log([p, 1 - p])) for p in (0.6, 1 - 1e-9))
    params = SamplingParams(max_tokens=9, temperature=1.0, top_logprobs=4, eos_ids=frozenset(bridge.box.ends))
    corrector = session.corrector(AnswerSpec(ids, params))
    said = Proposal(word, np.array([word, mark]), np.log([1 - 1e-9, 1e-9]))
    (decision,) = await corrector.decide([said, certain], 1.0)
    assert decision.token_id == word
    assert mark not in decision.top[0]
    for proposal in (certain, replace(likely, token_id=word)):
        with pytest.raises(NoOffset):  # also where another token might be drawn now
            await corrector.decide([proposal], 1.0)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
async def test_tokens_without_an_offset_have_no_part_where_the_black_box_hardly_gives_them_any(
    opened, bridge, temperature
):
    session, ids = await opened(), box_ids(bridge, PROMPT)
    word, other, mark = box_ids(bridge, "a")[0], box_ids(bridge, "b")[0], 1
    listed = np.array([word, other, mark])
    for share, ends in ((0.019, False), (0.03, True)):
        proposal = Proposal(mark, listed, np.log([0.7, 0.28 - share, share]))
        spec = AnswerSpec(ids, SamplingParams(max_tokens=9, temperature=temperature, logit_bias={mark: 30.0}))
        if ends:
            with pytest.raises(NoOffset):
                await session.corrector(spec).decide([proposal], 1.0)
        else:
            (decision,) = await session.corrector(spec).decide([proposal], 1.0)
            assert decision.token_id != mark


async def test_a_mark_that_the_black_box_was_seen_to_end_with_has_the_offset_of_an_end(opened, bridge):
    session, ids, (end, *_) = await opened(), box_ids(bridge, PROMPT), bridge.box.ends
    row = await session.row_of(ids, [1], [1, end])
    assert not row.untold[1]
    assert row.log_offset[1] == row.log_offset[end] != 0.0
    corrector = session.corrector(AnswerSpec(ids, SamplingParams(max_tokens=4, temperature=0.0)))
    (decision,) = await corrector.decide([Proposal(1, np.array([1, 34]), np.log([1 - 1e-9, 1e-9]), end_id=1)], 0.0)
    assert decision.token_id == 1


async def test_places_that_an_answer_has_passed_hold_no_rows_of_candidates(opened, bridge):
    session, ids = await opened(), box_ids(bridge, PROMPT)
    for token_id in box_ids(bridge, "I'm not"):
        await session.row_of(ids, box_ids(bridge, "東京 ab"))
        ids.append(token_id)
    passed = [at for n, at in sorted(session._places.items())][:-2]
    assert passed
    assert all(set(at.rows) <= {node.path for node in at.ways()} for at in passed)


async def test_the_score_of_a_token_without_an_offset_is_not_told(opened, bridge):
    ids = [*box_ids(bridge, PROMPT), 1]
    proposal = Proposal(1, np.array([1, 34]), np.log([0.6, 0.3]))
    with pytest.raises(NoOffset):
        await (await opened()).scores(ids, len(ids) - 1, [proposal], "impute", 2)


async def test_a_closed_session_gives_no_rows(opened, bridge):
    session, ids = await opened(), box_ids(bridge, PROMPT)
    await session.row(ids)
    session.close()
    with pytest.raises(OffsetUnavailable):
        await session.row(ids)


def test_a_prompt_that_ends_inside_a_character_goes_on_with_its_bytes(bridge):
    ids = box_ids(bridge, "book 東")
    at = bridge.begin(ids[:-1])
    for n, _ in pairwise(range(2)):
        at.go_on(bridge.said(ids[-1 - n]))
    assert bridge.pair.tokenizer.decode(at.settled).encode() + at.unsettled == "book 東".encode()


def test_the_end_of_an_answer_is_the_pairs_own(bridge):
    assert bridge.ends.tolist() == sorted({*bridge.pair.tokenizer.eos_ids})
    assert torch.isin(torch.tensor(bridge.reader.ends), torch.tensor(bridge.box.ends)).all()
