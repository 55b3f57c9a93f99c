"""What training reads of a pair of another tokenizer, against sums over all that the pair can write."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings

from deltaserve.errors import BadRequest
from deltaserve.offset_models.bridge.neighbours import Path
from deltaserve.offset_models.bridge.probabilities import begins_with
from deltaserve.offset_models.bridge.row import UNTOLD
from deltaserve.offset_models.training.bridging.aligned import Aligner
from deltaserve.offset_models.training.bridging.projected import Projection
from deltaserve.offset_models.training.rows.samples import Sample
from tests.offset_models.training.bridging.tiny_bridge import PROMPT, TinyBridge, bpes, read, seeds, texts
from tests.support.bridging import END, RandomPair, random_bpe

few = settings(max_examples=30, deadline=None)


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
