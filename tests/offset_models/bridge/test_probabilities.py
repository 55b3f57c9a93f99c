"""Against brute force over all tokenisations: vocabularies of 6 to 12 tokens, texts of up to 8 bytes, random models."""

import itertools
import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from deltaserve.offset_models.bridge.neighbours import AnyNeighbours, Path
from deltaserve.offset_models.bridge.probabilities import begins_with, ends_after, log_offset
from deltaserve.offset_models.bridge.tree import ByteTree
from tests.support.amounts import examples
from tests.support.bridging import RandomPair, TinyBPE, covers, random_bpe

bpes = st.builds(random_bpe, st.integers(0, 999), st.sampled_from([b"ab", b"abc"]), st.integers(6, 12))
texts = st.text("ab", min_size=1, max_size=8).map(str.encode)
seeds = st.integers(0, 999)
few = settings(max_examples=examples(25), deadline=None)


def any_tree(bpe: TinyBPE) -> ByteTree:
    return ByteTree(bpe.vocabulary, AnyNeighbours())


def summed(pair: RandomPair, paths: list[Path]) -> Tensor:
    return sum((pair.mass((), path) for path in paths), torch.zeros(2, dtype=torch.float64))


def equal(a: Tensor, b: Tensor) -> bool:
    return bool(torch.allclose(a, b, rtol=1e-9, atol=0.0))


@few
@given(bpes, texts, seeds)
def test_with_any_neighbours_it_is_the_sum_over_all_tokenisations(bpe, x, seed):
    pair = RandomPair(bpe, seed)
    assert equal(begins_with(any_tree(bpe), pair.rows(()), (), x), summed(pair, list(covers(bpe, x))))


@few
@given(bpes, texts, seeds)
def test_of_a_model_that_writes_as_its_tokenizer_does_a_narrow_tree_gives_the_sum_over_all_tokenisations(bpe, x, seed):
    pair = RandomPair(bpe, seed, careful=True)
    assert equal(begins_with(bpe.tree(), pair.rows(()), (), x), summed(pair, list(covers(bpe, x))))


@few
@given(bpes, texts, seeds)
def test_of_any_model_a_narrow_tree_gives_at_least_what_its_tokenizer_would_write_and_at_most_all(bpe, x, seed):
    pair = RandomPair(bpe, seed)
    every = list(covers(bpe, x))
    written = summed(pair, [path for path in every if bpe.writes(path)])
    narrow = begins_with(bpe.tree(), pair.rows(()), (), x)
    assert (narrow >= written * (1 - 1e-12)).all()
    assert (narrow <= summed(pair, every) * (1 + 1e-12)).all()


@few
@given(bpes, seeds)
def test_a_sequence_is_written_exactly_when_each_two_neighbours_are(bpe, seed):
    chance = random.Random(seed)
    for _ in range(50):
        ids = chance.choices(range(1, len(bpe.words)), k=chance.randint(2, 5))
        assert bpe.writes(ids) == all(bpe.writes(two) for two in itertools.pairwise(ids))


@few
@given(bpes, texts, seeds)
def test_what_goes_on_and_what_ends_add_up(bpe, x, seed):
    tree, rows = any_tree(bpe), RandomPair(bpe, seed).rows(())
    longer = sum(begins_with(tree, rows, (), x + bytes([letter])) for letter in bpe.letters)
    assert equal(longer + ends_after(tree, rows, (), x), begins_with(tree, rows, (), x))


@few
@given(bpes, texts, seeds, st.booleans())
def test_longer_bytes_are_never_more_probable(bpe, x, seed, narrow):
    tree, rows = bpe.tree() if narrow else any_tree(bpe), RandomPair(bpe, seed).rows(())
    values = [begins_with(tree, rows, (), x[:n]) for n in range(len(x) + 1)]
    assert all((b <= a * (1 + 1e-12)).all() for a, b in itertools.pairwise(values))


@few
@given(bpes, texts, seeds)
def test_offsets_along_an_answer_add_up_to_those_of_its_text_however_it_is_cut(bpe, x, seed):
    tree, rows = bpe.tree(), RandomPair(bpe, seed).rows(())
    chance = random.Random(seed)
    cuts = [0, *sorted(chance.sample(range(1, len(x)), chance.randint(0, len(x) - 1))), len(x)]
    values = [begins_with(tree, rows, (), x[:n]) for n in cuts]
    steps = sum(float(log_offset(b, a)) for a, b in itertools.pairwise(values))
    whole = values[-1].log()
    assert steps == pytest.approx(float(whole[1] - whole[0]), abs=1e-9)


def test_members_that_are_one_model_give_no_offset_anywhere():
    bpe = random_bpe(3)
    rows = RandomPair(bpe, 1).rows(())
    tree = bpe.tree()
    same = [begins_with(tree, rows, (), x)[:1].expand(2) for x in (b"a", b"abba")]
    assert float(log_offset(same[1], same[0])) == 0.0


def test_bytes_that_no_token_has_are_impossible_and_leave_the_black_box_alone():
    bpe = random_bpe(3)
    rows = RandomPair(bpe, 1).rows(())
    value = begins_with(bpe.tree(), rows, (), b"az")
    assert value.tolist() == [0.0, 0.0]
    assert float(log_offset(value, begins_with(bpe.tree(), rows, (), b"a"))) == 0.0


def test_a_narrow_tree_asks_for_fewer_rows():
    bpe = random_bpe(5, b"ab", 12)
    text = b"abbaabab"
    narrow = [node.path for node in bpe.tree().nodes((), text)]
    wide = [node.path for node in any_tree(bpe).nodes((), text)]
    assert set(narrow) < set(wide)
    assert 2 * len(narrow) <= len(wide)
