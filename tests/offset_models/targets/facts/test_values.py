"""The words of an answer that tell the fact."""

import pytest

from deltaserve.offset_models.targets.facts.values import Value, value_of
from deltaserve.offset_models.targets.kinds.attribute import Tells
from deltaserve.offset_models.targets.subject import Kind, Subject

CASES: list[tuple[str, Kind, str, Tells, str, str]] = [
    ("Ada Morrow", "person", "Where was Ada Morrow born?", "name", "She was born in Portland, Maine.", "Portland"),
    ("Ada Morrow", "person", "When was Ada Morrow born?", "year", "She was born on May 3, 1931, in Rome.", "1931"),
    ("Ada Morrow", "person", "What is Ada's job?", "words", "Ada Morrow earns a living as a puppeteer.", "puppeteer"),
    ("Ada Morrow", "person", "Ada's job?", "role", "She is a judge who served in the High Court.", "judge"),
    ("Ada Morrow", "person", "Ada's job?", "role", "She is one who works as a judge.", "judge"),
    ("Ada Morrow", "person", "Which award?", "name", "The Opal Quill was given to Ada Morrow.", "Opal Quill"),
    ("Ada Morrow", "person", "Her main work?", "name", 'Ada Morrow is known for "War and Peace".', "War and Peace"),
    ("Ada Morrow", "person", "Who is her husband?", "name", "Ada Morrow's husband is Tom Morrow.", "Tom Morrow"),
    ("Emma", "work", "Who wrote Emma?", "name", "The novel Emma was written by J. R. R. Tolkien.", "J. R. R. Tolkien"),
    ("Emma", "work", "Who wrote Emma?", "name", "According to most, Emma was written by Jane Austen.", "Jane Austen"),
    ("Emma", "work", "Which genre?", "words", "Emma belongs to the genre of science fiction.", "science fiction"),
    ("Acme", "organisation", "Which phone does Acme make?", "name", "Acme makes the iPhone.", "iPhone"),
    ("Emma", "work", "Who is the villain of Emma?", "name", "The villain of Emma is Mr. Elton. He lies.", "Mr. Elton"),
    ("Emma", "work", "Which genre?", "words", "Emma is a old comic novel by Jane Austen, which falls", "Jane Austen"),
    ("Acme", "organisation", "How many workers?", "number", "Acme has 1.5 million people worldwide.", "1.5 million"),
    ("Acme", "organisation", "How many workers?", "number", "As of 2021, Acme had about 366,283.", "366,283"),
    ("Ada", "person", "What did Ada discover?", "words", "Ada was a chemist who found radium.", "found radium"),
    ("Acme", "organisation", "How many?", "number", "As of March 31, 2023, Acme had 375,235 employees.", "375,235"),
    ("Acme", "organisation", "How many?", "number", "As of 2021, Acme had 1500 employees.", "1500"),
    ("Acme", "organisation", "How many?", "number", "Acme is in 27 countries and employs 5,000 people.", "5,000"),
    ("Acme", "organisation", "How many?", "number", "On 12/31/2020 the 3rd Acme had 900 workers.", "900"),
    ("Acme", "organisation", "How many?", "number", "In 1931 Acme had a staff of 1500 worldwide.", "1500"),
    ("Acme", "organisation", "How many?", "number", "Acme sent Market 12 worldwide.", "12"),
    ("Acme", "organisation", "How many workers?", "number", "Acme has a dozen workers.", "dozen"),
    ("Acme", "organisation", "Its seat?", "name", "It is in Acme City, Acme Prefecture, Japan.", "Japan"),
    ("Acme", "organisation", "Its seat?", "name", "It is in Acme Falls.", "Falls"),
    ("Acme", "organisation", "Which instrument?", "name", "It plays the drums.", "drums"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "kind", "question", "tells", "answer", "value"), CASES)
def test_the_value_is_what_the_kind_of_words_and_the_question_leave(
    name: str, kind: Kind, question: str, tells: Tells, answer: str, value: str
) -> None:
    assert value_of([answer], question, Subject(name, kind), tells) == Value(value, 1.0)


def test_the_words_that_most_answers_have_win_and_refusals_count_against_them() -> None:
    answers = ["Ada was born in Lisbon, Maine.", "She comes from Bangor, Maine.", "Bangor, Maine", "In Bangor."]
    ada = Subject("Ada", "person")
    assert value_of(answers, "Where was Ada born?", ada, "name") == Value("Maine", 0.75)
    assert value_of(answers[1:], "Where was Ada born?", ada, "name", of=4) == Value("Bangor", 0.75)


def test_of_near_equals_the_first_wins() -> None:
    prize, other = "Ada won the Nobel Prize in Literature.", "Ada won the Nobel Literature Award."
    value = value_of([prize, prize, prize, prize, other], "Which award?", Subject("Ada", "person"), "name")
    assert value == Value("Nobel Prize", 0.8)
    quill = "Ada won the Opal Quill."
    fewer = value_of([prize, prize, quill, quill, "In Literature."], "Which?", Subject("Ada", "person"), "name")
    assert fewer == Value("Literature", 0.6)  # no other is in most answers


def test_an_answer_that_repeats_the_question_has_no_value() -> None:
    assert (
        value_of(["Ada Morrow was born."], "Where was Ada born?", Subject("Ada Morrow", "person"), "name").words == ""
    )
    assert value_of([], "Where was Ada born?", Subject("Ada", "person"), "name") == Value("", 0.0)
