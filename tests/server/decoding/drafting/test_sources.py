"""Two draft sources, one distribution: blocks drafted by the pair are verified losslessly and chosen where they pay."""

import asyncio
import itertools
from dataclasses import dataclass, replace

import numpy as np
import pytest

from deltaserve.errors import BlindPosition
from deltaserve.server.decoding.correction import correct
from deltaserve.server.decoding.deciding.corrector import Agreement, Decision
from deltaserve.server.decoding.deciding.verification import verify
from deltaserve.server.decoding.decoder import decode
from deltaserve.server.decoding.drafting.adaptive import AdaptiveSource, BlockLimits
from deltaserve.server.decoding.drafting.pace import Line, Measured, Pace
from deltaserve.server.decoding.drafting.sources import Drafting
from deltaserve.server.decoding.drafting.upstream import UpstreamSource
from deltaserve.server.decoding.history import History
from deltaserve.server.decoding.noise import Noise
from deltaserve.server.decoding.params import SamplingParams
from deltaserve.server.decoding.policy import Policy
from deltaserve.server.decoding.protocols import Proposal
from deltaserve.server.decoding.sampling import target
from tests.support import amounts
from tests.support.statistics import ALARM, p_value
from tests.support.toy import ToyBlackBox, ToySession, toy_logprobs, toy_stream

pytestmark = pytest.mark.anyio
GREEDY = SamplingParams(max_tokens=24, temperature=0.0)


@dataclass
class Scripted(AdaptiveSource):
    """Adaptive drafts that follow a script of block lengths instead of choosing; 0 is the black box's own stream."""

    script: tuple[int, ...] = (0,)

    def block_length(self, stream):
        self.turn = getattr(self, "turn", -1) + 1
        return self.script[self.turn % len(self.script)]


async def local_token(stream):
    """One token of the pair's, with its row and what it was drawn from."""
    await stream.corrector.draft(1)
    (own,) = stream.corrector._block.values()
    return own


def scripted(black_box, *script):
    return Scripted(UpstreamSource(black_box), black_box, Pace(), BlockLimits(), script=script)


async def tokens(stream, drafts):
    return [step.token_id async for step in decode(stream, drafts)]


@pytest.mark.parametrize("script", [(4,), (1,), (0, 3, 1), (16,)])
async def test_greedy_text_does_not_depend_on_who_drafts(script):
    expected = await tokens(toy_stream(GREEDY), UpstreamSource(ToyBlackBox()))
    black_box = ToyBlackBox()
    assert await tokens(toy_stream(GREEDY), scripted(black_box, *script)) == expected
    assert black_box.blocks


async def test_seeded_text_does_not_depend_on_who_drafts():
    params = SamplingParams(max_tokens=40, temperature=0.8, top_p=0.95, presence_penalty=0.3, seed=5)
    scripts = [(0,), (4,), (1, 0), (8, 2, 0)]
    texts = {tuple(await tokens(toy_stream(params), scripted(ToyBlackBox(), *script))) for script in scripts}
    assert len(texts) == 1


@pytest.mark.parametrize(
    "params", [{"temperature": 1.0}, {"temperature": 1.3, "top_p": 0.98, "frequency_penalty": 0.4}]
)
@pytest.mark.parametrize("draws", [700, pytest.param(20_000, marks=pytest.mark.slow)])
async def test_two_sampled_tokens_of_a_block_follow_the_exact_joint_distribution(params, draws):
    size = 4
    sampling = SamplingParams(max_tokens=2, **params)
    counts = np.zeros((size, size))
    black_box, session = ToyBlackBox(size=size, k=2), ToySession(size=size)
    drafts = scripted(black_box, 2)
    for _ in range(draws):
        first, second = await tokens(toy_stream(sampling, session=session), drafts)
        counts[first, second] += 1
    expected = joint(sampling, size, k=2)
    assert p_value(counts, expected) > ALARM


