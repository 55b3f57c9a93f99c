"""Lists of texts against the truth, for vocabularies that were made to confuse: nothing false, and bounds that hold."""

import math
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from deltaserve.errors import MalformedTopK
from deltaserve.server.decoding.protocols import Proposal
from deltaserve.server.upstream.text.lists import Entry, Reading, Told
from deltaserve.server.upstream.text.names import names_of
from deltaserve.server.upstream.topk import TopKRules
from tests.support.amounts import examples
from tests.support.table_tokenizer import TableTokenizer

# Two tokens of the same bytes, one that another goes on from, parts of characters, U+FFFD itself, spelled bytes.
PIECES = [
    b"a",
    b"a",
    b"b",
    b" ",
    b" \xf0\x9f",
    b"\xf0",
    b"\x9f",
    "é".encode(),
    "\ufffd".encode(),
    b"bytes:",
    b"<end>",
    b"c",
]


@dataclass(frozen=True)
class World:
    """A model's distribution over such a vocabulary, and how a server shows its tokens."""

    pieces: list[bytes]
    logprobs: NDArray[np.float64]
    k: int
    shown: str  # "replace", "cut" (llama.cpp), "nothing" (vLLM), "bytes" (OpenAI)
    is_map: bool
    drawn: int

    @property
    def tokenizer(self) -> TableTokenizer:
        return TableTokenizer(len(self.pieces), dict(enumerate(self.pieces)))

    def text(self, token_id: int) -> str:
        raw = self.pieces[token_id]
        try:
            return raw.decode()
        except UnicodeDecodeError:
            spelled = "bytes:" + "".join(f"\\x{byte:02x}" for byte in raw)
            return {"replace": raw.decode(errors="replace"), "cut": raw.decode(errors="ignore"), "nothing": ""}.get(
                self.shown, spelled
            )

    def told(self) -> Told:
        best = np.argsort(-self.logprobs, kind="stable")[: self.k]
        ids = [int(i) for i in best]
        if self.is_map and self.drawn not in ids:
            ids.append(self.drawn)
        entries = [Entry(self.text(i), float(self.logprobs[i])) for i in ids]
        if self.is_map:
            entries = [Entry(text, value) for text, value in {each.text: each.logprob for each in entries}.items()]
        return Told(Entry(self.text(self.drawn), float(self.logprobs[self.drawn])), entries, is_map=self.is_map)

    def read(self, **how: bool) -> Proposal:
        size = len(self.pieces)
        reading = Reading(names_of(self.tokenizer), TopKRules(self.k, size, size), cuts=self.shown == "cut", **how)
        return reading.proposal(self.told())


def world_of(seed: int) -> World:
    """All of it follows from the seed, so that every case comes up as often."""
    rng = np.random.default_rng(seed)
    pieces = [PIECES[i] for i in rng.permutation(len(PIECES))] + [PIECES[i] for i in rng.integers(0, len(PIECES), 2)]
    logits = rng.normal(0.0, 2.0, len(pieces))
    k, shown = int(rng.integers(1, len(pieces) + 1)), str(rng.choice(["replace", "cut", "nothing", "bytes"]))
    visible = [i for i, raw in enumerate(pieces) if shown != "cut" or _is_text(raw)]  # llama.cpp waits for the rest
    drawn = int(rng.choice(visible))
    return World(pieces, logits - np.log(np.exp(logits).sum()), k, shown, bool(rng.integers(2)), drawn)


seeds = st.integers(0, 2**32).map(world_of)


def _is_text(raw: bytes) -> bool:
    return raw.decode(errors="ignore").encode() == raw


@given(seeds, st.booleans())
@settings(max_examples=examples(250), deadline=None)
def test_what_is_named_is_true_and_what_is_not_named_keeps_below_its_bound(world: World, by_draw: bool) -> None:
    try:
        proposal = world.read(by_draw=by_draw)
    except MalformedTopK:
        # A list that lost an entry contradicts itself where nothing in it may be several tokens.
        assert world.is_map
        return
    listed = proposal.top_ids.tolist()
    np.testing.assert_allclose(proposal.top_logprobs, world.logprobs[listed], atol=1e-12)
    cap = proposal.log_cap if proposal.log_cap is not None else float(proposal.top_logprobs[-1])
    others = [i for i in range(len(world.pieces)) if i not in listed]
    assert all(world.logprobs[i] <= cap + 1e-9 for i in others)
    assert proposal.token_id in (world.drawn, None)


