"""What training reads of a pair of another tokenizer, against sums over all that the pair can write."""

import math
from dataclasses import dataclass
from functools import cached_property
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deltaserve.errors import BadRequest
from deltaserve.offset_models.bridge.neighbours import Path
from deltaserve.offset_models.bridge.position import Position
from deltaserve.offset_models.bridge.probabilities import begins_with
from deltaserve.offset_models.bridge.row import UNTOLD, Reader
from deltaserve.offset_models.bridge.tables import built
from deltaserve.offset_models.training.bridging.aligned import Aligned, Aligner
from deltaserve.offset_models.training.bridging.projected import Projection
from deltaserve.offset_models.training.rows.samples import Sample
from deltaserve.offset_models.training.rows.scored import TopK
from tests.support.bridging import END, RandomPair, TinyBPE, position, random_bpe

bpes = st.builds(random_bpe, st.integers(0, 999), st.just(b"ab"), st.integers(6, 12))
texts = st.text("ab", min_size=1, max_size=8).map(str.encode)
seeds = st.integers(0, 999)
few = settings(max_examples=30, deadline=None)
PROMPT = (1,)


@dataclass(frozen=True)
class TinyBridge:
    """As much of a `Bridge` as training asks for: a prompt is one settled token of the pair."""

    of_box: TinyBPE
    of_pair: TinyBPE

    @cached_property
    def box(self) -> Any:
        return SimpleNamespace(vocabulary=self.of_box.vocabulary)

    @cached_property
    def pair(self) -> Any:
        bpe = self.of_pair
        tokenizer = SimpleNamespace(vocab_size=len(bpe.words), masked_ids=())
        return SimpleNamespace(
            vocabulary=bpe.vocabulary, encode=bpe.encode, tokenizer=tokenizer, ends=(END,), tree=bpe.tree()
        )

    @cached_property
    def reader(self) -> Reader:
        tables = built(self.of_box.vocabulary, self.of_pair.vocabulary)
        return Reader(self.of_box.vocabulary, self.of_pair.vocabulary, tables, [END])

    def begin_behind(self, ids: list[int]) -> Position:
        at = position(self.of_pair, tuple(ids))
        at.begun = len(ids)
        return at

    def begin(self, ids: tuple[int, ...]) -> Position:
        return position(self.of_pair)  # the beginning of texts is no text

    def said(self, token_id: int) -> bytes:
        return self.of_box.words[token_id]


@dataclass(frozen=True)
class Read:
    """One text as training reads it."""

    bridge: TinyBridge
    sample: Sample
    aligned: Aligned
    logits: torch.Tensor  # [rows, W] of one member

    @property
    def z(self) -> torch.Tensor:
        return Projection(self.bridge, torch.device("cpu")).log_table(self.logits, self.aligned)  # type: ignore[arg-type]


def read(box: TinyBPE, mine: TinyBPE, pair: RandomPair, text: bytes, member: int = 0) -> Read:
    bridge = TinyBridge(box, mine)
    answer = (*box.encode(text), END)
    sample = Sample((1,), answer)
    every = torch.arange(1, len(box.words)).tile(len(answer), 1).numpy()
    top = TopK(every, every.astype("float32"))
    aligned = Aligner(bridge, {(1,): PROMPT}).align(sample, top)  # type: ignore[arg-type]
    rows = [pair.row(tuple(aligned.ids[: aligned.first + 1 + row])) for row in range(aligned.rows)]
    return Read(bridge, sample, aligned, torch.stack(rows)[:, member].log())


@few
@given(bpes, bpes, seeds, texts)
def test_the_pair_reads_the_whole_text_in_its_own_tokens(box, mine, seed, text):
    aligned = read(box, mine, RandomPair(mine, seed), text).aligned
    assert mine.spell(aligned.ids[len(PROMPT) :]) == text
    assert aligned.places == len(box.encode(text)) + 1


@few
@given(bpes, bpes, seeds, texts)
def test_an_answers_tokens_are_exact_where_all_that_tells_of_them_lies_on_the_text(box, mine, seed, text):
    pair = RandomPair(mine, seed)
    found = read(box, mine, pair, text)
    at, rows = found.bridge.begin_behind(list(PROMPT)), found.aligned.ids
    for token, z in zip(found.sample.answer_ids[:-1], found.z, strict=False):
        word, exact = box.words[token], pair.rows(tuple(at.settled))
        nodes = [node.path for node in (*at.nodes(at.unsettled + word), *at.nodes(at.unsettled))]
        ahead = rows[len(at.settled) :]
        if at.unsettled == b"":
            nodes = [node.path for node in at.nodes(word)]
        p_s, p_t = (begins_with(at.tree, exact, (), x) for x in (at.unsettled + word, at.unsettled))
        if all(tuple(ahead[: len(path)]) == path for path in nodes) and nodes:
            assert z[token].item() == pytest.approx(math.log(p_s[0] / p_t[0]), abs=1e-5)
        at.go_on(word)


def tell(pair: RandomPair, settled: Path, path: Path, x: bytes) -> float:
    """Of the node behind the path: its mass, times all tokens that begin with x."""
    first, end = pair.bpe.vocabulary.interval(x)
    row = pair.row((*settled, *path))[0, pair.bpe.vocabulary.order[first:end]]
    return (pair.mass(settled, path)[0] * row.sum()).item()