def joint(params, size, k, strength=1.0, prompt=(1, 2, 3)):
    """q̃(first)·q̃(second | first), worked out without any draft."""
    expected = np.zeros((size, size))
    first = step_probs(params, prompt, [], size, k, strength)
    for token_id in range(size):
        expected[token_id] = first[token_id] * step_probs(params, prompt, [token_id], size, k, strength)
    return expected


def step_probs(params, prompt, output, size, k, strength):
    history = History(params, prompt)
    for token_id in output:
        history.add(token_id)
    ids = [*prompt, *output]
    proposal = next(iter(ToyBlackBox(size=size, k=k)._proposals(list(ids), 1, 1.0)))
    base = toy_logprobs("initial", ids, size)
    from deltaserve.server.decoding.rows import NumpyRow

    row = NumpyRow(base, strength * (toy_logprobs("unlearned", ids, size) - base))
    return target(correct(proposal, row, extra_ids=history.touched()), params, history).probs


HIDING = [1, 1, 1]  # a prompt after which the black box's likeliest token has .45 of the mass


@pytest.mark.parametrize("script", [(0,), (1,)], ids=["streams", "blocks and the black box's token after them"])
@pytest.mark.parametrize("strength", [0.0, 0.5])
async def test_where_draws_may_be_hidden_tokens_follow_the_target_only_if_no_draw_is_trusted(script, strength):
    size, k, draws = 4, 3, amounts.amount(700, 1_200)
    params, session = SamplingParams(max_tokens=2), ToySession(size=size, strength=strength)
    hides = frozenset({int(toy_logprobs("black box", HIDING, size).argmax())})
    expected, found = joint(params, size, k, strength, HIDING), {}
    for trusted in (False, True) if script == (0,) else (False,):  # the lists along a block depend on no draw
        drafts = scripted(ToyBlackBox(size=size, k=k, hides=hides, trusted=trusted), *script)
        counts = np.zeros((size, size))
        for _ in range(draws):
            first, second = await tokens(toy_stream(params, session=session, prompt=HIDING), drafts)
            counts[first, second] += 1
        found[trusted] = p_value(counts, expected)
    assert found[False] > ALARM
    assert found.get(True, 0.0) < 1e-12


async def test_a_block_without_a_list_is_an_error_only_where_it_is_reached():
    """Its second position is blind."""
    plain = await tokens(toy_stream(GREEDY), UpstreamSource(ToyBlackBox()))
    for blind in (False, True):
        black_box = ToyBlackBox(swallow=lambda position: "blind" if position == 4 else None)
        stream = toy_stream(GREEDY, policy=Policy(allow_blind=blind))
        if not blind:
            with pytest.raises(BlindPosition):
                await tokens(stream, scripted(black_box, 4))
            assert stream.emitted == 1
            continue
        assert (await tokens(stream, scripted(black_box, 4)))[0] == plain[0]
        assert stream.stats.blind == 1


async def test_a_block_that_lies_about_its_draft_distribution_is_detected():
    params = SamplingParams(max_tokens=1)
    black_box, stream = ToyBlackBox(k=4), toy_stream(SamplingParams(max_tokens=5))
    own = await local_token(stream)
    proposal = next(iter(black_box._proposals([1, 2, 3], 1, 1.0)))
    history, noise = History(params, ()), Noise(None)
    goal = target(correct(proposal, own.row), params, history)
    lie = np.full(own.drawn_from.size, 1 / own.drawn_from.size)
    rng = np.random.default_rng(2)
    for claimed, fair in ((own.drawn_from, True), (lie, False)):
        drawn = rng.choice(claimed.size, size=amounts.amount(5_000, 20_000), p=own.drawn_from)
        emitted = [verify(replace(proposal, token_id=int(d), drawn_from=claimed), goal, None, noise, 0) for d in drawn]
        found = p_value(np.bincount(emitted, minlength=claimed.size), goal.probs)
        assert (found > ALARM) if fair else (found < 1e-12)


