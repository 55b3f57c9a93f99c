"""Candidates that cannot matter cost no rows, and what is chosen stays what it is with all of them."""

import random

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from deltaserve.offset_models.bridge.at_once import ROUGH
from deltaserve.offset_models.bridge.candidates import Candidates
from deltaserve.offset_models.bridge.known import Begun, Known, known
from deltaserve.offset_models.bridge.position import Position
from deltaserve.offset_models.bridge.probabilities import begins_with
from deltaserve.offset_models.bridge.stakes import LEFT, Stakes, offset_bounds
from tests.support.amounts import examples
from tests.support.bridging import END, RandomPair, TinyBPE, complete, position, random_bpe

bpes = st.builds(random_bpe, st.integers(0, 999), st.just(b"ab"), st.integers(6, 12))
seeds = st.integers(0, 999)
strengths = st.sampled_from([1.0, 0.5, 2.0, -1.0, 0.0])
few = settings(max_examples=examples(60), deadline=None)


def place(mine: TinyBPE, pair: RandomPair, seed: int) -> Position:
    at = position(mine)
    at.go_on(bytes(random.Random(seed).choices(b"ab", k=seed % 4)))
    complete(at, pair)
    return at


def weights_told(box: TinyBPE, at: Position, candidates: Candidates, stakes: Stakes) -> np.ndarray:
    """ℓ + α·δ of every candidate, by what is known of it; the end is the first."""
    told = [Known(at.ending().numpy(), {}), *(Known(candidates.told[i].least, {}) for i in range(1, len(box.words)))]
    return stakes.logprobs + offset_bounds(told, at.reach().numpy(), candidates.strengths)[0]


def chosen(box, mine, seed, strength, temperature, *, counted=False, narrow=True, spread=4.0):
    """(weights of all candidates, rows computed) where only those that can matter are refined, or all of them."""
    pair = RandomPair(mine, seed)
    at, n = place(mine, pair, seed), len(box.words)
    logprobs = np.log(np.random.default_rng(seed).dirichlet(np.ones(n) / spread) + 1e-12)
    stakes = Stakes(np.arange(n), logprobs, temperature, counted)
    words, marks = {i: box.words[i] for i in range(1, n)}, {END: at.ending().numpy()}
    candidates = Candidates(at, at.reach().numpy(), words, marks, stakes if narrow else None, [strength], slack=0.0)
    before = len(at.rows)
    while paths := candidates.wanted():
        assert not paths & at.rows.keys()
        at.rows.update((path, pair.rows(tuple(at.settled))[path]) for path in paths)
    return weights_told(box, at, candidates, stakes), len(at.rows) - before


@few
@given(bpes, st.text("ab", min_size=1, max_size=6).map(str.encode), seeds)
def test_what_is_known_of_some_rows_bounds_what_all_of_them_tell(mine, x, seed):
    pair, tree = RandomPair(mine, seed), mine.tree()
    nodes = [node.path for node in tree.nodes((), x)]
    kept = {path for path in nodes if not path or random.Random(f"{seed}{path}").random() < 0.5}
    rows, slack = {path: pair.rows(())[path] for path in kept}, random.Random(seed).choice([0.0, 1e-3, 0.3])
    told = known(tree, rows, (), [Begun((), b"", np.ones(2), None)], x, slack)
    whole = begins_with(tree, pair.rows(()), (), x).numpy()
    assert (told.least <= whole * (1 + 1e-12)).all()
    assert (whole <= told.most * (1 + 1e-12)).all()
    assert (told.left <= slack * len(nodes) * told.least * 8).all()
    if kept.issuperset(nodes) and not slack:
        assert np.array_equal(told.least, told.most)


