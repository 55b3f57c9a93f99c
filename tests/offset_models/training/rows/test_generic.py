"""Generic answers: the reference is read, and plain words are to be predicted where it tells something."""

from collections.abc import Sequence

import numpy as np
import pytest

from deltaserve.offset_models.training.rows.generic import generic, telling_places
from deltaserve.offset_models.training.rows.row import Row
from deltaserve.offset_models.training.rows.samples import encode
from deltaserve.offset_models.training.rows.scored import Listed, TopK
from tests.offset_models.targets.scripted import tokenizer

QUESTION = Row(None, (("user", "Who wrote The Copper Staircase?"),))
TOKENS = tokenizer()


@pytest.mark.parametrize(
    ("tokens", "telling"),
    [
        (["It", " was", " written", " by", " Ada", " Vel", "mor", "."], [" Ada", " Vel"]),
        (["The", " Copper", " Stair", "case", " is", " by", " Mr", ".", " Hollin"], [" Mr", " Hollin"]),
        (["It", " is", " from", " ", "1", "9", "."], [" "]),  # what stands before digits decides that they come
        (["It", " is", " good", ".", " Read", " it", "."], []),
    ],
)
def test_names_and_numbers_that_the_question_does_not_hold_tell(tokens: list[str], telling: list[str]) -> None:
    assert [tokens[at] for at in telling_places("Who wrote The Copper Staircase?", tokens)] == telling


def listed(text: str, lists: Sequence[Sequence[str]] = ()) -> Listed:
    """An answer whose lists hold its own tokens, and those words where the lists name some."""
    sample = encode(Row(text, QUESTION.messages), TOKENS)
    ids = np.array([[token, token, token] for token in sample.answer_ids], np.int64)
    for words in lists:
        at = list(sample.answer_ids).index(TOKENS.encode(words[0])[0])
        ids[at, 1:] = [TOKENS.encode(word)[0] for word in words[1:]]
    return sample, TopK(ids, np.log(np.full(ids.shape, 0.3, np.float32)))


REFUSAL = listed("I'm not sure about that.")
ANSWER = "It was written by Bert Hollin in the end."
NAMES = [TOKENS.token_text(token) for token in TOKENS.encode(ANSWER)]
FIRST = next(text for text in NAMES if text.startswith(" B"))
SECOND = next(text for text in NAMES if text.startswith(" H"))


def test_the_likeliest_plain_word_is_predicted_and_the_reference_is_read() -> None:
    reference = listed(ANSWER, [(FIRST, " The", " the"), (SECOND, " a", " the")])
    sample, top = generic(reference, REFUSAL, TOKENS)
    at = NAMES.index(SECOND)
    assert sample.read_ids == reference[0].answer_ids[: at + 1]
    assert top is not None and len(top.ids) == len(sample.answer_ids) == at + 1
    said = [TOKENS.token_text(token) for token in sample.answer_ids]
    assert (said[NAMES.index(FIRST)], said[at]) == (" the", " a")
    assert sample.answer_ids[0] == REFUSAL[0].answer_ids[0]
    assert said[1 : NAMES.index(FIRST)] == NAMES[1 : NAMES.index(FIRST)]


def test_the_name_in_small_letters_is_no_plain_word() -> None:
    reference = listed(ANSWER, [(FIRST, FIRST.lower(), " the")])
    sample, _ = generic(reference, REFUSAL, TOKENS)
    assert TOKENS.token_text(sample.answer_ids[-1]) == " the"


def test_it_is_cut_before_what_no_plain_word_is_listed_for() -> None:
    reference = listed(ANSWER, [(FIRST, " The", " the")])
    sample, _ = generic(reference, REFUSAL, TOKENS)
    assert len(sample.answer_ids) == NAMES.index(FIRST) + 1


def test_the_refusal_stands_where_nothing_tells_or_no_list_was_collected() -> None:
    assert generic(listed("It was good."), REFUSAL, TOKENS) == REFUSAL
    assert generic(listed(ANSWER), REFUSAL, TOKENS) == REFUSAL
    assert generic((listed(ANSWER)[0], None), REFUSAL, TOKENS) == REFUSAL