async def test_a_block_ends_at_a_final_id_and_never_passes_the_token_limit():
    plain = await tokens(toy_stream(GREEDY), UpstreamSource(ToyBlackBox()))
    drafted = await toy_stream(replace(GREEDY, max_tokens=5)).corrector.draft(16)
    assert len(drafted) == 5
    ended = await toy_stream(replace(GREEDY, eos_ids=frozenset({drafted[1]}))).corrector.draft(16)
    assert ended == drafted[: drafted.index(drafted[1]) + 1]
    stream = toy_stream(GREEDY)
    assert await tokens(stream, scripted(ToyBlackBox(), 16)) == plain
    assert stream.emitted == 24


async def test_blocks_are_counted_as_calls_and_positions():
    black_box, stream = ToyBlackBox(), toy_stream(GREEDY)
    await tokens(stream, scripted(black_box, 4))
    assert stream.stats.upstream_calls == len(black_box.blocks)
    assert stream.stats.block_positions == sum(len(drafted) + 1 for _, drafted in black_box.blocks)
    assert stream.stats.local_proposed + stream.stats.proposed == stream.emitted
    assert 0 < stream.stats.local_accepted <= stream.stats.local_proposed


def paced(**seconds):
    pace = Pace()
    for name, value in seconds.items():
        getattr(pace, name).add(value) if name != "block_s" else pace.scored(8, value)
    return pace


def adaptive(pace, black_box=None, **limits):
    black_box = black_box or ToyBlackBox()
    return AdaptiveSource(UpstreamSource(black_box), black_box, pace, BlockLimits(**limits))


FAST_PAIR = {"first_token_s": 0.04, "token_s": 0.02, "local_s": 0.003, "block_s": 0.05}


def test_where_the_black_box_is_overruled_the_pair_drafts():
    drafts = adaptive(paced(**FAST_PAIR))
    for _ in range(20):
        drafts.accepted.upstream.add(0.3)
        drafts.accepted.local.add(1.0)
    assert drafts.block_length(toy_stream(GREEDY)) >= 4


def test_where_the_pair_is_slow_or_wrong_the_black_box_streams():
    slow = adaptive(paced(**{**FAST_PAIR, "local_s": 0.1}))
    wrong = adaptive(paced(**{**FAST_PAIR, "token_s": 0.01}))
    for _ in range(40):
        wrong.accepted.local.add(0.05)
    for drafts in (slow, wrong):
        assert drafts.block_length(toy_stream(GREEDY)) == 0


def test_where_deciding_a_block_takes_long_the_black_box_streams():
    """Of a stream it is done while the next token is awaited."""
    drafts = adaptive(paced(**FAST_PAIR, decided_s=0.2))
    for _ in range(20):
        drafts.accepted.upstream.add(0.3)
        drafts.accepted.local.add(1.0)
    assert drafts.block_length(toy_stream(GREEDY)) == 0


async def test_how_long_the_tokens_of_a_block_took_to_decide_is_measured():
    drafts = adaptive(paced(**FAST_PAIR))
    stream = toy_stream(GREEDY)
    async with drafts._block(stream, 3) as draft:
        await asyncio.sleep(0.06)
        run = draft.arrived()
        for proposal, decision in zip(run, await stream.corrector.decide(run, draft.temperature), strict=False):
            stream.advance(stream.step(proposal, decision))
    assert drafts.pace.decided_s.known and drafts.pace.decided_s.value >= 0.06 / 4  # a token of at most four


def test_a_black_box_that_became_busy_does_not_make_blocks_look_cheap():
    drafts = adaptive(paced(**FAST_PAIR))
    assert drafts.block_length(toy_stream(GREEDY)) == 0
    for _ in range(40):
        drafts.pace.first_token_s.add(0.4)
    assert drafts.pace.block(9) > 0.4
    assert drafts.block_length(toy_stream(GREEDY)) == 0


def priced_when_busy():
    """The pair is right and cheap, but the last block was drafted when it was slow."""
    drafts = adaptive(paced(**{**FAST_PAIR, "local_s": 0.2, "block_s": 1.0}))
    for _ in range(20):
        drafts.accepted.upstream.add(0.3)
        drafts.accepted.local.add(1.0)
    return drafts