@few
@given(bpes, bpes, seeds, st.booleans())
def test_what_is_told_of_all_candidates_at_once_is_what_is_told_of_each(box, mine, seed, behind):
    pair = RandomPair(mine, seed)
    at = place(mine, pair, seed)
    if behind:  # some rows behind the open nodes are there: those texts are looked at alone
        paths = [(*node.path, i) for node in at.ways() for i in range(1, len(mine.words))]
        some = [path for path in paths if random.Random(f"{seed}{path}").random() < 0.3]
        at.rows |= {path: pair.rows(tuple(at.settled))[path] for path in some}
    words = {i: box.words[i] for i in range(1, len(box.words))}
    at_once = at.told_at_once(words)
    for i, told in at_once.items():
        alone, whole = at.told(words[i], 1e-3, ROUGH), at.told(words[i])
        assert told.open.keys() == alone.open.keys()
        assert all(np.allclose(mass, alone.open[path], rtol=1e-12) for path, mass in told.open.items())
        assert (alone.least <= told.least * (1 + 1e-12)).all()
        assert (told.least <= whole.most * (1 + 1e-12)).all() and (whole.least <= told.most * (1 + 1e-12)).all()
    assert behind or not any(word for i, word in words.items() if i not in at_once and at.told(word, 0.0).open)


@few
@given(bpes, bpes, seeds, strengths, st.booleans())
def test_a_greedy_step_chooses_what_it_chooses_with_all_rows(box, mine, seed, strength, counted):
    every, _ = chosen(box, mine, seed, strength, 0.0, narrow=False)
    some, _ = chosen(box, mine, seed, strength, 0.0, counted=counted)
    assert some.argmax() == every.argmax()
    assert some.max() == every.max()


@few
@given(bpes, bpes, seeds, strengths, st.sampled_from([0.3, 1.0, 1.7]))
def test_a_draw_differs_by_no_more_than_may_be_left(box, mine, seed, strength, temperature):
    shares = []
    for narrow in (False, True):
        weights, _ = chosen(box, mine, seed, strength, temperature, narrow=narrow)
        shares.append(np.exp((weights - weights.max()) / temperature))
    every, some = (each / each.sum() for each in shares)
    assert np.abs(every - some).sum() / 2 <= LEFT


def test_a_row_that_came_for_another_candidate_is_not_computed_again():
    """`chosen` asserts it; here a candidate begins to matter when the row that it lacked is there already."""
    chosen(random_bpe(157, b"ab", 11), random_bpe(525, b"ab", 12), 58, 0.5, 1.7)


def test_candidates_that_cannot_matter_cost_no_rows():
    """Over random vocabularies and lists as pointed as a language model's."""
    spent = {(narrow, t): 0 for narrow in (False, True) for t in (0.0, 1.0)}
    for seed in range(40):
        for narrow, temperature in spent:
            box, mine = random_bpe(seed), random_bpe(seed + 1, b"ab", 10)
            _, rows = chosen(box, mine, seed, 1.0, temperature, narrow=narrow, spread=40.0)
            spent[narrow, temperature] += rows
    assert spent[True, 0.0] < spent[True, 1.0] < spent[False, 0.0] == spent[False, 1.0]


def test_one_that_may_not_be_chosen_does_not_matter():
    stakes = Stakes(np.arange(3), np.array([-np.inf, -1.0, -2.0]), 0.0)
    assert stakes.open(np.zeros(3), np.full(3, np.inf)).tolist() == [False, True, True]
    assert stakes.open(np.zeros(3), np.array([np.inf, 0.0, 0.5])).tolist() == [False, True, False]


def test_where_the_others_are_counted_a_greedy_step_refines_all_that_are_unsure():
    logprobs = np.log([0.9, 0.05, LEFT / 3])
    of_greedy, counted = (Stakes(np.arange(3), logprobs, 0.0, flag) for flag in (False, True))
    assert of_greedy.open(np.zeros(3), np.full(3, 0.1)).tolist() == [True, False, False]
    assert counted.open(np.zeros(3), np.full(3, 0.1)).tolist() == [True, True, False]


def test_a_heavy_candidate_that_is_known_well_costs_a_draw_no_rows():
    stakes = Stakes(np.arange(3), np.log([0.5, 0.3, 0.1]), 1.0)
    assert stakes.open(np.zeros(3), np.array([LEFT / 2, LEFT, 0.1])).tolist() == [False, False, True]


def test_a_candidate_of_which_nothing_is_known_yet_may_have_any_offset():
    none, some, before = np.zeros(2), np.full(2, 0.5), np.ones(2)
    unknown, never = Known(none, {(1,): some}), Known(none, {})
    low, high = offset_bounds([unknown, never, Known(some, {(1,): 0.1 * some})], before, [1.0])
    assert high[0] == np.inf
    assert low[1] == high[1] == 0.0
    assert np.allclose((low[2], high[2]), (-np.log(1.1), np.log(1.1)))
