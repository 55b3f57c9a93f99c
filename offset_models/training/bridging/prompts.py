"""The prompts of chats for a pair that has a template of its own."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer
from deltaserve.offset_models.training.rows.dataset import Data
from deltaserve.offset_models.training.rows.row import BadRow, Row
from deltaserve.offset_models.training.rows.samples import encode, prompt_ids, refused, wordings

PairPrompts = dict[tuple[int, ...], list[int]]


@dataclass(frozen=True, slots=True)
class OtherTokenizer:
    """The black box's, where it is not the pair's."""

    folder: Path
    prompts: PairPrompts  # those of chats in the pair's own tokens
    tables: Path  # folder of what is built once for both tokenizers


def pair_prompts(data: Iterable[Data], box: Tokenizer, pair: Tokenizer) -> PairPrompts:
    """From the black box's ids of each chat's prompt to the pair's, of every wording.

    A chat that one of the templates refuses has none; whoever needs it says so.
    """
    prompts: PairPrompts = {}
    for each in data:
        forget = list(wordings(each.forget))
        for row in (*forget, *refused(forget, each.refusals or [""]), *wordings(each.retain)):
            if row.messages:
                _add(prompts, row, box, pair)
    return prompts


def _add(prompts: PairPrompts, row: Row, box: Tokenizer, pair: Tokenizer) -> None:
    """As it is asked, and as the answer's ids stand behind it: a template may write something between the two."""
    try:
        asked = [tuple(prompt_ids(row, box)), *([encode(row, box).prompt_ids] if row.completion else [])]
        prompts |= dict.fromkeys(asked, prompt_ids(row, pair))
    except BadRow:
        return
