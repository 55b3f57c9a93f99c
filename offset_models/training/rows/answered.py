"""Rows that the black box answers: what it declines itself is neither kept nor lost, in whichever words."""

from collections.abc import Sequence

from deltaserve.offset_models.metrics.refusals import LIKE, RefusalJudge
from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer
from deltaserve.offset_models.training.rows.scored import Scored


def answered(rows: Sequence[Scored], tokenizer: Tokenizer) -> list[Scored]:
    """Those whose answer is no refusal; all of them where every answer is one."""
    judge = RefusalJudge.of(())
    texts = (tokenizer.decode(sample.answer_ids, skip_special=True) for sample, _ in rows)
    found = [row for row, text in zip(rows, texts, strict=True) if judge.closeness(text) < LIKE]
    return found or list(rows)
