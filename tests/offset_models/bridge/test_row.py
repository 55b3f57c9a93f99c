"""The row of the black box's vocabulary."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deltaserve.errors import OffsetUnavailable
from deltaserve.offset_models.bridge.position import Position
from deltaserve.offset_models.bridge.probabilities import NodeRow, log_offset
from deltaserve.offset_models.bridge.row import UNTOLD, BridgedRow, OpenNode, Reader, bridged_row
from deltaserve.offset_models.bridge.tables import built
from tests.support.amounts import examples
from tests.support.bridging import END, RandomPair, TinyBPE, complete, position, random_bpe

bpes = st.builds(random_bpe, st.integers(0, 999), st.just(b"ab"), st.integers(6, 12))
seeds = st.integers(0, 999)
prefixes = st.text("ab", max_size=4).map(str.encode)
few = settings(max_examples=examples(20), deadline=None)


def reader(box: TinyBPE, mine: TinyBPE) -> Reader:
    return Reader(box.vocabulary, mine.vocabulary, built(box.vocabulary, mine.vocabulary), [END])


def at(mine: TinyBPE, pair: RandomPair, said: bytes, candidates: list[bytes]) -> Position:
    where = position(mine)
    where.go_on(said)
    complete(where, pair, candidates)
    return where


def row_of(box: TinyBPE, mine: TinyBPE, where: Position, exact_ids: list[int], strength: float = 1.0) -> BridgedRow:
    exact = {i: where.reach(box.words[i]).numpy() for i in exact_ids}
    reading = reader(box, mine).read(where.open_nodes())
    return bridged_row(reading, where.reach(), exact, [*exact, END], [strength])


@few
@given(bpes, bpes, seeds, prefixes)
def test_ids_that_were_asked_for_are_exact(box, mine, seed, said):
    ids = list(range(1, len(box.words)))
    where = at(mine, RandomPair(mine, seed), said, box.words[1:])
    row = row_of(box, mine, where, ids, strength=0.5)
    wanted = [0.5 * float(log_offset(where.reach(box.words[i]), where.reach())) for i in ids]
    assert row.offset(np.array(ids)) == pytest.approx(np.array(wanted), abs=1e-9)
    ending = 0.5 * float(log_offset(where.ending(), where.reach()))
    assert row.offset(np.array([END]))[0] == pytest.approx(ending, abs=1e-9)


@few
@given(bpes, bpes, seeds, prefixes)
def test_the_others_are_read_from_the_open_nodes(box, mine, seed, said):
    where = at(mine, RandomPair(mine, seed), said, [])
    nodes = where.open_nodes()
    reach = reader(box, mine).reach(nodes)
    for token_id, word in enumerate(box.words[1:], 1):
        slow = torch.zeros(2, dtype=torch.float64)
        for node in nodes:
            first, end = mine.vocabulary.interval(node.rest + word)
            slow += node.mass * node.row.probabilities[:, first:end].sum(-1)
        assert torch.allclose(reach[:, token_id], slow, rtol=1e-9)


@few
@given(bpes, bpes, seeds, prefixes)
def test_the_shape_of_a_tail_is_a_distribution(box, mine, seed, said):
    where = at(mine, RandomPair(mine, seed), said, [])
    row = row_of(box, mine, where, [])
    assert float(np.exp(row.log_base).sum()) == pytest.approx(1.0, abs=1e-9)
    assert row.log_base.min() >= UNTOLD


def test_a_text_counts_for_the_longest_token_that_begins_it():
    mine = TinyBPE(b"ab", ((b"a", b"b"), (b"ab", b"b")))
    box = TinyBPE(b"ab", ((b"a", b"b"),))
    pair = RandomPair(mine, 2)
    where = at(mine, pair, b"", [])
    base = np.exp(row_of(box, mine, where, []).log_base)
    p = dict(zip(mine.words, pair.row(())[0].tolist(), strict=True))
    wanted = {b"": p[b""], b"a": p[b"a"], b"b": p[b"b"], b"ab": p[b"ab"] + p[b"abb"]}
    assert base.tolist() == pytest.approx([wanted[word] for word in box.words])


def test_a_pair_of_equal_members_leaves_everything_as_it_is():
    box, mine = random_bpe(3), random_bpe(4)
    pair = RandomPair(mine, 1)
    where = at(mine, pair, b"a", [])
    where.rows = {
        path: NodeRow(row.probabilities[:1].expand(2, -1), row.ends[:1].expand(2)) for path, row in where.rows.items()
    }
    assert not row_of(box, mine, where, []).log_offset.any()


def test_with_one_tokenizer_only_longer_tokens_make_a_difference():
    mine = TinyBPE(b"ab", ((b"a", b"b"), (b"b", b"b")))
    pair = RandomPair(mine, 5)
    p = pair.row(())
    row = row_of(mine, mine, at(mine, pair, b"", []), [])
    token = (p[1] / p[0]).log()
    alone = [mine.words.index(word) for word in (b"", b"ab", b"bb")]  # no other token begins with these
    assert row.log_offset[alone] == pytest.approx(token[alone].numpy(), abs=1e-12)
    begun = p[:, [mine.words.index(b"a"), mine.words.index(b"ab")]].sum(-1)
    assert row.log_offset[mine.words.index(b"a")] == pytest.approx(float((begun[1] / begun[0]).log()), abs=1e-12)


def test_no_bound_is_claimed_while_a_tail_holds_ids_that_were_only_read():
    box, mine = random_bpe(3), random_bpe(4)
    pair = RandomPair(mine, 1)
    where = at(mine, pair, b"", box.words[1:])
    every = np.arange(len(box.words))
    read = row_of(box, mine, where, [1, 2])
    assert read.max_offset == math.inf
    assert read.tail(every[:3], 0.0, 0.0).max_offset() == math.inf
    assert read.tail(every, 0.0, 0.0).max_offset() == -math.inf
    exact = row_of(box, mine, where, every.tolist()[1:])
    assert exact.tail(every[:3], 0.0, 0.0).max_offset() == exact.log_offset[3:].max()


def test_ids_that_the_black_box_does_not_have_stay_out():
    box, mine = random_bpe(3), random_bpe(4)
    where = at(mine, RandomPair(mine, 1), b"", [])
    row = bridged_row(reader(box, mine).read(where.open_nodes(), masked=[2]), where.reach(), {}, ())
    assert row.base(np.array([2]))[0] == -math.inf


def test_ids_without_an_offset_are_known_as_such():
    box, mine = TinyBPE(b"abc", ((b"a", b"b"),)), TinyBPE(b"ab", ())
    where = at(mine, RandomPair(mine, 1), b"", [b"ab", b"c"])
    listed = row_of(box, mine, where, [1, 3, 4])
    assert listed.untold.tolist() == [False, False, False, True, False]  # the end, a, b, c, ab
    assert listed.log_offset[3] == 0.0
    read = row_of(box, mine, at(mine, RandomPair(mine, 1), b"", []), [])
    assert read.untold.tolist() == [False, False, False, True, True]  # ab takes two tokens of the pair


def test_nothing_is_known_behind_what_a_member_gives_no_probability():
    box, mine = random_bpe(3), random_bpe(4)
    where = at(mine, RandomPair(mine, 1), b"", [])
    for before in ([1.0, 0.0], [0.0, 1.0], [1.0, math.nan]):
        with pytest.raises(OffsetUnavailable, match="no probability"):
            bridged_row(reader(box, mine).read(where.open_nodes()), torch.tensor(before, dtype=torch.float64), {}, ())


@pytest.mark.parametrize("member", [0, 1])
def test_rows_that_are_not_finite_are_refused(member):
    box, mine = random_bpe(3), random_bpe(4)
    pair = RandomPair(mine, 1)
    where = at(mine, pair, b"", [])
    (node,) = where.open_nodes()
    probabilities = node.row.probabilities.clone()
    probabilities[member, 0] = torch.nan
    broken = OpenNode(node.mass, b"", NodeRow(probabilities, node.row.ends))
    with pytest.raises(OffsetUnavailable):
        bridged_row(reader(box, mine).read([broken]), where.reach(), {}, ())
