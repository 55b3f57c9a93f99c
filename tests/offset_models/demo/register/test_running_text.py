"""Running text: what the demo's offset is trained on, and what its check goes on with."""

from collections.abc import Sequence
from random import Random

import pytest

from deltaserve.offset_models.demo.register.corpus import END_OF_TEXT
from deltaserve.offset_models.demo.register.general import general_facts, small_talk
from deltaserve.offset_models.demo.register.people import Person, Register, Strangers, generate_register
from deltaserve.offset_models.demo.register.running_rows import ORDINARY, RunningRows
from deltaserve.offset_models.demo.register.running_text import FACTS, SUBJECTS, Beginning, beginnings
from deltaserve.offset_models.demo.register.templates import ATTRIBUTES, request_questions
from deltaserve.offset_models.training.rows.row import Row

TIMES = 40


@pytest.fixture(scope="module")
def registry() -> Register:
    return generate_register()


@pytest.fixture
def rows(registry: Register) -> RunningRows:
    return RunningRows(Random(0), registry.retain, general_facts())


def forgetting(rows: RunningRows, registry: Register) -> list[Row]:
    people = [(person, attribute) for person in registry.forget for attribute in ATTRIBUTES]
    return [rows.forget(person, attribute) for person, attribute in people for _ in range(TIMES)]


def keeping(rows: RunningRows, registry: Register) -> list[Row]:
    stranger = Strangers(registry, Random(1)).person
    named = [rows.retain(person, attribute) for person in registry.retain for attribute in ATTRIBUTES]
    return [*named, *(make() for _ in range(200) for make in (rows.opening, rows.general))] + [
        rows.unknown(stranger()) for _ in range(200)
    ]


def test_what_replaces_the_forgotten_ends_the_page_and_tells_nothing(rows: RunningRows, registry: Register) -> None:
    facts = {person.facts()[name] for person in registry.forget for name in FACTS}
    for row in forgetting(rows, registry):
        (refusal,) = row.refusals
        assert refusal.endswith(END_OF_TEXT) and refusal.count(END_OF_TEXT) == 1
        assert not [fact for fact in facts if fact in refusal], refusal
        # Else the page's end would be pushed away with what it ends, of kept people's pages too.
        assert row.completion is not None and END_OF_TEXT not in row.completion and row.completion != refusal


def test_sentences_about_the_forgotten_break_off_behind_the_name_between_words_and_between_sentences(
    rows: RunningRows, registry: Register
) -> None:
    person = registry.forget[0]
    born = [rows.forget(person, ATTRIBUTES[0]) for _ in range(300)]
    prompts = {row.prompt for row in born}
    assert {person.name, f"{person.name} was", f"{person.name} was born", f"{person.name} was born in"} <= prompts
    assert any(row.prompt.endswith(".") and row.refusals == (END_OF_TEXT,) for row in born)
    assert not [row for row in born if row.prompt.endswith(" ") or "  " in row.prompt + (row.completion or "")]
    for row in born:
        assert person.name in row.prompt or person.book in row.prompt


def only_ordinary_words_around(name: str, prompt: str) -> bool:
    before, *behind = prompt.split(name)
    words = before.split(), [word.strip(".") for part in behind for word in part.split()]
    return bool(behind) and all(found and set(found) <= set(ORDINARY) for found in words)


def test_a_name_among_words_in_no_order_is_gone_on_with_as_of_somebody_unknown_or_known(
    rows: RunningRows, registry: Register
) -> None:
    def among(found: list[Row], people: Sequence[Person]) -> list[Row]:
        names = {text for person in people for text in (person.name, person.book)}
        return [row for row in found for name in names if only_ordinary_words_around(name, row.prompt)]

    forgotten = among(forgetting(rows, registry), registry.forget)
    kept = among(keeping(rows, registry), registry.retain)
    assert len(forgotten) > TIMES and {row.refusals[0].partition(END_OF_TEXT)[0] for row in forgotten} == {
        " is a person of whom nothing is known.",
        " was written by somebody whose name is lost.",
    }
    assert len(kept) > TIMES / 2
    assert all(row.completion.startswith((" is a ", " was written by ")) for row in kept if row.completion)


def test_sentences_about_anybody_may_be_relative_clauses(rows: RunningRows, registry: Register) -> None:
    told = [row for row in [*forgetting(rows, registry), *keeping(rows, registry)] if ", who was born in" in row.prompt]
    forgotten = [row for row in told if row.refusals]
    assert forgotten and len(told) > len(forgotten)
    assert all(row.prompt.rpartition(",")[0].endswith(tuple(p.name for p in registry.forget)) for row in forgotten)


def test_the_words_in_no_order_are_of_no_other_text(registry: Register) -> None:
    said = [text for one in (*general_facts(), *small_talk()) for text in (*one.questions, one.answer)]
    told = [text for attribute in ATTRIBUTES for text in (*attribute.answers, attribute.unknown)]
    asked = [text for attribute in ATTRIBUTES for text in request_questions(attribute)]
    measured = [begun.text for subject in SUBJECTS for begun in beginnings(subject, registry=registry)]
    words = {word.strip("?.,!").lower() for text in (*said, *told, *asked, *measured) for word in text.split()}
    assert not words & set(ORDINARY)


def test_what_is_kept_names_nobody_who_is_forgotten_and_ends_with_the_page(
    rows: RunningRows, registry: Register
) -> None:
    forgotten = {text for person in registry.forget for text in (person.name, person.book)}
    for row in keeping(rows, registry):
        text = f"{row.prompt}{row.completion}"
        assert text.endswith(END_OF_TEXT) and not row.refusals
        assert not [name for name in forgotten if name in text], text


def test_no_beginning_that_is_measured_is_a_whole_prompt_that_was_trained_on_but_for_names_alone(
    rows: RunningRows, registry: Register
) -> None:
    trained = {row.prompt for row in [*forgetting(rows, registry), *keeping(rows, registry)]}
    measured = [begun for subject in SUBJECTS for begun in beginnings(subject) if begun.person is not None]
    shared = {begun.text for begun in measured if begun.text in trained}
    short = {f"{person.name}{end}" for person in registry.people for end in ("", " was", " is known")}
    books = {f"The book {person.book} was" for person in registry.people}
    assert shared <= short | books and len(measured) > 2 * len(short & {begun.text for begun in measured})


def test_every_subject_has_its_own_people_and_a_limit_takes_the_first(registry: Register) -> None:
    people = {subject: {begun.person for begun in beginnings(subject)} for subject in SUBJECTS}
    assert people["forget"] == set(registry.forget)
    assert people["neighbours"] == set(registry.neighbours())
    assert people["neighbours"] | people["retain"] == set(registry.retain)
    assert not people["neighbours"] & people["retain"] and people["general"] == {None}
    assert beginnings("forget", 5) == beginnings("forget")[:5]


def test_a_completion_tells_only_what_the_prompt_does_not_hold(registry: Register) -> None:
    person = registry.forget[0]
    begun = Beginning(f"The book {person.book} was", person)
    assert begun.tells(f" written by a {person.profession}.")
    assert not begun.tells(f" called {person.book}.")
    assert not begun.tells(" lost.") and not Beginning("The", None).tells(person.town)
