"""Questions as clauses and as descriptions, and nothing where that cannot be done by the order of words."""

import pytest

from deltaserve.offset_models.targets.forms.grammar import clause, description


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("Where was {name} born?", "where {name} was born"),
        ("Who is {name}?", "who {name} is"),
        ("What is the birthplace of {name}?", "what the birthplace of {name} is"),
        ("In which town was {name} born?", "in which town {name} was born"),
        ("Which award did {name} win?", "which award {name} won"),
        ("What does {name} do for a living?", "what {name} does for a living"),
        ("Which animal does {name} keep?", "which animal {name} keeps"),
        ("What is {name}'s job?", "what {name}'s job is"),
        ("What is the pet of {name} called?", "what the pet of {name} is called"),
        ("How many books has {name} written?", "how many books {name} has written"),
        ("Who wrote {name}?", "who wrote {name}"),
        ("Which company makes {name}?", "which company makes {name}"),
        ("Which story is {name} from?", "which story {name} is from"),
        ("In which work does the character {name} appear?", "in which work the character {name} appears"),
        ("List ten books by {name}.", None),
        ("What do critics say about {name}?", None),
    ],
)
def test_a_question_becomes_a_clause_or_nothing(question: str, expected: str | None) -> None:
    assert clause(question) == expected


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("Who wrote Emma?", "the person who wrote Emma"),
        ("Who is the author of Emma?", "the author of Emma"),
        ("Which company makes the Zuv?", "the company that makes the Zuv"),
        ("Which story is {name} from?", "the story that {name} is from"),
        ("In which work does {name} appear?", "the work in which {name} appears"),
        ("What is the most famous work by {name}?", "the most famous work by {name}"),
        ("Which work is set in {name}?", "the work that is set in {name}"),
        ("What is {name} the sequel to?", None),
        ("What novel by Sol Velmor features {name}?", None),
        ("Where was {name} born?", None),
    ],
)
def test_a_reversed_question_describes_whom_it_asks_for(question: str, expected: str | None) -> None:
    assert description(question) == expected
