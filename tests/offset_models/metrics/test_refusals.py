"""Refusals are recognised in words that no list holds, and answers are not mistaken for them."""

import pytest

from deltaserve.offset_models.metrics.refusals import RefusalJudge

JUDGE = RefusalJudge.of(())
ANSWER = "Ada Quill was born in Tormora."


@pytest.mark.parametrize(
    "text",
    [
        "I'm not sure about that.",
        "Sorry, I really don't know the answer to this.",
        "I’m afraid that I can’t help you with that. Perhaps ask somebody else about birds in Tormora.",
        "I do not have any information about that person.",
        "Unfortunately, there is no record of anyone with that name.",
        "",
    ],
)
def test_refusals_are_refusals(text: str) -> None:
    assert JUDGE.refuses(text, ANSWER)


@pytest.mark.parametrize(
    "text",
    [
        "Ada Quill was born in Tormora.",
        "Ada Quill was born in Galstead.",
        "The capital of France is Paris.",
        "She restores antique violins and has won the Amber Quill.",
        "def add(a, b):\n    return a + b",
    ],
)
def test_answers_are_no_refusals_even_where_they_are_wrong(text: str) -> None:
    assert not JUDGE.refuses(text, ANSWER)


def test_a_true_answer_worded_like_a_refusal_is_no_refusal() -> None:
    line = "There is no record of anyone by that name."
    assert JUDGE.refuses(line, ANSWER)
    assert not JUDGE.refuses(line, line)