@given(seeds)
@settings(max_examples=examples(100), deadline=None)
def test_by_chance_the_list_is_the_same_whatever_was_drawn(world: World) -> None:
    """Else the corrected distribution would depend on the black box's draw."""
    if world.is_map:
        return
    best = int(np.argmax(world.logprobs))
    other = World(world.pieces, world.logprobs, world.k, world.shown, False, best)
    try:
        one, another = world.read(), other.read()
    except MalformedTopK:
        return
    assert one.top_ids.tolist() == another.top_ids.tolist() and one.log_cap == another.log_cap


def plain(k: int = 3, **how: object) -> Reading:
    tokenizer = TableTokenizer(len(PIECES), dict(enumerate(PIECES)))
    return Reading(names_of(tokenizer), TopKRules(k, len(PIECES), len(PIECES)), **how)  # type: ignore[arg-type]


def entries(**told: float) -> list[Entry]:
    return [Entry(text, value) for text, value in told.items()]


def test_a_greedy_draw_tells_which_of_two_tokens_a_cut_text_is() -> None:
    told = Told(Entry(" ", -0.2), [Entry(" ", -0.2), *entries(b=-2.2, c=-3.0)])
    assert plain(cuts=True).proposal(told).top_ids.tolist() == [2, 11]
    proposal = plain(cuts=True, by_draw=True).proposal(told)
    assert (proposal.token_id, proposal.top_ids.tolist(), proposal.log_cap) == (3, [3, 2, 11], None)


def test_the_best_entry_without_text_is_the_end_only_where_that_is_known() -> None:
    told = Told(Entry("c", -3.0), [Entry("", -0.2), *entries(b=-2.9, c=-3.0)])
    assert plain().proposal(told).log_cap == -0.2
    assert plain(end=10).proposal(told).top_ids.tolist() == [10, 2, 11]
    lower = Told(Entry("b", -0.2), [Entry("", -2.9), *entries(b=-0.2, c=-3.0)])
    assert plain(end=10).proposal(lower).top_ids.tolist() == [2, 11]


def test_spare_entries_are_cut_off_and_missing_ones_refused() -> None:
    whole = Told(Entry("b", -0.5), entries(b=-0.5, c=-2.0, é=-2.5))
    assert plain(k=2, spare=1).proposal(whole).top_ids.tolist() == [2, 11]
    with pytest.raises(MalformedTopK, match="listed 2 tokens where 3"):
        plain(k=2, spare=1).proposal(Told(Entry("b", -0.5), entries(b=-0.5, c=-2.0)))


@pytest.mark.parametrize(
    ("listed", "reason"),
    [
        (entries(b=-0.1, c=0.5), "above zero"),
        (entries(b=math.nan, c=-2.0), "NaN"),
        (entries(b=-0.1, c=-0.1), "more than one"),
        ([Entry("b", -0.5), Entry("c", None)], "no number"),
        ([Entry("b", -0.5), Entry("b", -1.2)], "same token twice"),
        ([Entry("b", -0.5), Entry("x", -1.2, token_id=99)], "does not have"),
        ([], "listed 0 tokens"),
    ],
    ids=["positive", "nan", "mass", "none", "twice", "unknown id", "empty"],
)
def test_what_is_no_list_is_refused(listed: list[Entry], reason: str) -> None:
    with pytest.raises(MalformedTopK, match=reason):
        plain(k=2).proposal(Told(Entry("b", -0.5), listed))


def test_a_drawn_token_of_which_two_numbers_are_told_is_refused() -> None:
    with pytest.raises(MalformedTopK, match="two log-probabilities"):
        plain(k=2).proposal(Told(Entry("b", -1.5), entries(b=-0.5, c=-2.0)))
    with pytest.raises(MalformedTopK, match="out of the best"):
        plain(k=2).proposal(Told(Entry("é", -0.5), entries(b=-1.0, c=-2.0)))
