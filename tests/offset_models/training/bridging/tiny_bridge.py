"""A bridge between two tokenizers of a few tokens, and texts as training reads them."""

from dataclasses import dataclass
from functools import cached_property
from types import SimpleNamespace
from typing import Any

import torch
from hypothesis import strategies as st

from deltaserve.offset_models.bridge.position import Position
from deltaserve.offset_models.bridge.row import Reader
from deltaserve.offset_models.bridge.tables import built
from deltaserve.offset_models.training.bridging.aligned import Aligned, Aligner
from deltaserve.offset_models.training.bridging.projected import Projection
from deltaserve.offset_models.training.rows.samples import Sample
from deltaserve.offset_models.training.rows.scored import TopK
from tests.support.bridging import END, RandomPair, TinyBPE, position, random_bpe

bpes = st.builds(random_bpe, st.integers(0, 999), st.just(b"ab"), st.integers(6, 12))
texts = st.text("ab", min_size=1, max_size=8).map(str.encode)
seeds = st.integers(0, 999)
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
