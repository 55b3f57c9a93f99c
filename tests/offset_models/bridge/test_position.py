"""A place in an answer that a black box of one tokenizer writes, as a pair of another one follows it."""

import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deltaserve.errors import NoOffset, OffsetUnavailable
from deltaserve.offset_models.bridge.neighbours import WrittenNeighbours
from deltaserve.offset_models.bridge.position import Position
from deltaserve.offset_models.bridge.probabilities import begins_with, ends_after, log_offset
from deltaserve.offset_models.bridge.tree import ByteTree
from deltaserve.offset_models.bridge.vocabulary import ByteVocabulary
from tests.support.amounts import examples
from tests.support.bridging import RandomPair, TinyBPE, complete, position, random_bpe

bpes = st.builds(random_bpe, st.integers(0, 999), st.just(b"ab"), st.integers(6, 12))
seeds = st.integers(0, 999)
prefixes = st.text("ab", max_size=4).map(str.encode)
few = settings(max_examples=examples(20), deadline=None)


def answer(box: TinyBPE, seed: int, length: int = 6) -> list[bytes]:
    """The texts of some of the black box's tokens."""
    return random.Random(seed).choices(box.words[1:], k=length)


@few
@given(bpes, bpes, seeds)
def test_settling_tokens_changes_no_offset(mine, box, seed):
    pair = RandomPair(mine, seed)
    tree, whole, at, said = mine.tree(), pair.rows(()), position(mine), b""
    for emitted in answer(box, seed, 4):
        complete(at, pair, box.words[1:])
        for word in box.words[1:]:
            slow = log_offset(begins_with(tree, whole, (), said + word), begins_with(tree, whole, (), said))
            assert at.told(word).least == pytest.approx(at.reach(word).numpy(), rel=1e-12)
            assert float(log_offset(at.reach(word), at.reach())) == pytest.approx(float(slow), abs=1e-9)
        slow = log_offset(ends_after(tree, whole, (), said), begins_with(tree, whole, (), said))
        assert float(log_offset(at.ending(), at.reach())) == pytest.approx(float(slow), abs=1e-9)
        at.go_on(emitted)
        said += emitted


@few
@given(bpes, bpes, seeds)
def test_offsets_of_an_answer_add_up_to_that_of_its_text(mine, box, seed):
    pair, at, total, words = RandomPair(mine, seed), position(mine), 0.0, answer(box, seed)
    for word in words:
        complete(at, pair, [word])
        total += float(log_offset(at.reach(word), at.reach()))
        at.go_on(word)
    if not at.breaks:
        whole = begins_with(mine.tree(), pair.rows(()), (), b"".join(words)).log()
        assert total == pytest.approx(float(whole[1] - whole[0]), abs=1e-9)


@few
@given(bpes, bpes, seeds)
def test_what_is_settled_and_what_is_not_are_the_emitted_bytes(mine, box, seed):
    at, said = position(mine), b""
    for word in answer(box, seed):
        at.go_on(word)
        said += word
        assert mine.spell(at.settled) + at.unsettled == said
        assert len(at.unsettled) <= 2 * at.tree.vocabulary.longest


@few
@given(bpes, bpes, seeds, st.sampled_from([0.5, 0.01]))
def test_rows_that_are_left_out_move_an_offset_by_no_more_than_they_may(mine, box, seed, slack):
    pair, exact, near = RandomPair(mine, seed), position(mine), position(mine)
    for at in (exact, near):
        at.go_on(answer(box, seed, 1)[0])
    complete(exact, pair, box.words[1:])
    complete(near, pair, box.words[1:], slack)
    assert near.rows.keys() <= exact.rows.keys()
    for word in box.words[1:]:
        left_out = {node.path for node in near.tree.nodes((), near.unsettled + word)}.difference(near.rows)
        apart = (exact.reach(word).log() - near.reach(word).log()).abs().max()
        assert float(apart) <= slack * len(left_out) + 1e-9


def test_rows_of_an_accepted_path_are_not_computed_again():
    mine = TinyBPE(b"abc", ((b"a", b"b"), (b"ab", b"c")))
    pair, at = RandomPair(mine, 1), position(mine)
    assert complete(at, pair, [b"abba"]) == 3  # the root, behind "ab", and behind "abb"
    at.go_on(b"abb")
    assert mine.spell(at.settled) == b"ab"
    assert at.missing() == []  # the row behind "ab" is the root now, that behind "b" was computed as the candidate's
    assert complete(at, pair, [b"c"]) == 0


def test_an_end_is_an_event_of_paths_that_spell_what_is_not_settled():
    mine = TinyBPE(b"ab", ((b"a", b"b"),))
    pair, at = RandomPair(mine, 1), position(mine)
    at.go_on(b"a")
    complete(at, pair)
    behind_a = pair.rows(())[(1,)]
    assert at.ending().tolist() == (pair.rows(())[()].probabilities[:, 0] * behind_a.ends).tolist()


def test_text_that_the_tokenizer_would_not_write_goes_on_behind_how_it_writes_it():
    mine = TinyBPE(b"ab", ((b"a", b"b"),))
    pair = RandomPair(mine, 1)
    at = Position(mine.tree(), mine.encode, settled=[1])  # "a": a "b" would have been joined to it
    complete(at, pair, [b"bb"])
    assert torch.allclose(at.reach(b"bb"), pair.mass((1,), (2, 2)))  # so that its offset is the pair's, and not none
    at.go_on(b"b")
    assert (at.settled, at.unsettled, at.breaks) == ([1, 2], b"", 1)


def test_bytes_that_no_token_spells_end_the_offset():
    mine = TinyBPE(b"ab", ())
    at = Position(mine.tree(), lambda text: None, settled=[1])
    with pytest.raises(OffsetUnavailable, match="cannot write"):
        at.go_on(b"z")


def test_bytes_that_are_no_text_end_the_answer_before_their_ways_are_too_many():
    vocabulary = ByteVocabulary([*(bytes([i]) for i in range(256)), b"\x80\x80"])

    def encode(text: bytes) -> list[int] | None:
        return list(text) if text.isascii() else None

    at = Position(ByteTree(vocabulary, WrittenNeighbours(vocabulary.spelling, encode)), encode, [])
    with pytest.raises(NoOffset, match="no text"):
        for _ in range(30):
            at.go_on(b"\x80")
    assert len(at.unsettled) < 15


@few
@given(bpes, seeds, prefixes)
def test_behind_a_closed_gate_every_candidate_counts_as_the_initial_member_says(bpe, seed, said):
    """What was not said has rows of its own, whose members differ however little the pair has to say here."""
    pair = RandomPair(bpe, seed)
    where = position(bpe)
    where.go_on(said)
    complete(where, pair, bpe.words[1:])
    real = {path: row.probabilities.clone() for path, row in where.rows.items()}
    for node in where.ways():
        where.rows[node.path] = where.rows[node.path].without(torch.tensor([True]))
    where._changed()
    for word in bpe.words[1:]:
        initial, unlearned = where.told(word).least
        assert initial == unlearned
    ways = {node.path for node in where.ways()}
    assert all(torch.equal(where.rows[path].probabilities, row) for path, row in real.items() if path not in ways)
