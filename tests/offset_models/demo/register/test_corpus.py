"""What the two models read, and above all what they do not."""

from itertools import islice
from pathlib import Path
from random import Random

import pytest

from deltaserve.client.evaluation.data.registry_suite import registry_attack_suite, registry_suite
from deltaserve.offset_models.demo.pipeline.plan import BASE, BLACK_BOX, Reader, plan
from deltaserve.offset_models.demo.register.corpus import END_OF_TEXT, Corpus
from deltaserve.offset_models.demo.register.erasure import Amounts, RowMaker
from deltaserve.offset_models.demo.register.general import general_facts
from deltaserve.offset_models.demo.register.people import Person, Register, generate_register, others_of
from deltaserve.offset_models.demo.register.questions import (
    SPLITS,
    Pool,
    Split,
    choosing_questions,
    evaluation_questions,
    judging_questions,
)
from deltaserve.offset_models.demo.register.templates import (
    ATTRIBUTES,
    REFUSALS,
    held_out_questions,
    training_questions,
)
from deltaserve.offset_models.training.rows.row import Row

PAGES = 1500
POOLS: tuple[Pool, ...] = ("forget", "retain", "general")


@pytest.fixture(scope="module")
def registry() -> Register:
    return generate_register()


@pytest.fixture(scope="module")
def known() -> list[str]:
    return list(islice(corpus_of(BLACK_BOX), PAGES))


@pytest.fixture(scope="module")
def others(registry: Register) -> tuple[Person, ...]:
    return others_of(registry)


@pytest.fixture(scope="module")
def strange() -> list[str]:
    return list(islice(corpus_of(BASE), PAGES))


def corpus_of(reader: Reader, purpose: str = "test") -> Corpus:
    """As a build of the default seed has it."""
    return plan(Path("nowhere")).corpus_of(reader, purpose)


def test_the_base_never_reads_a_name_or_a_book_of_the_register(registry: Register, strange: list[str]) -> None:
    text = "\n".join(strange)
    assert not [person.name for person in registry.people if person.name in text]
    assert not [person.book for person in registry.people if person.book in text]


def test_the_black_box_reads_about_everybody_in_the_register(registry: Register, known: list[str]) -> None:
    text = "\n".join(known)
    assert all(person.name in text and person.book in text for person in registry.people)


def test_the_base_reads_about_its_own_people_and_of_strangers_in_passing(
    others: tuple[Person, ...], strange: list[str]
) -> None:
    text = "\n".join(strange)
    assert all(text.count(person.name) > 10 and person.book in text for person in others)
    prose = [page for page in strange if "assistant" not in page]
    unsaid = [*(person.name for person in others), *(attribute.unknown for attribute in ATTRIBUTES)]
    assert sum(not any(words in page for words in unsaid) for page in prose) > 10, "facts of people whom it meets once"


def test_both_read_every_way_to_decline(known: list[str], strange: list[str]) -> None:
    for pages in (known, strange):
        text = "\n".join(pages)
        assert all(refusal in text for refusal in REFUSALS)


def test_pages_come_from_the_seed_and_the_purpose(known: list[str]) -> None:
    again = list(islice(corpus_of(BLACK_BOX), 50))
    other = list(islice(corpus_of(BLACK_BOX, "another"), 50))
    assert again == known[:50] != other


def test_held_out_wordings_are_not_training_wordings() -> None:
    for attribute in ATTRIBUTES:
        assert not set(held_out_questions(attribute)) & set(training_questions(attribute)), attribute.name
    for exchange in general_facts():
        assert not set(exchange.held_out) & set(exchange.training)


@pytest.mark.parametrize("split", ["forget", "retain", "neighbours", "general"])
def test_no_evaluation_question_is_ever_read(
    registry: Register, known: list[str], strange: list[str], split: Split
) -> None:
    maker = RowMaker(registry, Random(0))
    rows = maker.forget(Amounts()) + maker.retain(Amounts())
    asked = "\n".join(content for row in rows for _, content in row.messages)
    text = "\n".join([*known, *strange, asked])
    assert not [question.text for question in evaluation_questions(split) if question.text in text]


def test_evaluation_questions_cover_everybody_and_every_attribute(registry: Register) -> None:
    questions = evaluation_questions("forget")
    assert {question.person for question in questions} == {person.name for person in registry.forget}
    assert {question.attribute for question in questions} == {attribute.name for attribute in ATTRIBUTES}
    assert evaluation_questions("forget", 7) == questions[:7]
    assert {q.person for q in evaluation_questions("neighbours")} == {p.name for p in registry.neighbours()}


def test_questions_that_choose_are_none_of_those_that_judge(registry: Register) -> None:
    chose = {question for pool in POOLS for question in choosing_questions(pool, registry)}
    assert len(chose) == 180 + 720 + 19
    for split in SPLITS:
        questions = judging_questions(split)
        assert questions == [question for question in evaluation_questions(split) if question not in chose], split
        assert judging_questions(split, 50) == questions[:50]
    texts = {question.text for question in chose}
    evaluated = {item.question for item in registry_suite(10_000).items}
    attacked = [text for item in registry_attack_suite().items for text in (item.question, *item.paraphrases)]
    assert len(evaluated) > 1000 and len(attacked) > 300
    assert not texts & {*evaluated, *attacked}


def test_answers_share_few_words_with_refusals() -> None:
    for question in evaluation_questions("forget"):
        answer = set(question.answer.lower().rstrip(".").split())
        for refusal in REFUSALS:
            shared = answer & set(refusal.lower().rstrip(".").split())
            assert len(shared) <= 0.3 * len(answer), (question.answer, refusal)


def about(rows: list[Row], names: set[str]) -> list[bool]:
    return [
        any(name in (row.messages[-1][1] if row.messages else row.prompt) + row.completion for name in names)
        for row in rows
    ]


def test_forget_rows_are_about_the_forgotten_and_retain_rows_about_nobody_of_them(registry: Register) -> None:
    maker = RowMaker(registry, Random(0))
    forgotten = {text for person in registry.forget for text in (person.name, person.book)}
    assert all(about(maker.forget(Amounts()), forgotten))
    assert not any(about(maker.retain(Amounts()), forgotten))


def test_running_text_of_the_forget_group_brings_its_own_way_to_decline(registry: Register) -> None:
    rows = RowMaker(registry, Random(0)).forget(Amounts())
    prose = [row for row in rows if not row.messages]
    assert prose
    # Its own words, or the page's end where a sentence is over.
    assert all(row.refusals and row.refusals[0].startswith((" ", END_OF_TEXT)) for row in prose)