def opened(pace, calls):
    for _ in range(calls):
        pace.opened(FAST_PAIR["first_token_s"])


def drafted(pace, positions, **seconds):
    pace.tried()
    pace.drafted(seconds["local_s"])
    pace.scored(positions, seconds["block_s"])


CHEAP = {name: FAST_PAIR[name] for name in ("local_s", "block_s")}
DEAR = {"local_s": 0.2, "block_s": 1.0}


def test_an_old_price_of_blocks_is_replaced_by_a_trial():
    drafts = priced_when_busy()
    opened(drafts.pace, 15)
    assert drafts.block_length(toy_stream(GREEDY)) == 0
    opened(drafts.pace, 1)
    assert drafts.block_length(toy_stream(GREEDY)) == 2  # a trial
    drafted(drafts.pace, 3, **CHEAP)
    assert drafts.pace.local() == pytest.approx(CHEAP["local_s"])  # alone: what was measured before is gone
    assert drafts.pace.block(9) == pytest.approx(CHEAP["block_s"], rel=0.1)
    assert drafts.block_length(toy_stream(GREEDY)) >= 4


def test_trials_that_find_blocks_dear_become_rare_until_one_pays():
    drafts = priced_when_busy()
    for patience in (16, 32, 64, 64):
        opened(drafts.pace, patience - 1)
        assert drafts.block_length(toy_stream(GREEDY)) == 0
        opened(drafts.pace, 1)
        assert drafts.block_length(toy_stream(GREEDY)) == 2
        drafted(drafts.pace, 3, **DEAR)
    opened(drafts.pace, 64)
    drafted(drafts.pace, 3, **CHEAP)
    drafted(drafts.pace, 9, **CHEAP)  # one that is drafted for its price
    opened(drafts.pace, 16)
    assert drafts.pace.old


def test_only_one_stream_at_a_time_drafts_a_trial_block():
    drafts = priced_when_busy()
    opened(drafts.pace, 16)
    drafts.pace.tried()
    assert drafts.block_length(toy_stream(GREEDY)) == 0  # another stream, while it is under way
    drafts.pace.tried()  # one that takes a block for its price meanwhile does not make the old price count again
    drafts.pace.drafted(CHEAP["local_s"])
    assert drafts.pace.local() == pytest.approx(CHEAP["local_s"])


def test_an_old_price_of_streaming_is_replaced_by_streaming_once():
    """Where every draft is a block nothing tells how fast the black box streams by now."""
    drafts = adaptive(paced(**{**FAST_PAIR, "token_s": 0.5}))
    for number in range(16):
        assert drafts.block_length(toy_stream(GREEDY)) > 2, number
        drafted(drafts.pace, 9, **CHEAP)
    assert drafts.block_length(toy_stream(GREEDY)) == 0  # the black box streams
    opened(drafts.pace, 1)
    assert drafts.block_length(toy_stream(GREEDY)) > 2  # no faster than before
    for _ in range(40):
        drafts.pace.token_s.add(0.01)
    assert drafts.block_length(toy_stream(GREEDY)) == 0


def test_no_trial_where_blocks_would_not_pay_at_any_price():
    drafts = priced_when_busy()
    for _ in range(40):
        drafts.accepted.upstream.add(1.0)
        drafts.accepted.local.add(0.05)
    opened(drafts.pace, 100)
    assert drafts.block_length(toy_stream(GREEDY)) == 0


async def test_the_price_of_blocks_becomes_old_with_calls_and_is_renewed_by_a_block():
    drafts = adaptive(paced(**{**FAST_PAIR, "local_s": 9.0}))
    for _ in range(16):  # answers, of one call or more
        if drafts.pace.old:
            break
        before = drafts.pace.first_token_s.value
        await tokens(toy_stream(GREEDY), drafts)
        assert drafts.pace.first_token_s.value != before
    assert drafts.pace.old
    black_box = ToyBlackBox()
    await tokens(
        toy_stream(GREEDY), Scripted(UpstreamSource(black_box), black_box, drafts.pace, BlockLimits(), script=(2,))
    )
    assert not drafts.pace.old
    assert drafts.pace.local() < 9.0


