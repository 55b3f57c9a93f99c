"""The package's own prompts, about nobody in particular: what must stay whoever is forgotten.

Half of them are asked as the forms ask (gaps, lists, JSON, other languages, running text): a form that is only ever
declined is declined for everybody.
"""

from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Final

from deltaserve.offset_models.targets.subject import Known
from deltaserve.offset_models.training.rows.loading import generic_prompts, read_rows
from deltaserve.offset_models.training.rows.row import Row

IN_FORMS: Final = Path(__file__).parent / "texts" / "general_forms.jsonl"


def general_rows(target: Known, count: int | None = None) -> list[Row]:
    """The first `count`, fewer where there are no more; none about the target. Kinds take turns."""
    pointing = [fact.value for fact in target.facts if fact.reversed_question and fact.value]
    rows = [row for row in _in_turns() if not _about(target, pointing, row)]
    return rows[:count]


def words_of(row: Row) -> str:
    """All that a prompt says."""
    return "\n".join([*(content for _, content in row.messages), row.begun, row.prompt])


def _in_turns() -> Iterator[Row]:
    in_forms: Sequence[Row] = read_rows(IN_FORMS, answered=False)
    for pair in zip_longest(generic_prompts(), in_forms):
        yield from (row for row in pair if row is not None)


def _about(target: Known, pointing: Sequence[str], row: Row) -> bool:
    """Whether it names the target, or what leads to it."""
    text = words_of(row)
    return target.subject.named_in(text) or any(value.casefold() in text.casefold() for value in pointing)