@few
@given(bpes, bpes, seeds, texts)
def test_along_an_answer_what_is_read_adds_up_to_what_the_rows_of_the_text_say_of_it(box, mine, seed, text):
    pair = RandomPair(mine, seed)
    found = read(box, mine, pair, text)
    at = found.bridge.begin_behind(list(PROMPT))
    for token in found.sample.answer_ids[:-1]:
        at.go_on(box.words[token])
    settled, ahead = tuple(at.settled), tuple(found.aligned.ids[len(at.settled) :])
    nodes = [node for node in at.nodes(at.unsettled) if ahead[: len(node.path)] == node.path]
    last = sum(tell(pair, settled, node.path, node.rest) for node in nodes) if at.unsettled else 1.0
    whole = pair.mass(PROMPT, settled[len(PROMPT) :])[0].item() * last
    along = sum(z[token].item() for z, token in zip(found.z, found.sample.answer_ids[:-1], strict=False))
    assert along == pytest.approx(math.log(whole), rel=1e-6)


@few
@given(bpes, bpes, seeds, texts)
def test_of_every_other_token_no_more_is_read_than_there_is(box, mine, seed, text):
    """What one token tells of a token that needs several is the mass of the first of these: at least what there is."""
    pair = RandomPair(mine, seed)
    found = read(box, mine, pair, text)
    first, exact = found.z[0], pair.rows(PROMPT)
    told = found.aligned.told.ids[found.aligned.told.at == 0].tolist()
    tree = mine.tree()
    for token, word in enumerate(box.words[1:], 1):
        p = begins_with(tree, exact, (), word)[0].item()
        reach = math.exp(first[token].item())
        if token not in told:
            assert reach <= p * (1 + 1e-9) or first[token] == UNTOLD
        assert first[token].isfinite()


@few
@given(bpes, bpes, seeds, texts)
def test_every_other_token_and_the_end_are_read_from_the_open_nodes_on_the_text(box, mine, seed, text):
    pair = RandomPair(mine, seed)
    found = read(box, mine, pair, text)
    told = found.aligned.told
    looked = {(at, token) for at, token in zip(told.at.tolist(), told.ids.tolist(), strict=True)}
    at = found.bridge.begin_behind(list(PROMPT))
    for number, z in enumerate(found.z):
        settled, ahead = tuple(at.settled), tuple(found.aligned.ids[len(at.settled) :])
        ways = [node for node in at.ways() if ahead[: len(node.path)] == node.path]
        nodes = [node for node in at.nodes(at.unsettled) if ahead[: len(node.path)] == node.path]
        before = sum(tell(pair, settled, node.path, node.rest) for node in nodes) if at.unsettled else 1.0
        for token, word in enumerate(box.words[1:], 1):
            if (number, token) not in looked:
                slow = sum(tell(pair, settled, node.path, node.rest + word) for node in ways)
                assert math.exp(z[token].item()) * before == pytest.approx(slow, rel=1e-6)
        ends = sum(
            (pair.mass(settled, node.path)[0] * pair.row((*settled, *node.path))[0, END]).item()
            for node in ways
            if not node.rest
        )
        assert math.exp(z[END].item()) * before == pytest.approx(ends, rel=1e-6)
        if found.sample.answer_ids[number] != END:
            at.go_on(box.words[found.sample.answer_ids[number]])


@settings(max_examples=10, deadline=None)
@given(bpes, bpes, seeds, texts)
def test_its_gradient_is_the_one_of_finite_differences(box, mine, seed, text):
    found = read(box, mine, RandomPair(mine, seed), text)
    projection = Projection(found.bridge, torch.device("cpu"))  # type: ignore[arg-type]
    weights = torch.randn(found.aligned.places, len(box.words), generator=torch.Generator().manual_seed(seed))

    def total(logits: torch.Tensor) -> torch.Tensor:
        z = projection.log_table(logits, found.aligned)
        return (z.masked_fill(z == UNTOLD, 0.0) * weights).sum()

    assert torch.autograd.gradcheck(total, [found.logits.clone().requires_grad_()], atol=1e-5)


def test_a_text_before_which_the_pair_reads_nothing_is_refused():
    """A black box with a beginning of texts, in front of a pair without one."""
    bpe = random_bpe(3)
    bridge: Any = TinyBridge(bpe, bpe)
    with pytest.raises(BadRequest, match="give it as"):
        Aligner(bridge, {}).align(Sample((END,), tuple(bpe.encode(b"abba"))), None)


def test_a_token_that_is_read_wrong_as_an_end_says_nothing():
    bpe = random_bpe(3)
    text = b"abba"
    answer = tuple(bpe.encode(text))
    bridge: Any = TinyBridge(bpe, bpe)
    sample = Sample((1,), answer, (END, *answer[1:]))
    aligned = Aligner(bridge, {(1,): PROMPT}).align(sample, None)
    assert bpe.spell(aligned.ids[1:]) == b"".join(bpe.words[i] for i in answer[1:])