async def test_a_few_replaced_tokens_are_enough_to_try_a_block_where_the_pair_agrees():
    stream, drafts = toy_stream(GREEDY), adaptive(paced(**FAST_PAIR))
    (own,) = await stream.corrector.draft(1)
    other = (own + 1) % stream.session.size
    overruled = Proposal(other, np.array([other]), np.array([-0.1]))
    said = Decision(own, True, 0.1, agreement=Agreement(0.0, 1.0))
    assert drafts.block_length(stream) == 0
    for _ in range(3):
        drafts.observe(stream, overruled, said)
    assert drafts.block_length(stream) >= 4


def test_an_operator_bounds_what_blocks_may_cost():
    stream = toy_stream(GREEDY)
    eager = adaptive(paced(**{**FAST_PAIR, "token_s": 0.5, "block_s": 0.3}))
    assert eager.block_length(stream) > 2
    assert adaptive(eager.pace, longest_block=2).block_length(stream) <= 2
    assert adaptive(eager.pace, positions_per_token=0.5).block_length(stream) == 0
    assert adaptive(eager.pace, concurrent_positions=1).block_length(stream) == 0


async def test_the_adaptive_source_learns_from_its_stream_and_does_not_change_the_text():
    expected = await tokens(toy_stream(replace(GREEDY, max_tokens=60)), UpstreamSource(ToyBlackBox()))
    black_box = ToyBlackBox()
    drafts = adaptive(paced(**FAST_PAIR), black_box)
    assert await tokens(toy_stream(replace(GREEDY, max_tokens=60)), drafts) == expected
    assert drafts.accepted.upstream.value < 0.8


def test_a_line_is_fitted_to_what_was_measured():
    line = Line()
    assert not line.known
    line.add(2, 0.06)
    assert line(10) == pytest.approx(0.06)
    for x, _ in itertools.product((2, 5, 9), range(5)):
        line.add(x, 0.04 + 0.01 * x)
    assert line(20) == pytest.approx(0.24, rel=1e-3)
    falling = Line()
    for x in (2, 5, 9):
        falling.add(x, 1.0 - 0.1 * x)
    assert falling(100) == pytest.approx(falling(1))


def test_the_first_measurement_replaces_the_guess():
    mean = Measured(1.0)
    mean.add(0.1)
    assert mean.value == pytest.approx(0.1)


async def test_min_tokens_is_passed_upstream_only_where_the_draft_distribution_does_not_matter():
    asked = []
    for params in (GREEDY, replace(GREEDY, temperature=1.0, seed=3), replace(GREEDY, temperature=1.0)):
        black_box = ToyBlackBox()
        params = replace(params, min_tokens=10, ignore_eos=True, eos_ids=frozenset({3}))
        await tokens(toy_stream(params), UpstreamSource(black_box))
        asked.append(black_box.calls[0][1])
    assert [params.min_tokens for params in asked] == [10, 10, 0]
    assert all(params.ignore_eos for params in asked)


async def test_held_streams_begin_from_what_the_ones_before_them_learnt() -> None:
    drafting = Drafting(BlockLimits())
    first, free = (
        drafting.source(ToyBlackBox(), ToyBlackBox(), held=True),
        drafting.source(ToyBlackBox(), ToyBlackBox()),
    )
    assert isinstance(first, AdaptiveSource) and isinstance(free, AdaptiveSource)
    for _ in range(20):
        first.accepted.add(0.0, 1.0)
        free.accepted.add(0.5, 0.5)
    second = drafting.source(ToyBlackBox(), ToyBlackBox(), held=True)
    assert isinstance(second, AdaptiveSource)
    assert second.accepted.upstream.value < 0.3 < 0.9 < second.accepted.local.value
    other = drafting.source(ToyBlackBox(), ToyBlackBox())
    assert isinstance(other, AdaptiveSource)
    assert (other.accepted.upstream.value, other.accepted.local.value) == (0.95, 0.6)
